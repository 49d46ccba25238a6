"""Executes plans in PyTorch, pages to disk, and measures what a step really held."""

from edgewise.run.executor import Executor, StepResult

__all__ = ["Executor", "StepResult"]
