"""Ways to get gradients, one file each: every one makes a Graph that is planned, priced, checked and run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgewise.methods.settings import (
    ActivityPerturbation,
    Backprop,
    Block,
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

if TYPE_CHECKING:
    from edgewise.methods.capture import capture_with
    from edgewise.methods.quantization_aware import QuantizedLayer, fold_norms, quantize
    from edgewise.methods.selector import Potential, potentials, select
    from edgewise.methods.wta_crs import WtaCrsLinear, use_wta_crs

__all__ = [
    "ActivityPerturbation",
    "Backprop",
    "Block",
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

_WITH_TORCH = {
    "capture_with": "capture",
    "QuantizedLayer": "quantization_aware",
    "fold_norms": "quantization_aware",
    "quantize": "quantization_aware",
    "Potential": "selector",
    "potentials": "selector",
    "select": "selector",
    "WtaCrsLinear": "wta_crs",
    "use_wta_crs": "wta_crs",
}


def __getattr__(name: str) -> Any:
    """What needs torch, when it is asked for: settings are read where torch must not be imported."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module `edgewise.methods` has no attribute `{name}`")
    return getattr(import_module(f"edgewise.methods.{_WITH_TORCH[name]}"), name)
