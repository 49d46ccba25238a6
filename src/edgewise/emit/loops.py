"""An execution in slices as a C function: nested loops, tiles that come and go, sums, and updates.

It mirrors `capture.tiling.loop`, which runs the same nest in PyTorch: a slice is loaded where the innermost
of its own loops begins, a sum is done when the loops over its parts are, and then stored, or applied by a
sink.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from edgewise.capture import Captured
from edgewise.capture.tiling.nest import Along, Loop, Operand, Result, Sources, Window
from edgewise.capture.tiling.updating import order_of
from edgewise.capture.updates import CarryKernel, Change, UpdateKernel
from edgewise.emit.calls import Call
from edgewise.emit.copies import copy
from edgewise.emit.methods import method_workspace
from edgewise.emit.render import INDENT, render, tensor
from edgewise.emit.rooms import operand_bytes, result_bytes
from edgewise.emit.slots import Access
from edgewise.emit.statements import aligned, optimizer_call
from edgewise.emit.tile import Piece, Tile
from edgewise.emit.tiles import tile_statements
from edgewise.emit.views import Extent, View, plus, slots_of, times

_RESERVED = {"step", "first", "last", "s", "error"}


@dataclass(frozen=True)
class Execution:
    """One execution of an op in slices: where its values lie, and what of them is streamed."""

    captured: Captured
    op: str
    loop: Loop
    streamed: frozenset[str]
    first: bool
    room: int
    place: Callable[[str], str]
    """The C expression of the address of a value in RAM."""
    access: Mapping[str, Access]


@dataclass
class _Writer:
    """The body of the function, line by line."""

    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def put(self, *lines: str) -> None:
        self.lines += [INDENT * self.depth + line for line in lines]

    def open(self, line: str) -> None:
        self.put(line + " {" if line else "{")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.put("}")


def c_name(text: str) -> str:
    """An axis or value as a C identifier."""
    name = re.sub(r"\W", "_", text)
    return f"{name}_" if name in _RESERVED or name[:1].isdigit() else name


class LoopBody:
    """Writes the body of a C function, which returns what goes wrong in the store, or `EW_OK`."""

    def __init__(self, run: Execution) -> None:
        self.run, self.nest, self.loop = run, run.loop.nest, run.loop
        self.out = _Writer()
        self.cut = run.loop.cut
        self.order = [axis for axis, _ in run.loop.blocks]
        self.at = {axis: c_name(axis) for axis in self.order}
        self.count: dict[str, Extent] = {axis: f"{c_name(axis)}_n" for axis in self.order}
        self.kernel = run.captured.kernels[run.op]
        self.program = slots_of(self.nest.program, run.captured.layouts)
        self.top = run.room
        self.workspace = self.room(aligned(method_workspace(self.kernel, run.captured.layouts)))
        self.slots: dict[int, View] = {}
        self.values: dict[str, View] = {}
        self.pieces: dict[int, dict[int, Piece]] = {}
        self.loads = self._loads()

    # -- the frame --------------------------------------------------------------------------------------

    def write(self) -> list[str]:
        """Loops from the outermost in, with each load where the innermost of its own loops begins."""
        results = [self._result(index, result) for index, result in enumerate(self.nest.results)]
        self.open_loops()
        self._tile(results)
        return self.close_loops()

    def open_loops(self) -> None:
        """All loops, and the loads in them."""
        self._load_at(0)
        for depth, (axis, size) in enumerate(self.loop.blocks, 1):
            name, extent = self.at[axis], self.nest.extent(axis)
            self.out.open(f"for (int32_t {name} = 0; {name} < {extent}; {name} += {size})")
            self.out.put(f"const int32_t {name}_n = ew_least({size}, {extent} - {name});")
            self._load_at(depth)

    def close_loops(self) -> list[str]:
        """The end of all loops; all lines."""
        for _ in self.loop.blocks:
            self.out.close()
        self.out.put("return EW_OK;")
        return self.out.lines

    def _depth(self, operand: Operand) -> int:
        own = operand.axes & self.cut
        return max((self.order.index(axis) + 1 for axis in own), default=0)

    def _loads(self) -> list[list[tuple[int, Operand]]]:
        """Operands, and values that change, by the depth at which they are loaded."""
        nest = self.nest
        found: list[list[tuple[int, Operand]]] = [[] for _ in range(len(self.order) + 1)]
        for index, operand in enumerate((*nest.operands, *(nest.inouts if self.run.first else ()))):
            found[self._depth(operand)].append((index, operand))
        return found

    def _load_at(self, depth: int) -> None:
        for index, operand in self.loads[depth]:
            view = self._load(f"x{index}", operand)
            if operand.slot is not None:
                self.slots[operand.slot] = view
            else:
                self.values[operand.value] = view

    # -- slices -----------------------------------------------------------------------------------------

    def room(self, size: int) -> str:
        """The address of the next `size` bytes of the workspace."""
        place = f"model_arena + {self.top}"
        self.top += size
        return place

    def _extent(self, name: str, dim: int, along: Along, size: int) -> tuple[Piece | None, Extent]:
        """Where a slice of a dim begins, and how long it is; declares what has to be computed."""
        if along is None or along.axis not in self.cut:
            return None, size
        at, count = self.at[along.axis], self.count[along.axis]
        if isinstance(along, Window) and along.padding == 0 and along.span == along.stride:
            start = times(along.stride, at)
            return Piece(along.axis, start, start), times(along.stride, count)
        last = f"({at} + {count} - 1)"
        if isinstance(along, Window):
            low, high = (
                f"{along.stride} * {at} - {along.padding}",
                f"{along.stride} * {last} + {along.span - along.padding}",
            )
        else:
            assert isinstance(along, Sources)  # noqa: S101  # there is no third kind
            shift = along.padding - along.span + 1
            low = f"ew_floor_div({at} + ({shift}), {along.stride})"
            high = f"ew_floor_div({last} + {along.padding}, {along.stride}) + 1"
        prefix = f"{name}_{dim}"
        self.out.put(f"const int32_t {prefix}_from = ew_clip({low}, {size});")
        self.out.put(f"const int32_t {prefix}_n = ew_clip({high}, {size}) - {prefix}_from;")
        return Piece(along.axis, f"{prefix}_from", low), f"{prefix}_n"

    def _slice(self, name: str, part: Operand | Result, source: View) -> View:
        """The slice of `source` that the tile at hand needs."""
        offset, sizes = source.offset, []
        pieces: dict[int, Piece] = {}
        for dim, (along, size) in enumerate(zip(part.along, part.size, strict=True)):
            piece, length = self._extent(name, dim, along, size)
            if piece is not None:
                pieces[dim] = piece
                offset = plus(offset, times(source.stride[dim], piece.start))
            sizes.append(length)
        if isinstance(part, Operand) and part.slot is not None:
            self.pieces[part.slot] = pieces
        return replace(source, size=tuple(sizes), offset=offset)

    def _source(self, operand: Operand) -> View:
        if operand.slot is not None:
            return self.program[operand.slot]
        layout = self.run.captured.layouts[operand.value]
        return View(operand.value, layout.dtype, layout.size, layout.stride, layout.offset)

    def _load(self, name: str, operand: Operand) -> View:
        """What a kernel gets of `operand`: its slice where it lies, or a copy of it from the store."""
        source = self._source(operand)
        if operand.gathered:
            return source if operand.value in self.run.streamed else self._in_ram(source)
        part = self._slice(name, operand, source)
        if operand.value not in self.run.streamed:
            return _unrepeated(self._in_ram(part), operand)
        tile = _dense(replace(part, place=self.room(operand_bytes(self.loop, operand))))
        self._read(tile, part)
        return _unrepeated(tile, operand)

    def _in_ram(self, view: View) -> View:
        return replace(view, place=self.run.place(view.value))

    def _read(self, tile: View, part: View) -> None:
        access = self.run.access[part.value]
        head = f"{access.slot}, {access.version}, {part.dtype.itemsize}"
        self._transfer("ew_slice_read", head, tile, part)

    def _write(self, tile: View, part: View, value: str) -> None:
        head = f"{self.run.access[value].slot}, {part.dtype.itemsize}"
        self._transfer("ew_slice_write", head, tile, part)

    def _transfer(self, function: str, head: str, tile: View, part: View) -> None:
        sizes = tuple(1 if s == 0 else n for n, s in zip(tile.size, tile.stride, strict=True)) or (1,)
        strides = ", ".join(map(str, part.stride)) or "1"
        self.out.open("")
        self.out.put(tensor("t", replace(tile, size=sizes, stride=tile.stride or (1,)), lambda v: v.place))
        self.out.put(f"static const int32_t stride[] = {{{strides}}};")
        self.out.put(f"TRY({function}({head}, &t, stride, {part.offset}));")
        self.out.close()

    # -- results ----------------------------------------------------------------------------------------

    def _result(self, index: int, result: Result) -> "_Made":
        """Where result `index` is made, and its parts, if it is a sum."""
        summed = self.loop.is_summed(result) and 0 not in result.size
        size = result_bytes(self.loop, result)
        direct = result.value is not None and result.value not in self.run.streamed
        place = "" if direct or not result.fresh else self.room(size)
        part = self.room(size) if summed and result.fresh else ""
        others = [self.at[axis] for axis in self.order if axis not in result.axes] if summed else []
        ends = [
            f"{self.at[a]} + {self.count[a]} == {self.nest.extent(a)}"
            for a in self.order
            if a not in result.axes
        ]
        return _Made(index, result, place, part, " && ".join(f"{a} == 0" for a in others), " && ".join(ends))

    def _tile(self, results: "Sequence[_Made]") -> None:
        targets = [self._target(made) for made in results]
        views = [target.made for target in targets]
        extent = {axis.name: axis.extent for axis in self.nest.axes}
        tile = Tile(self.slots, self.values, views, self.pieces, self.at, self.count, extent, self.workspace)
        if self._reads_rows():
            self._rows(tile)
        else:
            for guarded in tile_statements(self.kernel, tile, first=self.run.first):
                self.out.open(f"if ({guarded.condition})") if guarded.condition else None
                self.calls(guarded.calls)
                for index in guarded.makes:
                    self._accumulate(results[index], targets[index])
                self.out.close() if guarded.condition else None
        self._save_inouts()
        for made, target in zip(results, targets, strict=True):
            self._finish(made, target)

    def _target(self, made: "_Made") -> "_Target":
        """Views of the slice of a result: the sum, and what the tile makes of it."""
        result = made.result
        name = f"y{made.index}"
        if not result.fresh:  # handed on as it came
            (operand,) = self.nest.operands
            view = self.slots[operand.slot] if operand.slot is not None else self.values[operand.value]
            return _Target(view, view, view)
        layout_dtype = self._dtype(result)
        source = View(result.value or "", layout_dtype, result.size, result.stride)
        part = self._slice(name, result, source)
        if not made.place and result.value is not None:
            layout = self.run.captured.layouts[result.value]
            total = replace(part, offset=plus(layout.offset, part.offset), place=self.run.place(result.value))
        else:
            total = _dense(replace(part, place=made.place))
        if not made.part:
            return _Target(total, total, part)
        # A part of a sum has the strides of the sum, or is dense where the sum is not.
        dense = _dense(replace(part, place=made.part))
        self.out.put(f"const int first_{name} = {made.is_first};")
        return _Target(self._either(name, total, dense), total, part, dense)

    def _either(self, name: str, total: View, part: View) -> View:
        """The first tile of a sum makes the sum itself, the others parts of it."""
        address = plus(total.place, times(total.offset, total.dtype.itemsize))
        self.out.put(f"uint8_t *const {name} = first_{name} ? {address} : {part.place};")
        strides: list[Extent] = []
        for dim, (own, other) in enumerate(zip(total.stride, part.stride, strict=True)):
            if own == other:
                strides.append(own)
                continue
            self.out.put(f"const int32_t {name}_stride{dim} = first_{name} ? {own} : {other};")
            strides.append(f"{name}_stride{dim}")
        return replace(total, place=name, offset=0, stride=tuple(strides))

    def _dtype(self, result: Result) -> Any:
        layouts = self.run.captured.layouts
        if result.value is not None:
            return layouts[result.value].dtype
        producer = getattr(self.kernel, "producer", None)
        return layouts[producer.op.outputs[0]].dtype if producer is not None else self.program[-1].dtype

    def _accumulate(self, made: "_Made", target: "_Target") -> None:
        if target.part is None:
            return
        self.out.open(f"if (!first_y{made.index})")
        whole = target.total.dtype == torch.int64
        function, factor = ("ew_add_i64", 1) if whole else ("ew_add", 1.0)
        self.calls((Call(function, (target.total, target.total, target.part, factor)),))
        self.out.close()

    def _finish(self, made: "_Made", target: "_Target") -> None:
        """Store a sum that is done, or hand it to its sink."""
        sinks = dict(self.nest.sinks)
        stored = made.result.value is not None and bool(made.place)
        if made.index not in sinks and not stored:
            return
        self.out.open(f"if ({made.is_last})" if made.is_last else "")
        if made.index in sinks:
            self._apply(made, target, sinks[made.index].olds)
        else:
            assert made.result.value is not None  # noqa: S101  # as `stored` says
            self._write(target.total, target.slice, made.result.value)
        self.out.close()

    def _apply(self, made: "_Made", target: "_Target", olds: Sequence[Operand]) -> None:
        """The update of the slices of a parameter and its states, or the carrying over of a buffer."""
        sources = [self._source(old) for old in olds]
        tiles = [self._load(f"o{made.index}_{i}", old) for i, old in enumerate(olds)]
        kernel = self.kernel
        if isinstance(kernel, CarryKernel):
            self.calls((copy(tiles[0], target.total),))
        else:
            assert isinstance(kernel, UpdateKernel)  # noqa: S101  # nobody else has sinks
            change = self._change(kernel, made)
            gradient = self._gradient(kernel, change, made, target.total, tiles[0])
            self.calls((optimizer_call(kernel.optimizer, tiles[0], gradient, tiles[1:]),))
        for index, (old, source, tile) in enumerate(zip(olds, sources, tiles, strict=True)):
            if old.value in self.run.streamed:
                part = self._slice(f"w{made.index}_{index}", old, source)
                self._write(tile, part, self._new(old.value))

    def _new(self, old: str) -> str:
        return dict(self.run.captured.graph.op[self.run.op].updates)[old]

    def _change(self, kernel: UpdateKernel, made: "_Made") -> Change:
        if kernel.producer is None:
            return kernel.changes[0]
        name = self._produced(kernel)[made.index]
        return next(change for change in kernel.changes if change.program.operands[0] == name)

    def _produced(self, kernel: UpdateKernel) -> tuple[str, ...]:
        assert kernel.producer is not None  # noqa: S101  # asked for only then
        return kernel.producer.op.outputs

    def _gradient(self, kernel: UpdateKernel, change: Change, made: "_Made", tile: View, like: View) -> View:
        """`tile` with its dims in the order of the parameter's."""
        if kernel.producer is None:
            return tile
        layouts = self.run.captured.layouts
        name = self._produced(kernel)[made.index]
        seen = slots_of(change.program, {name: layouts[name]})[change.gradient.index]
        order = order_of(replace(made.result, value=name), seen.size, seen.stride)  # type: ignore[arg-type]
        assert order is not None  # noqa: S101  # or there were no such nest
        kept = [dim for dim in order if dim is not None]
        view = tile.permute(kept)
        for dim, place in enumerate(order):
            if place is None:
                view = view.unsqueeze(dim)
        return replace(view, size=like.size)

    def _save_inouts(self) -> None:
        for operand in self.nest.inouts if self.run.first else ():
            if operand.value in self.run.streamed:
                source = self._source(operand)
                part = self._slice(f"v{self.nest.inouts.index(operand)}", operand, source)
                self._write(self.values[operand.value], part, self._new(operand.value))

    # -- rows of a table that is not in RAM -------------------------------------------------------------

    def _reads_rows(self) -> bool:
        return any(o.gathered and o.value in self.run.streamed for o in self.nest.operands)

    def _rows(self, tile: Tile) -> None:
        table, index = self.nest.operands
        access = self.run.access[table.value]
        assert index.slot is not None  # noqa: S101  # it is an operand of an ATen call
        self.out.open("")
        self.out.put(
            tensor("t", tile.made[0], lambda v: v.place),
            tensor("rows", tile.slots[index.slot], lambda v: v.place),
        )
        self.out.put(f"TRY(ew_rows_read(&t, {access.slot}, {access.version}, &rows));")
        self.out.close()

    def calls(self, calls: Sequence[Call]) -> None:
        """Make `calls`."""
        for call in calls:
            self.out.put(*render(call, lambda view: view.place))


@dataclass(frozen=True)
class _Made:
    """A result of the nest: its places in the room, empty where it is made where it belongs."""

    index: int
    result: Result
    place: str
    part: str
    is_first: str
    is_last: str


@dataclass(frozen=True)
class _Target:
    """Of one tile: what the kernels make, the sum that it goes into, and the slice of the stored value."""

    made: View
    total: View
    slice: View
    part: View | None = None


def _dense(view: View) -> View:
    """`view` without gaps, its dims in the same order in memory; what repeats one element keeps doing so."""
    fixed = [s if isinstance(s, int) else 0 for s in view.stride]
    order = sorted((d for d in range(view.dims) if fixed[d]), key=lambda d: (fixed[d], -d))
    strides: list[Extent] = [0] * view.dims
    run: Extent = 1
    for dim in order:
        strides[dim] = run
        run = times(run, view.size[dim])
    return replace(view, stride=tuple(strides), offset=0)


def _unrepeated(view: View, operand: Operand) -> View:
    """With one element along each dim that repeats, if the operand is broadcast by the kernel's rule."""
    if not operand.broadcasts:
        return view
    return replace(view, size=tuple(1 if s == 0 else n for n, s in zip(view.size, view.stride, strict=True)))
