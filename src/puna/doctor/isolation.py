"""Whether programs that a model wrote can be run here for HumanEval and MBPP."""

from __future__ import annotations

from puna.doctor.finding import Finding
from puna.evaluate import sandbox

NAME = "isolation"


def isolated() -> list[Finding]:
    """Tries a cage, as `puna evaluate --allow-code` would."""
    if why := sandbox.isolation():
        what = f"programs of a model cannot be run for HumanEval and MBPP: {why}"
        return [Finding(NAME, "note", what, _mend(why))]
    return [Finding(NAME, "ok", "programs of a model run in namespaces of their own, without network or rights")]


def _mend(why: str) -> str:
    if "Operation not permitted" in why or "Permission denied" in why:
        return (
            "let users make namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, "
            "kernel.unprivileged_userns_clone=1 on Debian; in a container, --security-opt seccomp=unconfined"
        )
    if "No space left" in why:
        return "let users make more namespaces: sysctl user.max_user_namespaces=10000"
    if "Function not implemented" in why:
        return "use Linux 5.12 or newer"
    return "run code tasks on another Linux machine"
