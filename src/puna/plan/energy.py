"""From GPU hours to energy, carbon and money, by the formula of the paper's section 6.

Wh = GPU hours x watts of a GPU x PUE, with the power usage effectiveness 1.1 and, for every model at every place, the
average intensity of the grid of the United States, 0.385 kg of CO2eq a kWh: Table 15. Watts are those of the GPU alone;
neither the rest of the node nor the making of the hardware is in it.
"""

from __future__ import annotations

from typing import NamedTuple

PUE = 1.1
TONNES_PER_MWH = 0.385


class Energy(NamedTuple):
    mwh: float
    tco2eq: float


def energy(gpu_hours: float, watts: float, *, pue: float = PUE, tonnes_per_mwh: float = TONNES_PER_MWH) -> Energy:
    """MWh and tonnes of CO2 equivalent of that many GPU hours at that many watts a GPU."""
    mwh = gpu_hours * watts * pue / 1e6
    return Energy(mwh, mwh * tonnes_per_mwh)
