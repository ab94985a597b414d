"""Run as a program: import modules one after the other, and print for each a line of JSON: [name, what went wrong].

In a process of its own, since a compiled module that does not fit the machine may end it.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    sys.path[:] = json.loads(sys.argv[1])
    for name in sys.argv[2:]:
        wrong = ""
        try:
            importlib.import_module(name)
        except BaseException as error:  # a package may even call sys.exit when it is imported
            wrong = f"{type(error).__name__}: {error}"
        print(json.dumps([name, wrong]), flush=True)


if __name__ == "__main__":
    main()
