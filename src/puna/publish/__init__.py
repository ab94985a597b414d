"""What a run made, for others to have: its documents as a data set with a card, and exports pushed to a hub.

dataset.py writes the data set and reads it back; data_card.py says what it is. push.py says what a push would do, and
does it; hub.py is the one that speaks with the hub, refusals.py tells what it refuses. Nothing here reaches a network
but a push that was asked for.
"""

from __future__ import annotations

from puna.publish.dataset import check, write
from puna.publish.hub import Destination, destination
from puna.publish.push import Beginning, Push, begin

__all__ = ["Beginning", "Destination", "Push", "begin", "check", "destination", "write"]
