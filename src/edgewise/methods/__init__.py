"""Ways to get gradients, one file each: every one makes a Graph that is planned, priced, checked and run."""

from typing import TYPE_CHECKING, Any

from edgewise.methods.settings import Backprop, Elastic, ForwardGradient, Method, Spsa

if TYPE_CHECKING:
    from edgewise.methods.capture import capture_with

__all__ = ["Backprop", "Elastic", "ForwardGradient", "Method", "Spsa", "capture_with"]


def __getattr__(name: str) -> Any:
    """`capture_with` when it is asked for: settings are read where torch must not be imported."""
    if name != "capture_with":
        raise AttributeError(f"module `edgewise.methods` has no attribute `{name}`")
    from edgewise.methods.capture import capture_with  # noqa: PLC0415

    return capture_with
