"""`puna generate` and `puna chat` as they are typed: what they print, keep and refuse, in a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import torch

import made_model
import typed
from puna import storage
from puna.cli import generating
from puna.model.weights import write_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, without a template."""
    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = made_model.llama(context=200), made_model.tokenizer()
    write_model(folder, model.config, model.state_dict(), tokenizer=tokenizer.digest)
    storage.write(folder / "tokenizer.model", tokenizer.model)
    return folder


def puna(*arguments: str, monkeypatch: pytest.MonkeyPatch, stdin: str | bytes = "") -> int:
    strict = io.TextIOWrapper(io.BytesIO(stdin), "utf-8") if isinstance(stdin, bytes) else io.StringIO(stdin)
    monkeypatch.setattr("sys.stdin", strict)
    return typed.status(*arguments)


def test_a_chat_keeps_its_history_and_settings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "all kept.json"
    typed = [
        "/set temperature 0", "/set tokens 5", "/set nothing 1", "/set top_k x", "/settings", "the cat", '"""', "and",
        "the hat", '"""', f"/save '{kept}'", "/undo", "/unknown", "/reset", f"/load {kept}", "/load", "x" * 300,
        "/exit",
    ]  # fmt: skip
    assert puna("chat", str(folder), "--system", "be short", monkeypatch=monkeypatch, stdin="\n".join(typed)) == 0
    out, said = capsys.readouterr()
    messages = json.loads(kept.read_text())
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[3]["content"] == "and\nthe hat"
    assert messages[2]["content"] in out
    assert "a base model" in said
    for line in ("there is no setting 'nothing'", "top_k = 'x' is no number", "/unknown is unknown", "a file's name"):
        assert line in said
    assert "fit beside an answer" in said
    assert [line.split() for line in said.splitlines() if line.startswith("temperature")] == [["temperature", "0.0"]]


def test_the_oldest_questions_make_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "\n".join(["the hat and the cat"] * 12)
    assert puna("chat", str(folder), "--tokens", "4", "--temperature", "0", monkeypatch=monkeypatch, stdin=typed) == 0
    assert "error" not in capsys.readouterr().err


def test_a_file_that_cannot_be_written_or_read_does_not_cost_the_talk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, deep = tmp_path / "kept.json", tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    typed = ["the cat", f"/save {tmp_path}", "/load " + "x" * 300, f"/load {deep}", f"/save {kept}"]
    assert puna("chat", str(folder), "--tokens", "2", monkeypatch=monkeypatch, stdin="\n".join(typed)) == 0
    said = capsys.readouterr().err
    assert f"error: /save {tmp_path}: Is a directory" in said
    assert "File name too long" in said
    assert f"{deep}: not valid JSON" in said
    assert [message["role"] for message in json.loads(kept.read_text())] == ["user", "assistant"]


def test_a_question_that_the_model_fails_at_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = made_model.llama(context=200), made_model.tokenizer()
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    write_model(tmp_path, model.config, model.state_dict(), tokenizer=tokenizer.digest)
    storage.write(tmp_path / "tokenizer.model", tokenizer.model)
    kept = tmp_path / "kept.json"
    assert puna("chat", str(tmp_path), monkeypatch=monkeypatch, stdin=f"the cat\n/save {kept}") == 0
    assert "error: the model gave a score that is not a finite number" in capsys.readouterr().err
    assert json.loads(kept.read_text()) == []


def test_the_last_question_is_never_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps([{"role": "assistant", "content": "the hat"}]))
    typed = f"/load {kept}\n" + "x" * 300
    assert puna("chat", str(folder), "--tokens", "4", monkeypatch=monkeypatch, stdin=typed) == 0
    assert "fit beside an answer" in capsys.readouterr().err


def test_generate_writes_lines_of_every_sample(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": word}) + "\n" for word in ("the cat", "the hat", "naïve 🦜")))
    words = ("generate", str(folder), "--jsonl", "--tokens", "6", "--seed", "4")
    assert puna(*words, "--file", str(file), "-n", "2", "--logprobs", "2", "--slots", "3", monkeypatch=monkeypatch) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["prompt"], line["sample"]) for line in lines] == [(p, s) for p in range(3) for s in range(2)]
    tokenizer = made_model.tokenizer()
    for line in lines:
        assert line["text"] == tokenizer.decode(line["tokens"])
        assert line["finish_reason"] == ("length" if len(line["tokens"]) == 6 else "stop")
        assert [token["id"] for token in line["logprobs"]] == line["tokens"]
        assert all(len(token["top"]) == 2 and token["logprob"] <= 0 for token in line["logprobs"])
    # Sample i alone, from standard input, by its own seed; and as plain text.
    assert puna(*words[:-1], "5", "-", monkeypatch=monkeypatch, stdin="the hat") == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == lines[3]["tokens"]
    assert puna("generate", str(folder), "the hat", "--tokens", "6", "--seed", "4", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"the hat{lines[2]['text']}\n"
    plain = ("generate", str(folder), "the hat", "--tokens", "6", "--seed", "4", "-n", "2")
    assert puna(*plain, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"the hat{lines[2]['text']}\n---\nthe hat{lines[3]['text']}\n"


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("x", "--file", "y"), "PROMPT and --file"),
        (("x", "--logprobs", "1"), "add --jsonl"),
        (("x", "--dtype", "f8"), "f32, bf16, int8"),
        (("x", "--top-p", "0"), "top_p = 0.0"),
        (("x", "--stop", ""), "stop string is empty"),
        (("--file", "latin.txt"), "latin.txt: is not UTF-8 at byte 1"),
        (("--file", "bad.jsonl"), "bad.jsonl:2: is no JSON object with a text as `prompt`"),
        (("--file", "missing.txt"), "missing.txt"),
        (("--file", "deep.jsonl"), "deep.jsonl:1: is no JSON object"),
        (("--file", "half.jsonl"), "half.jsonl:1: is not valid Unicode at character 1"),
        (("x", "--temperature", "inf"), "must be a number, 0 or more"),
        (("x", "--repetition-penalty", "1e-320"), "must be 0.01 to 100"),
        (("a\udcff",), "PROMPT: is not valid Unicode at character 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_generate_cannot_take_is_one_line(
    arguments: tuple[str, ...],
    says: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"a\xe9b")
    Path("deep.jsonl").write_text('{"prompt": ' + "[" * 100_000)
    Path("half.jsonl").write_text('{"prompt": "a\\ud800"}')
    Path("bad.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    assert puna("generate", str(folder), *arguments, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.promise("errors")
def test_typed_bytes_that_are_not_utf_8_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert puna("generate", str(folder), "-", monkeypatch=monkeypatch, stdin=b"a\xff\x00") == 2
    assert capsys.readouterr().err == "error: standard input: is not valid Unicode at character 1\n"
    assert puna("chat", str(folder), "--tokens", "2", monkeypatch=monkeypatch, stdin=b"a\xff\n/settings\n") == 0
    said = capsys.readouterr().err
    assert "not valid Unicode" in said
    assert "temperature" in said  # the talk went on


def terminal(*arguments: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """puna in a terminal of its own; the terminal's other side."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "puna.cli", *arguments]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    os.close(theirs)
    return process, ours


def read_until(ours: int, says: bytes) -> bytes:
    """What the terminal shows up to `says`; all of it where the other side ends."""
    shown = b""
    while says not in shown:
        assert select.select([ours], [], [], 60)[0], f"{says!r} never came: {shown!r}"
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    return shown


def test_a_terminal_that_is_closed_ends_a_talk_quietly(folder: Path, tmp_path: Path) -> None:
    process, ours = terminal("chat", str(folder), folder=tmp_path)
    assert b"Ctrl-D leaves" in read_until(ours, b"Ctrl-D leaves")
    os.close(ours)
    assert process.wait(60) == 0


def test_an_interrupt_says_what_stands(folder: Path, tmp_path: Path) -> None:
    process, ours = terminal("chat", str(folder), folder=tmp_path)
    read_until(ours, b"> ")
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that comes just before readline waits is not seen
            process.wait(5)
            break
    shown = read_until(ours, b"was kept")
    assert b"interrupted; what was printed stands" in shown
    assert b"goes on where it was" not in shown
    assert process.wait(60) == 130
    os.close(ours)


def test_an_interrupt_while_a_template_is_rendered_takes_the_question_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("puna.generate.chat.transcript", interrupted)
    assert puna("chat", str(folder), monkeypatch=monkeypatch, stdin="the cat\n/settings\n") == 0
    said = capsys.readouterr().err
    assert "the question was taken back" in said
    assert "temperature" in said


def test_what_a_model_writes_is_shown_to_a_terminal_and_not_obeyed_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "a\tb\n\x1b]0;title\x07\x1b[2J\r\x9b31m\x7f\u202ec \u00e9\U0001f600"
    assert generating.shown(hostile) == hostile
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = generating.shown(hostile)
    assert shown == "a\tb\n␛]0;title␇␛[2J␍\ufffd31m␡\ufffdc é\U0001f600"
    assert len(shown) == len(hostile)


@pytest.mark.promise("errors")
def test_a_prompt_longer_than_any_context_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generating, "LONGEST", 1000)
    long, lines = tmp_path / "long.txt", tmp_path / "long.jsonl"
    long.write_text("the cat " * 126)
    lines.write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps({"prompt": "the cat " * 126}) + "\n")
    for arguments, where in (
        (("--file", str(long)), f"{long}: "),
        (("--file", str(lines)), f"{lines}:2: "),
        (("-",), "standard input: "),
    ):
        end = puna("generate", str(folder), *arguments, "--tokens", "1", monkeypatch=monkeypatch, stdin="x" * 1001)
        said = capsys.readouterr().err
        assert (end, said.count("\n")) == (2, 1)
        assert f"error: {where}is longer than the 1,000 bytes that a prompt may have" in said
    long.write_text("the cat " * 125)
    assert puna("generate", str(folder), "--file", str(long), "--tokens", "1", monkeypatch=monkeypatch) == 0


def test_a_signal_to_end_ends_more_than_the_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
        raise AssertionError

    monkeypatch.setattr("puna.generate.engine.Engine.step", ended)
    assert puna("chat", str(folder), monkeypatch=monkeypatch, stdin="the cat\n/settings\n") == 130
    said = capsys.readouterr().err
    assert "interrupted; what was printed stands" in said
    assert "temperature" not in said
