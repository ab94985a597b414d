"""Real dumps from the seven places of section 2.1, as a recipe's `[fetch]` tables ask: planned, said, fetched, checked.

The story: ask each place's catalogue (`places.py`, `catalogues.py`), or take the plan that is written down
(`account.py`); say files, sizes and cost (`planned.py`); fetch what is not there (`work.py`, `download.py`). Killed at
any moment, the same command goes on. This is the one station that reaches public servers, and only when `puna fetch`
was typed.
"""

from puna.fetch.planned import Options as Options
from puna.fetch.planned import Plan as Plan
from puna.fetch.planned import plan as plan
from puna.fetch.work import fetch as fetch
