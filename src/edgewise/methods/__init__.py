"""Ways to get gradients, one file each: every one makes a Graph that is planned, priced, checked and run."""

from edgewise.methods.capture import capture_with
from edgewise.methods.fixed_point import quantize
from edgewise.methods.settings import Backprop, Elastic, FixedPoint, ForwardGradient, Method, Spsa

__all__ = [
    "Backprop",
    "Elastic",
    "FixedPoint",
    "ForwardGradient",
    "Method",
    "Spsa",
    "capture_with",
    "quantize",
]
