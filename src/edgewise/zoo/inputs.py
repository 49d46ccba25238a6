"""Input specs (`3x32x32`, `128:int64<30522`), random inputs made from them, and targets to fit an output."""

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from edgewise.errors import UsageError
from edgewise.zoo.losses import class_axis

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
}
TOKENS_BELOW = 100
"""Integers are drawn below this where the spec does not say: nearly every vocabulary is larger."""

_SPEC = re.compile(r"(?P<shape>\d+(x\d+)*)?(:(?P<dtype>\w+)(<(?P<below>\d+))?)?")


@dataclass(frozen=True)
class InputSpec:
    """Shape of one sample (without the batch axis), its dtype, and the bound of integers."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    below: int = TOKENS_BELOW


def parse_input_spec(text: str) -> InputSpec:
    """`3x32x32`, `128:int64` or `128:int64<30522` as an `InputSpec`.

    Raises:
        UsageError: it is none of these, has an axis of no length, or a dtype that is not known.
    """
    match = _SPEC.fullmatch(text.replace(" ", ""))
    if match is None or not match["shape"]:
        raise UsageError(
            f"Input `{text}` is not a shape. Write the shape of one sample, as in `3x32x32`, "
            "and a dtype after a colon, as in `128:int64` or `128:int64<30522`."
        )
    shape = tuple(int(length) for length in match["shape"].split("x"))
    dtype_name = match["dtype"] or "float32"
    if dtype_name not in DTYPES:
        raise UsageError(f"Input `{text}`: no dtype `{dtype_name}`. There are: {', '.join(DTYPES)}.")
    dtype = DTYPES[dtype_name]
    below = int(match["below"]) if match["below"] else TOKENS_BELOW
    if match["below"] and dtype.is_floating_point:
        raise UsageError(f"Input `{text}`: a bound after `<` is for integers, not {dtype_name}.")
    if 0 in shape or below < 1:
        raise UsageError(f"Input `{text}`: every length, and the bound after `<`, must be at least 1.")
    return InputSpec(shape, dtype, below)


def random_inputs(spec: InputSpec, batch: int, *, seed: int = 0) -> Tensor:
    """[batch, *spec.shape]: standard normal numbers, or integers drawn evenly from [0, spec.below)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *spec.shape)
    if spec.dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(spec.dtype)
    return torch.randint(spec.below, shape, generator=generator, dtype=spec.dtype)


def random_classes(shape: tuple[int, ...], classes: int, *, seed: int = 1) -> Tensor:
    """int64 class indices of that shape, drawn evenly from [0, classes)."""
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def derive_targets(logits: Tensor, loss: str) -> Tensor:
    """Random targets that fit an output: numbers of its shape for `mse`, class indices for `cross_entropy`.

    Raises:
        UsageError: the output is no set of class scores.
    """
    shape = tuple(logits.shape)
    if loss == "mse":
        generator = torch.Generator().manual_seed(1)
        return torch.randn(shape, generator=generator).to(logits.dtype)
    if len(shape) < 2 or not logits.is_floating_point() or math.prod(shape) == 0:
        dtype = str(logits.dtype).removeprefix("torch.")
        raise UsageError(
            f"The model's output {list(shape)} ({dtype}) is no set of class scores [B, C, ...]. "
            "Give the model a method `loss(output, targets)` and a method `example_batch(batch)`."
        )
    axis = class_axis(logits)
    return random_classes(shape[:axis] + shape[axis + 1 :], shape[axis])
