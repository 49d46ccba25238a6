"""Tiling: ops as loops over slices, so that none of their operands need ever be whole in RAM."""

from edgewise.capture.tiling.loop import Tier, Turn
from edgewise.capture.tiling.nest import Loop
from edgewise.capture.tiling.options import Chosen
from edgewise.capture.tiling.rules import loops_of

__all__ = ["Chosen", "Loop", "Tier", "Turn", "loops_of"]
