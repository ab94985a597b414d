"""`python -m puna`: the command, where its script is not on PATH."""

from __future__ import annotations

from puna.cli import main

main()
