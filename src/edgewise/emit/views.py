"""What a C kernel is handed: a view of a value, or of a tile of one, whose sizes may be C expressions.

Shapes of a whole op are numbers. In a loop over slices the last tile is shorter, so there a size is the name
of a C variable; everything that a rule may do with a view (to broadcast it, to put dims in another order)
works on both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from edgewise.capture.kernels import Program, Slot
from edgewise.capture.lowering import Layout
from edgewise.capture.tiling.calls import value_behind, views_of

Extent = int | str
"""A number, or a C expression of type int32_t."""

MOST_DIMS = 6
"""`EW_DIMS` of ew.h."""

C_TYPES = {
    torch.float32: ("float", "EW_F32"),
    torch.int64: ("int64_t", "EW_I64"),
    torch.bool: ("uint8_t", "EW_U8"),
    torch.uint8: ("uint8_t", "EW_U8"),
    torch.int32: ("int32_t", "EW_I32"),
    torch.int8: ("int8_t", "EW_I8"),
    torch.int16: ("int16_t", "EW_I16"),
}
"""Of what is emitted: the type of an element, and its name in ew.h."""


@dataclass(frozen=True)
class View:
    """Elements of `value` from `offset` on (in elements), `size` and `stride` by dim.

    `place` is the C expression of the address of the value's first element; empty if it is where the plan has
    put the value.
    """

    value: str
    dtype: torch.dtype
    size: tuple[Extent, ...]
    stride: tuple[Extent, ...]
    offset: Extent = 0
    place: str = ""

    @property
    def dims(self) -> int:
        """Number of dims."""
        return len(self.size)

    @property
    def c_type(self) -> str:
        """The name of the element's type in ew.h."""
        return C_TYPES[self.dtype][1]

    def expand(self, size: Sequence[Extent]) -> "View":
        """As `torch.Tensor.expand`: dims of one element are repeated, new ones come first."""
        missing = len(size) - self.dims
        own, stride = (1,) * missing + self.size, (0,) * missing + self.stride
        repeated = [0 if n == 1 and m != 1 else s for n, m, s in zip(own, size, stride, strict=True)]
        return replace(self, size=tuple(size), stride=tuple(repeated))

    def unsqueeze(self, dim: int) -> "View":
        """A dim of one element before `dim`."""
        at = dim % (self.dims + 1)
        return replace(
            self,
            size=(*self.size[:at], 1, *self.size[at:]),
            stride=(*self.stride[:at], 0, *self.stride[at:]),
        )

    def squeeze(self, dim: int) -> "View":
        """Without `dim`."""
        return replace(
            self,
            size=(*self.size[:dim], *self.size[dim + 1 :]),
            stride=(*self.stride[:dim], *self.stride[dim + 1 :]),
        )

    def permute(self, order: Sequence[int]) -> "View":
        """Dims in another order."""
        return replace(
            self, size=tuple(self.size[d] for d in order), stride=tuple(self.stride[d] for d in order)
        )

    def narrow(self, dim: int, start: int, length: int) -> "View":
        """`length` elements of `dim` from `start` on."""
        size = (*self.size[:dim], length, *self.size[dim + 1 :])
        return replace(self, size=size, offset=plus(self.offset, times(self.stride[dim], start)))

    def spread(self, dim: int, step: int) -> "View":
        """As many elements of `dim`, but each `step` behind the last."""
        stride = (*self.stride[:dim], times(self.stride[dim], step), *self.stride[dim + 1 :])
        return replace(self, stride=stride)

    def reverse(self, dim: int) -> "View":
        """With `dim` from its end to its beginning; its size must be a number."""
        length = self.size[dim]
        assert isinstance(length, int)  # noqa: S101
        return self.narrow(dim, max(length - 1, 0), length).spread(dim, -1)

    def split(self, dim: int, inner: int) -> "View":
        """With `dim` as two: [n / inner, inner]; its size must be a number."""
        length, stride = self.size[dim], self.stride[dim]
        assert isinstance(length, int)  # noqa: S101
        return replace(
            self,
            size=(*self.size[:dim], length // inner, inner, *self.size[dim + 1 :]),
            stride=(*self.stride[:dim], times(stride, inner), stride, *self.stride[dim + 1 :]),
        )

    def flat(self, first: int = 0) -> "View":
        """Dims from `first` on as one; they must be dense."""
        count = product(self.size[first:])
        return replace(self, size=(*self.size[:first], count), stride=(*self.stride[:first], 1))


def plus(a: Extent, b: Extent) -> Extent:
    """`a + b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return b if a == 0 else a if b == 0 else f"{a} + {b}"


def times(a: Extent, b: Extent) -> Extent:
    """`a * b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if a == 0 or b == 0:
        return 0
    return b if a == 1 else a if b == 1 else f"{_factor(a)} * {_factor(b)}"


def _factor(a: Extent) -> str:
    text = str(a)
    return f"({text})" if " + " in text or " - " in text else text


def product(extents: Sequence[Extent]) -> Extent:
    """The product of all."""
    found: Extent = 1
    for extent in extents:
        found = times(found, extent)
    return found


def run_of(view: View) -> View:
    """All elements of a dense view in the order of memory, as one dim."""
    return replace(view, size=(product(view.size),), stride=(1,))


def whole(name: str, layouts: Mapping[str, Layout]) -> View:
    """All of the value `name`."""
    layout = layouts[name]
    return View(name, layout.dtype, layout.size, layout.stride, layout.offset)


def slots_of(program: Program, layouts: Mapping[str, Layout]) -> tuple[View, ...]:
    """Every slot of `program` as a view of the value behind it."""
    return tuple(
        View(
            value_behind(program, Slot(index)),
            meta.dtype,
            tuple(meta.shape),
            meta.stride(),
            int(meta.storage_offset()),
        )
        for index, meta in enumerate(views_of(program, layouts))
    )
