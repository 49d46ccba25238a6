"""From PyTorch to Graph: one whole training step, captured with kernels that a plan can execute."""

from edgewise.capture.optimizers import SGD, AdamW, Optimizer
from edgewise.capture.step import Captured, capture

__all__ = ["SGD", "AdamW", "Captured", "Optimizer", "capture"]
