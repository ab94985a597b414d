"""`python -m puna.cli`: the `puna` command where it is not on PATH."""

from puna.cli import main

main()
