"""Several runs on one page: curves on one axis, what each is good for and cost, in what their recipes differ.

It reads run folders and changes none.

    runs     the runs as the page needs them, and which belong together
    law      a scaling law over sizes, with its uncertainty
    pictures the curves by tokens and by FLOP, and the law
    page     puts them in order and writes comparison.html
"""

from __future__ import annotations

from puna.report.compare.page import NAME, write

__all__ = ["NAME", "write"]
