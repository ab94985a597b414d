"""What a run will need before anything is spent: memory by tensor, time, energy and money, for GPUs that are not here.

Paper, sections 2.4 and 6. gpus.py and efficiency.py hold what is taken from others, each with its source; shapes.py and
memory.py count what a rank holds; roofline.py tells how long a step takes; search.py takes the fastest layout that
fits; energy.py is the paper's formula of section 6; serving.py is the same for a model that writes text; planned.py
puts them together. Nothing here loads torch, so a plan takes a second.
"""

from __future__ import annotations
