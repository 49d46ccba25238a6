"""Edgewise: train PyTorch models inside a memory, time and energy budget."""

__version__ = "0.1.0"
