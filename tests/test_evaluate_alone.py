"""An evaluation reaches no network: the whole command, in a process where any socket of the internet is an error."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from made_checkpoint import begin, land

# Only a socket within the machine may be made; all else fails where it is tried, and is written down, so that a try
# whose error somebody swallows is seen too.
GUARDED = """
import os, socket, sys

def refuse(event, arguments):
    inside = event == "socket.__new__" and arguments[1] == socket.AF_UNIX
    local = event in ("socket.connect", "socket.bind", "socket.sendto") and arguments[0].family == socket.AF_UNIX
    if event.startswith("socket.") and not inside and not local and event != "socket.gethostname":
        # urllib3, which lm-eval imports, asks then whether this machine has IPv6: it binds, and reaches nobody.
        names, frame = [], sys._getframe()
        while frame := frame.f_back:
            names.append(frame.f_code.co_name)
        if "_has_ipv6" not in names:
            with open(os.environ["TRIED"], "a") as file:
                file.write(event + chr(10))
        raise RuntimeError(event)

sys.addaudithook(refuse)
if sys.argv[1] == "reach":
    try:
        socket.create_connection(("127.0.0.1", 9), 1)
    except RuntimeError:
        sys.exit(3)
from puna.cli import main
main()
"""
TASKS = "boolq,piqa,winogrande,openbookqa,naturalquestions,gsm8k,mmlu,crows_pairs,winogender,truthfulqa"
OTHER = """
task: made_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
"""


def _guarded(tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    offline = {"HF_HOME": str(tmp_path / "hub"), "TRIED": str(tmp_path / "tried"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", GUARDED, *map(str, words)]
    environment = {**os.environ, **offline, "PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def test_any_socket_would_be_an_error(tmp_path: Path) -> None:
    assert _guarded(tmp_path, "reach").returncode == 3
    assert (tmp_path / "tried").read_text().startswith("socket.")


@pytest.mark.promise("alone")
def test_an_evaluation_opens_no_socket(bench: Path, tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    land(run, 10, context=320)
    words: list[object] = ["evaluate", run, "--data", bench, "--limit", 2, "--threads", 1, "--json", "--shots", 0]
    names = TASKS
    if importlib.util.find_spec("lm_eval"):
        folder = tmp_path / "tasks"
        folder.mkdir()
        row = {"question": "the cat and", "choices": [" the hat", " the end"], "gold": 0}
        (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
        (folder / "made.yaml").write_text(OTHER.format(data=folder / "rows.jsonl"))
        names += ",made_choice"
        words += ["--include", folder]
    done = _guarded(tmp_path, *words, "--tasks", names)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert [each["task"] for each in told["results"] + told["others"]] == names.split(",")
    assert not (tmp_path / "tried").exists()
