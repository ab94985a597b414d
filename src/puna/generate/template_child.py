"""Renders chat templates for template.py, in a process of its own: a line of JSON in, a line of JSON out.

{"source": .., "values": {..}, "characters": ..} is answered with {"text": ..} or {"error": ..}; without values a
template is only looked at. It may neither have much memory nor write a file, and ends with what it reads from.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 1 << 30  # bytes of address space


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    # The names that templates which are published call.
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    _answer_raw("ready")
    for line in sys.stdin.buffer:
        try:
            _answer_raw(json.dumps(_rendered(environment, json.loads(line))))
        except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError, AttributeError, LookupError) as error:
            _answer_raw(json.dumps({"error": f"the template fails: {error}"}))
        except RecursionError:
            _answer_raw(json.dumps({"error": "the template fails: it goes too deep"}))


def _rendered(environment: ImmutableSandboxedEnvironment, asked: dict[str, Any]) -> dict[str, str]:
    template = environment.from_string(asked["source"])
    if "values" not in asked:
        return {"text": ""}
    parts, size = [], 0
    for part in template.generate(asked["values"]):
        size += len(part)
        if size > asked["characters"]:
            return {"error": f"the template writes more than {asked['characters']} characters"}
        parts.append(part)
    return {"text": "".join(parts)}


def _refuse(why: str) -> NoReturn:
    raise TemplateError(why)


def _answer_raw(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
