"""From PyTorch to Graph: one whole training step, captured with kernels that a plan can execute."""

from edgewise.capture.joint import JointGraph, Loss
from edgewise.capture.optimizers import SGD, AdamW, Optimizer
from edgewise.capture.step import Captured, Trace, capture

__all__ = ["SGD", "AdamW", "Captured", "JointGraph", "Loss", "Optimizer", "Trace", "capture"]
