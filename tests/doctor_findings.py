"""What the tests of `puna doctor` share."""

from __future__ import annotations

from pathlib import Path

from puna.doctor.finding import Finding


def one(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    finding = findings[0]
    assert finding.state in ("ok", "note", "warning", "error")
    assert (finding.state == "ok") == (not finding.mend), finding
    return finding


def files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
