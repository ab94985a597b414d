"""The process in which chat templates are rendered: a file that is run by itself, and imports nothing of Puna.

A template comes with a model from anywhere, and is a program. Jinja's sandbox keeps it from Python's insides; a process
with little memory and time, of which the system ends it whatever it does, keeps it from doing too much. Each line of
standard input is a JSON object with `template`, `values`, `most` (characters) and `seconds` (of a processor: a busy
machine shortens them for nobody); each line of standard output is one with `text` or `error`.
"""

from __future__ import annotations

import json
import signal
import sys
from datetime import datetime
from typing import Any, NoReturn

MEMORY = 1 << 29  # bytes of address space
LONGEST = 30  # seconds, after which nobody waits any more: who asked is dead


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # a template prints nothing
    limit()
    environment = _environment()
    for line in sys.stdin:
        signal.alarm(LONGEST)
        try:
            asked = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
            answer = {"text": render(environment, asked["template"], asked["values"], asked["most"])}
        except MemoryError:
            answer = {"error": f"needs more than {MEMORY >> 20} MB"}
        except RecursionError:
            answer = {"error": "calls itself without end"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def render(environment: Any, template: str, values: dict[str, Any], most: int) -> str:
    """The text of a template. Raises what the template raises, and ValueError when it gives more than `most`."""
    pieces, size = [], 0
    for piece in environment.from_string(template).generate(values):
        size += len(piece)
        if size > most:
            raise ValueError(f"gives more than {most} characters")
        pieces.append(piece)
    return "".join(pieces)


def _environment() -> Any:
    """As the transformers library documents what a chat template may use: blocks trimmed, loop controls, `tojson`,
    `raise_exception`, `strftime_now`, and `generation` around what the model says, which gives what stands in it."""
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise ValueError(message)


if __name__ == "__main__":
    main()
