"""Ops of our own in a trace: some have a value only in a captured step, others are functions kept whole."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch

from edgewise.errors import UsageError


def traced_op(name: str, schema: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """The op `edgewise::name` of that `schema`, which a rewrite lowers (`lowering.Rewrite`).

    `fake` makes tensors of the layouts that the op's results have, of fake arguments. Called outside of a
    trace, the op raises a `UsageError`.
    """

    def refuse(*_: Any) -> NoReturn:
        raise UsageError(
            f"`edgewise::{name}` has a value only in a captured step. Capture it, and run it by an executor."
        )

    op = torch.library.custom_op(f"edgewise::{name}", refuse, mutates_args=(), schema=schema)
    op.register_fake(fake)
    return op


def computed_op(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """The op `edgewise::name` that computes `function`: one node of a trace, whatever the function calls.

    `fake` is as in `traced_op`. A captured step should call the function itself: PyTorch's way to it is long.
    """
    op = torch.library.custom_op(f"edgewise::{name}", function, mutates_args=())
    op.register_fake(fake)
    return op
