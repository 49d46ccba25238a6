"""Ops that exist for tracing: what they make is known only in a captured step, to whoever lowers them."""

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
