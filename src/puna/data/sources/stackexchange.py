"""Stack Exchange: dumps of sites as published, one document a question with its answers (section 2.1: the 28 largest
sites; HTML tags removed; answers sorted from highest to lowest score).

    Q: title

    body of the question

    A (accepted): the answer with the highest score

    A: the next one

Scores are compared as numbers, equal ones by the answers' ids. Rules, in order: of a whole site `no posts` (an archive
of other tables) and `site not among the N largest`; of a post `post type` (wikis of tags and the like); of a question,
and with it of its answers, `deleted`, `closed`, `question score`, `unanswered`, `short`; of an answer `answer without
question`, `deleted`, `answer score`, `empty`. A row that is no post is set aside by itself; a site whose file is
damaged or cut short is set aside whole, since nothing tells which answers its questions lack.

The licence asks for the authors: beside the documents lies `attribution`, a line a question with every post, its owner
and its licence. Memory is join.BUFFER, one question, and what unpacks the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from puna.data.document import Document, Origin, document_id
from puna.data.sources.records import EXAMPLE, Aside, Dropped, Input, Part, Record, SetAside, Task, group_parts
from puna.data.stack import join, markup, posts
from puna.data.stack.posts import Post, PostError
from puna.data.stack.rows import BadRow, RowError, head_key
from puna.data.stack.unpack import ArchiveError
from puna.errors import InputError
from puna.progress import say
from puna.recipe import Source, StackExchange

Found = Iterator[Record | Aside]


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """A part a site, since an archive can be read from its beginning only; small ones share a task. Sites that are not
    read are parts without bytes, so that `read` can say so. InputError where two inputs hold one site."""
    known = {entry.declared: _size(entry) for entry in inputs}
    _refuse_repeats(entry for entry in inputs if known[entry.declared] not in (None, _BROKEN))
    chosen = _largest(known, cast(StackExchange, recipe).sites)
    parts = []
    for entry in inputs:
        read_on = entry.declared in chosen or known[entry.declared] == _BROKEN
        parts.append(Part(entry.declared, 0, entry.size if read_on else 0))
    return group_parts("stackexchange", parts, task_size)


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Found:
    """The records of a task's sites: first what is no part of a question, in the order of the dump, then question by
    question in order of their ids."""
    known = {entry.declared: entry for entry in inputs}
    rules = cast(StackExchange, recipe)
    for part in task.parts:
        entry = known[part.declared]
        try:
            if part.end or not entry.size:
                yield from _Site(entry, rules).read()
            else:
                yield _unread(entry, rules)
        except ArchiveError as error:
            yield SetAside(str(error), entry.declared, "", entry.size)


_BROKEN = -1  # in place of a size: the file cannot be opened, and reading it will say why


def _size(entry: Input) -> int | None:
    """Bytes of a site's posts; None where there are none."""
    try:
        return posts.size(entry)
    except ArchiveError:
        return _BROKEN


def _largest(known: dict[str, int | None], wanted: int) -> set[str]:
    """The names of the largest sites; of equal ones the first by name."""
    sizes = {name: size for name, size in known.items() if size is not None and size != _BROKEN}
    if len(sizes) <= wanted:
        say(f"  stackexchange: all sites are read; there are {len(sizes)}, and sites is {wanted}")
    return set(sorted(sizes, key=lambda name: (-sizes[name], name))[:wanted])


def _refuse_repeats(inputs: Iterable[Input]) -> None:
    """A site that is read twice would count as two of the largest."""
    seen: dict[str, str] = {}
    for entry in inputs:
        host = posts.site(entry)
        first = seen.setdefault(host, entry.declared)
        if host and first != entry.declared:
            what = f"{first} and {entry.declared} both hold the posts of {host}"
            raise InputError(what, where="sources.stackexchange.inputs", mend="take one of them out")


def _unread(entry: Input, rules: StackExchange) -> Dropped:
    size = posts.size(entry)
    if size is None:
        return Dropped("no posts", entry.declared, entry.size, "the archive holds no Posts.xml")
    example = f"{posts.site(entry)}: {size} bytes of posts"
    return Dropped(f"site not among the {rules.sites} largest", entry.declared, entry.size, example)


class _Site:
    """Turns the rows of one site into records."""

    def __init__(self, entry: Input, rules: StackExchange) -> None:
        self.entry, self.rules = entry, rules
        self.site = posts.site(entry)
        self.language = posts.language(self.site)

    def read(self) -> Found:
        with join.Join() as joined:
            for row in posts.rows(self.entry):
                record = self._take(row, joined)
                if record is not None:
                    yield record
            last = -1
            for group in joined.questions():
                question = group[0][0][0] >> 1
                if question == last:
                    what = f"its question has more than {join.MAX_QUESTION} bytes"
                    yield from (self._aside(what, f"post {number}") for (_, number, _), _ in group)
                else:
                    yield from self._question(group)
                last = question

    def _take(self, row: bytes | BadRow, joined: join.Join) -> Record | None:
        """Hand a question or an answer to the join; of any other row, what becomes of it."""
        if isinstance(row, BadRow):
            return self._aside(row.reason, head_key(row.head))
        key = posts.key(row)
        if key is None:
            try:
                found = posts.post(row)
            except (PostError, RowError) as error:
                return self._aside(str(error), head_key(row))
            if isinstance(found, posts.Other):
                example = f"type {found.kind}: {markup.text(found.body)}"[:EXAMPLE]
                return Dropped("post type", self._key(found.id), len(row), example)
            key = found.question, int(found.answer), found.id
        joined.add(*key, row)
        return None

    def _question(self, group: list[join.Keyed]) -> Found:
        """What becomes of the rows of one question."""
        question: Post | None = None
        answers: list[tuple[Post, int]] = []
        seen: set[int] = set()
        size = 0
        for (_, own, _), row in group:
            try:
                post = posts.post(row)
            except (PostError, RowError) as error:
                yield self._aside(str(error), f"post {own}")
                continue
            assert isinstance(post, Post)
            if own in seen:
                yield self._aside("a second post of one Id", f"post {own}")
                continue
            seen.add(own)
            size += len(row)
            if post.answer:
                answers.append((post, len(row)))
            else:
                question = post
        if question is None:
            for answer, length in answers:
                yield self._dropped("answer without question", answer, length)
            return
        if rule := self._rule(question):
            yield self._dropped(rule, question, size)
            return
        kept: list[tuple[Post, str]] = []
        for answer, length in answers:
            text = markup.text(answer.body)
            if rule := self._answer_rule(answer, text):
                yield self._dropped(rule, answer, length)
                size -= length
            else:
                kept.append((answer, text))
        yield from self._document(question, kept, size)

    def _rule(self, question: Post) -> str:
        """The rule by which a question is left out before its answers are looked at, or ""."""
        rules = self.rules
        if question.deleted and not rules.keep_deleted:
            return "deleted"
        if question.closed and not rules.keep_closed:
            return "closed"
        return "question score" if _below(question.score, rules.min_question_score) else ""

    def _answer_rule(self, answer: Post, text: str) -> str:
        if answer.deleted and not self.rules.keep_deleted:
            return "deleted"
        if _below(answer.score, self.rules.min_answer_score):
            return "answer score"
        return "" if text else "empty"

    def _document(self, question: Post, answers: list[tuple[Post, str]], size: int) -> Found:
        if not answers and not self.rules.keep_unanswered:
            yield self._dropped("unanswered", question, size)
            return
        answers = sorted(answers, key=lambda answer: (-answer[0].score, answer[0].id))
        text = laid_out(question, markup.text(question.body), answers)
        if len(text) < self.rules.min_characters:
            yield self._dropped("short", question, size)
            return
        entry, key = self.entry, str(question.id)
        written = [question, *(answer for answer, _ in answers)]
        url = f"https://{self.site}/questions/{key}" if self.site else ""
        licence = " AND ".join(sorted({post.licence for post in written}))
        origin = Origin(entry.dump, key, entry.declared, 0, url, question.title, question.created, licence)
        name = document_id("stackexchange", entry.dump, key)
        yield Document(name, "stackexchange", self._key(question.id), self.language, text, origin)
        owners = [{"post": post.id, "user": post.user, "name": post.name, "licence": post.licence} for post in written]
        yield Aside("attribution", {"document": name, "site": self.site, "question": question.id, "posts": owners})

    def _dropped(self, rule: str, post: Post, size: int) -> Dropped:
        example = f"{post.title} {markup.text(post.body[: 8 * EXAMPLE])}".strip()
        return Dropped(rule, self._key(post.id), size, example[:EXAMPLE])

    def _key(self, number: int) -> str:
        """A post's name among those of all sites."""
        return f"{self.site or self.entry.dump}/{number}"

    def _aside(self, reason: str, key: str) -> SetAside:
        return SetAside(reason, self.entry.declared, key)


def laid_out(question: Post, body: str, answers: Sequence[tuple[Post, str]]) -> str:
    """The text of a document: the question, then its answers as they come."""
    parts = [f"Q: {question.title}", body] if body else [f"Q: {question.title}"]
    for answer, text in answers:
        parts.append(f"A (accepted): {text}" if answer.id == question.accepted else f"A: {text}")
    return "\n\n".join(parts)


def _below(score: int, least: int | None) -> bool:
    return least is not None and score < least
