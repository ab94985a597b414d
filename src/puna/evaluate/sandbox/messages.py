"""What the two processes of a cage say to each other, in a form that executes nothing when it is read.

A value is a letter and its bytes; a container, a letter, a count and its values. None, bool, int, float, complex, str,
bytes, bytearray, list, tuple, set, frozenset, dict and its keys, range, Counter, OrderedDict, deque, defaultdict,
Fraction, Decimal and some builtin types go as what they are. Of what derives from one of these the plain value goes, so
that no method of it decides anything there; with a tuple's (a namedtuple's) a number, by which its fields are asked for
and it comes back as what it is. Every other object stays where it is, and a number that its process gave it goes.

Containers that can change are numbered in the order in which they end, alike by who writes and by who reads. So one
that comes twice stays one; a reply can name those of its request and tell what they hold by then; and a cycle runs into
the bound of depth, and is refused.
"""

from __future__ import annotations

import os
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

LONGEST = 16 << 20  # bytes of a message
DEEPEST = 100  # containers within each other

# What is derived from another stands before it.
LETTERS: dict[Any, bytes] = {
    type({}.keys()): b"k", OrderedDict: b"O", Counter: b"C", defaultdict: b"D", dict: b"d", list: b"l", set: b"S",
    deque: b"q", bytearray: b"Y", tuple: b"t", frozenset: b"z", range: b"R", str: b"s", bytes: b"b", int: b"i",
    float: b"f", complex: b"c",
}  # fmt: skip
KINDS = {letter: kind for kind, letter in LETTERS.items()}
CHANGING, PAIRS = (b"O", b"C", b"D", b"d", b"l", b"S", b"q", b"Y"), (b"O", b"C", b"D", b"d")
# Numbers that go as text: who does not use them does not wait for their modules.
EXACT = {("fractions", "Fraction"): b"/", ("decimal", "Decimal"): b"m"}
CONSTANTS: dict[bytes, bool | None] = {b"N": None, b"T": True, b"F": False}
NAMED: dict[str, type] = {kind.__name__: kind for kind in (*list(LETTERS)[4:], bool, type(None))}

COUNT, FLOAT, COMPLEX = struct.Struct("<I"), struct.Struct("<d"), struct.Struct("<dd")
HEADER = struct.Struct("<II")  # the number of the request, and the bytes that follow


class Unsendable(TypeError):
    """A value has no form in a message."""


class Unreadable(ValueError):
    """Bytes are no message."""


UNREADABLE = (TypeError, ValueError, ArithmeticError, LookupError, MemoryError, RecursionError, struct.error)


class Own(tuple[Any, ...]):
    """A tuple of a class of the solution's own, as its tests have it. stands_for: the solution's, which has fields."""

    stands_for: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stands_for, name)


class Writer:
    """Writes values behind each other into `data`. number_of: the number of an object that stays here, Unsendable where
    it has none; known: containers that the reader knows as well, in its order."""

    def __init__(self, number_of: Callable[[object], int], known: Iterable[object] = ()) -> None:
        self.data = bytearray()
        self.known = list(known)
        self._number_of = number_of
        self._places = {id(each): place for place, each in enumerate(self.known)}

    def value(self, value: object, depth: int = 0) -> None:
        """Unsendable for what is too deep or too long."""
        letter = _letter(type(value))
        if letter is None:
            self._other(value)
        elif isinstance(value, Own):
            self._other(value.stands_for)
        elif letter == b"t" and type(value) is not tuple:
            self._counted(b"n", self._number_of(value))
            self.contents(value, depth)
        elif letter in CHANGING and id(value) in self._places:
            self._counted(b"r", self._places[id(value)])
        else:
            self.contents(value, depth)
            if letter in CHANGING:
                self._places[id(value)] = len(self.known)
                self.known.append(value)

    def contents(self, value: Any, depth: int = 0) -> None:
        """What a container holds, though it is known. Its methods are those of the plain type that it derives from."""
        letter = _letter(type(value)) or b""
        kind = KINDS[letter]
        if depth > DEEPEST or len(self.data) > LONGEST:
            raise Unsendable(f"more than {DEEPEST} within each other, or {LONGEST:,} bytes")
        match letter:
            case b"s":
                self._raw(letter, str.encode(value, "utf-8", "surrogatepass"))
            case b"b" | b"Y":
                self._raw(letter, bytes(memoryview(value)))
            case b"i":
                self._raw(letter, int.to_bytes(value, int.bit_length(value) // 8 + 1, "little", signed=True))
            case b"f":
                self.data += letter + FLOAT.pack(value)
            case b"c":
                self.data += letter + COMPLEX.pack(value.real, value.imag)
            case b"R":
                self._items(letter, [value.start, value.stop, value.step], depth)
            case b"O" | b"C" | b"D" | b"d":
                pairs = list(kind.items(value))
                first = [_factory(value)] if letter == b"D" else []
                self._items(letter, [*first, *(each for pair in pairs for each in pair)], depth, len(pairs))
            case _:
                held = list(kind.__iter__(value))
                self._items(letter, [value.maxlen, *held] if letter == b"q" else held, depth, len(held))

    def _other(self, value: object) -> None:
        if value is None or isinstance(value, bool):
            self.data += b"N" if value is None else b"T" if value else b"F"
        elif isinstance(value, type) and NAMED.get(value.__name__) is value:
            self._raw(b"y", value.__name__.encode())
        elif letter := EXACT.get((type(value).__module__, type(value).__qualname__)):
            self._raw(letter, str(value).encode())
        else:
            self._counted(b"h", self._number_of(value))

    def _items(self, letter: bytes, items: list[Any], depth: int, count: int | None = None) -> None:
        self._counted(letter, len(items) if count is None else count)
        for each in items:
            self.value(each, depth + 1)

    def _raw(self, letter: bytes, raw: bytes) -> None:
        self._counted(letter, len(raw))
        self.data += raw

    def _counted(self, letter: bytes, count: int) -> None:
        self.data += letter + COUNT.pack(count)


class Reader:
    """Reads what a Writer wrote. object_of: the object with a number; known: as of the Writer."""

    def __init__(self, data: bytes, object_of: Callable[[int], object], known: Iterable[object] = ()) -> None:
        self.known = list(known)
        self._data, self._at = data, 0
        self._object_of = object_of

    def value(self) -> Any:
        """Unreadable for anything but what a Writer writes; nothing is executed."""
        try:
            return self._value(0)
        except UNREADABLE as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    def contents(self, container: Any) -> Any:
        """What Writer.contents wrote of such a container, as one like it."""
        letter = self._taken(1)
        try:
            if letter != _letter(type(container)):
                raise Unreadable("it is another container")
            return self._held(letter, 0)
        except UNREADABLE as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    def end(self) -> None:
        if self._at != len(self._data):
            raise Unreadable("there is more than there should be")

    def _value(self, depth: int) -> Any:
        letter = self._taken(1)
        if letter in CONSTANTS:
            return CONSTANTS[letter]
        match letter:
            case b"r":
                return self.known[self._count()]
            case b"h":
                return self._object_of(self._count())
            case b"y":
                return NAMED[self._taken(self._count()).decode()]
            case b"n":
                stands_for = self._object_of(self._count())
                own = Own(self._held(self._taken(1), depth))
                own.stands_for = stands_for
                return own
            case b"/" | b"m":
                module, name = next(where for where, known in EXACT.items() if known == letter)
                return getattr(import_module(module), name)(self._taken(self._count()).decode())
        held = self._held(letter, depth)
        if letter in CHANGING:
            self.known.append(held)
        return held

    def _held(self, letter: bytes, depth: int) -> Any:
        kind = KINDS[letter]
        if depth > DEEPEST:
            raise Unreadable("it is too deep")
        match letter:
            case b"f":
                return FLOAT.unpack(self._taken(8))[0]
            case b"c":
                return complex(*COMPLEX.unpack(self._taken(16)))
        count = self._count()
        match letter:
            case b"s":
                return self._taken(count).decode("utf-8", "surrogatepass")
            case b"b" | b"Y":
                return kind(self._taken(count))
            case b"i":
                return int.from_bytes(self._taken(count), "little", signed=True)
        first = self._value(depth + 1) if letter in (b"q", b"D") else None
        if letter not in PAIRS:
            items = [self._value(depth + 1) for _ in range(self._fitting(count))]
            if letter == b"k":
                return dict.fromkeys(items).keys()
            return range(*items) if letter == b"R" else deque(items, first) if letter == b"q" else kind(items)
        pairs = {self._value(depth + 1): self._value(depth + 1) for _ in range(self._fitting(count))}
        if letter == b"D" and first is not None and first not in NAMED.values():
            raise Unreadable("what it makes is not plain")
        return defaultdict(first, pairs) if letter == b"D" else pairs if letter == b"d" else kind(pairs)

    def _count(self) -> int:
        return int(COUNT.unpack(self._taken(4))[0])

    def _fitting(self, count: int) -> int:
        """A value has at least a byte, so that no count takes more memory than its message did."""
        if count > len(self._data) - self._at:
            raise Unreadable("it ends too early")
        return count

    def _taken(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + self._fitting(size)]
        self._at += size
        return taken


def send(file: int, number: int, data: bytes) -> None:
    """Unsendable, before anything is sent, for what is too long."""
    if len(data) > LONGEST:
        raise Unsendable(f"more than {LONGEST:,} bytes")
    left = memoryview(HEADER.pack(number, len(data)) + data)
    while left:
        left = left[os.write(file, left) :]


def receive(file: int) -> tuple[int, bytes]:
    """The number of a request, and the message. Unreadable for one that is too long; EOFError where none comes."""
    number, size = HEADER.unpack(_whole(file, HEADER.size))
    if size > LONGEST:
        raise Unreadable(f"more than {LONGEST:,} bytes")
    return number, _whole(file, size)


def _whole(file: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        read = os.read(file, min(size - len(parts), 1 << 20))
        if not read:
            raise EOFError("it ended")
        parts += read
    return bytes(parts)


def _letter(kind: type) -> bytes | None:
    """Of the plain type that a type is or derives from; None for what derives from none, and for bool."""
    if kind in LETTERS or kind is bool:
        return LETTERS.get(kind)
    return next((letter for base, letter in LETTERS.items() if issubclass(kind, base)), None)


def _factory(value: defaultdict[Any, Any]) -> type | None:
    """Of a defaultdict that makes something of its own only what it holds goes, which compares alike."""
    factory = value.default_factory
    return factory if isinstance(factory, type) and NAMED.get(factory.__name__) is factory else None
