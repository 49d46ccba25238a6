"""Tiling: ops as loops over slices, so that none of their operands need ever be whole in RAM."""

from edgewise.capture.tiling.loop import Tier, Turn
from edgewise.capture.tiling.nest import Loop
from edgewise.capture.tiling.rules import offer_loops

__all__ = ["Loop", "Tier", "Turn", "offer_loops"]
