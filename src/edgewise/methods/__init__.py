"""Ways to get gradients, one file each: every one makes a Graph that is planned, priced, checked and run."""

from edgewise.methods.capture import capture_with
from edgewise.methods.quantization_aware import QuantizedLayer, fold_norms, quantize
from edgewise.methods.selector import Potential, potentials, select
from edgewise.methods.settings import (
    ActivityPerturbation,
    Backprop,
    Elastic,
    Extrapolated,
    FixedPoint,
    ForwardForward,
    ForwardGradient,
    LocalLosses,
    Method,
    SparseUpdate,
    Spsa,
    Svrg,
    TopShare,
)
from edgewise.methods.wta_crs import WtaCrsLinear, use_wta_crs

__all__ = [
    "ActivityPerturbation",
    "Backprop",
    "Elastic",
    "Extrapolated",
    "FixedPoint",
    "ForwardForward",
    "ForwardGradient",
    "LocalLosses",
    "Method",
    "Potential",
    "QuantizedLayer",
    "SparseUpdate",
    "Spsa",
    "Svrg",
    "TopShare",
    "WtaCrsLinear",
    "capture_with",
    "fold_norms",
    "potentials",
    "quantize",
    "select",
    "use_wta_crs",
]
