"""A checked Plan as C99 for a microcontroller, and emulated boards to run it on."""

from edgewise.emit.emit import RESERVED_BYTES, Made, emit
from edgewise.emit.folder import Emitted

__all__ = ["RESERVED_BYTES", "Emitted", "Made", "emit"]
