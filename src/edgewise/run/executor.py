"""Executes a Plan in PyTorch: what is freed is freed, what is paged out is on disk, every byte is counted."""

import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewise.capture import Captured
from edgewise.capture.joint import HOLE
from edgewise.capture.lowering import STEP
from edgewise.capture.tiling import Turn
from edgewise.devices import Device
from edgewise.errors import DeviceError, UsageError
from edgewise.graph import Op, Option
from edgewise.plan import Certificate, Compute, Free, PageIn, PageOut, Plan, Step, check
from edgewise.run import process
from edgewise.run.carried import Carried
from edgewise.run.counter import Counter
from edgewise.run.pager import Pager


class StepResult(msgspec.Struct, frozen=True):
    """What one executed step showed.

    `peak_bytes` is the executor's own count of the storages it held, with the workspace that ops declare, and
    `live_bytes[i]` that count's peak during plan step i. `process_bytes` is how far the process's high-water
    mark rose above where it stood before the step (0 where the kernel does not tell).
    """

    loss: float
    seconds: float
    peak_bytes: int
    live_bytes: tuple[int, ...]
    process_bytes: int
    bytes_written: int
    bytes_read: int
    notes: dict[str, Tensor] = {}
    """Other results of the step, by the names that its method gives them."""


class Executor:
    """Runs the steps of one plan, again and again, on the parameters of the captured model.

    The plan is checked first. While the executor is open it owns the model's parameters and buffers: what the
    plan moves out of RAM is out of the model's memory too, also between steps if it lives in the slower tier.
    `sync` or `close` puts everything back into the model.

    Parameters change in place as soon as their gradients are ready, so a step that is interrupted (an error,
    a full disk, Ctrl-C) may leave them part old, part new. The executor knows: if nothing had changed yet, it
    goes back to where the step began; else `step`, `state` and `sync` refuse until `load_state` has put a
    whole state back.

    Args:
        captured: the training step; `captured.model` is what gets trained.
        plan: a plan for `captured.graph` on `device`.
        device: the device that the plan was made for.
        paging_dir: where the paging file is made; the system's temporary directory by default.

    Raises:
        PlanRejected: the plan does not pass `check`.
        DeviceError: the paging directory cannot hold what the plan pages; nothing was changed.
    """

    def __init__(
        self, captured: Captured, plan: Plan, device: Device, *, paging_dir: Path | None = None
    ) -> None:
        self.captured, self.plan = captured, plan
        self.certificate: Certificate = check(plan, captured.graph, device)
        process.return_freed_memory()
        self._pager = _open_pager(captured, plan, paging_dir)
        try:
            self._carried = Carried(captured, plan, self._pager)
        except BaseException:
            self._close_pager()
            raise
        self._tensors: dict[str, Tensor] = {}
        self._counter = Counter()
        self._done: set[str] = set()
        self._changed = False  # whether the step under way has changed a parameter, buffer or state
        self._torn: int | None = None  # the step that was interrupted after it had changed something
        self._closed = False

    # -- between steps -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters, buffers and optimizer states, by name.

        Raises:
            UsageError: the executor is closed, or the last step was interrupted half-way.
            DeviceError: a value cannot be read from the paging file.
        """
        self._check_whole()
        return self._carried.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Replace parameters, buffers and optimizer states by those of `state`.

        Raises:
            UsageError: the executor is closed; a tensor is missing, unknown, or of another shape or dtype.
            DeviceError: a value cannot be written to the paging file.
        """
        self._check_open()
        self._carried.load(state)
        self._torn = None

    def sync(self) -> None:
        """Bring every parameter and buffer up to date in the model, also those that live in the slower tier.

        Raises:
            UsageError: the executor is closed, or the last step was interrupted half-way.
            DeviceError: a value cannot be read from the paging file.
        """
        self._check_whole()
        self._carried.sync()

    def close(self) -> None:
        """Give the parameters back to the model, whole or not, and remove the paging file."""
        if self._closed:
            return
        self._closed = True
        try:
            self._carried.sync()
        finally:
            self._close_pager()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second failure of the disk must not hide the first.
        with suppress(DeviceError) if error is not None else nullcontext():
            self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("This executor is closed; its parameters are in the model. Make a new one.")

    def _check_whole(self) -> None:
        self._check_open()
        if self._torn is not None:
            raise UsageError(
                f"Training step {self._torn} was interrupted after it had begun to change the parameters: "
                "they are part old, part new. Put a whole state back with `load_state`, as from a checkpoint."
            )

    def _close_pager(self) -> None:
        if self._pager is not None:
            self._pager.close()

    # -- one step ------------------------------------------------------------------------------------------

    def step(self, batch: tuple[Any, Any], step: int) -> StepResult:
        """Run one training step.

        Args:
            batch: `(inputs, targets)` of the captured shapes and dtypes.
            step: number of the step, from 0: the key of everything random, and the optimizer's count.

        Raises:
            UsageError: the batch has another structure, shape or dtype than the captured one; the executor is
                closed, or an earlier step was interrupted half-way.
            DeviceError: paging failed.
        """
        self._check_whole()
        bound = self._bind(batch)
        self._changed = False
        try:
            return self._execute(bound, step)
        except BaseException:
            self._rescue(step)
            raise

    def _execute(self, batch: dict[str, Tensor], step: int) -> StepResult:
        tensors = self._tensors = {**self._carried.tensors, **batch}
        self._carried.release()
        if STEP in self.captured.graph.value:
            tensors[STEP] = torch.tensor(step, dtype=torch.int64)
        written, read = self._traffic()
        before = process.resident_bytes() if process.reset_peak() else None
        begin = time.perf_counter()
        peaks = self._run_all()
        seconds = time.perf_counter() - begin
        rise = process.peak_resident_bytes() - before if before is not None else 0
        loss = float(self.captured.loss.of(tensors))
        notes = {name: reading.of(tensors).clone() for name, reading in self.captured.notes.items()}
        self._carried.end(tensors)
        self._tensors = {}
        now_written, now_read = self._traffic()
        return StepResult(
            loss=loss,
            seconds=seconds,
            peak_bytes=max(peaks),
            live_bytes=tuple(peaks[1:]),
            process_bytes=max(rise, 0),
            bytes_written=now_written - written,
            bytes_read=now_read - read,
            notes=notes,
        )

    def _run_all(self) -> list[int]:
        """Peaks of live bytes: before the first step of the plan, then during each."""
        counter = self._counter
        counter.start(self._tensors.values())
        self._done.clear()
        peaks = [counter.peak_bytes]
        with torch.no_grad():
            for action in self.plan.steps:
                counter.mark()
                self._run(action)
                peaks.append(counter.peak_bytes)
        if self._pager is not None:
            self._pager.wait_all()
        return peaks

    def _run(self, action: Step) -> None:
        match action:
            case Compute(op, option, streamed):
                self._compute(op, option, streamed)
            case Free(name):
                self._wait(name)
                self._counter.drop(self._tensors.pop(name))
            case PageOut(name):
                self._the_pager().write(name, self._tensors[name])
            case PageIn(name):
                tensor, storage = self.captured.empty(name)
                self._tensors[name] = tensor
                self._counter.add(tensor)
                self._the_pager().read(name, storage)

    def _compute(self, name: str, option_name: str, streamed: tuple[str, ...]) -> None:
        op = self.captured.graph.op[name]
        option = op.option(option_name) or op.options[0]
        first = name not in self._done
        self._done.add(name)
        for operand in (*(op.reads if first else op.inputs), *op.outputs):
            self._wait(operand)
        self._changed = self._changed or (first and bool(op.updates))
        run = self._loop if option.is_tiled else self._call
        run(op, option, frozenset(streamed), first=first)
        if first:
            for old, new in op.updates:
                if old not in streamed:
                    self._tensors[new] = self._tensors.pop(old)

    def _call(self, op: Op, option: Option, streamed: frozenset[str], *, first: bool) -> None:
        """Execute an op by one call."""
        del streamed  # nothing, for this is no loop
        made = self.captured.kernels[op.name](self._tensors, option.name, first, self._counter)
        self._counter.note_compute(made, 0)
        overwritten = {new: old for old, new in option.overwrites}
        results = tuple(
            result if output in overwritten else self._own(output, result)
            for output, result in zip(op.outputs, made, strict=True)
        )
        self._counter.note_compute(results, option.workspace_bytes)
        self._hold(dict(zip(op.outputs, results, strict=True)), tuple(overwritten.values()))

    def _loop(self, op: Op, option: Option, streamed: frozenset[str], *, first: bool) -> None:
        """Execute an op slice by slice, `streamed` operands from where they lie in the paging file."""
        made = {name: self.captured.empty(name)[0] for name in op.outputs if name not in streamed}
        for tensor in made.values():
            self._counter.add(tensor)
        pager = self._the_pager() if streamed else None
        maps = {name: self.captured.over(name, pager.map(name)) for name in streamed} if pager else {}
        loop = self.captured.loops[op.name][option.name]
        try:
            Turn(loop, {**self._tensors, **made, **maps}, streamed, first, self._counter, pager).run()
        finally:
            maps.clear()
            for name in streamed:
                self._the_pager().unmap(name)
        self._hold(made, ())

    def _hold(self, results: dict[str, Tensor], overwritten: tuple[str, ...]) -> None:
        for old in overwritten:
            self._counter.drop(self._tensors.pop(old))
        for output, result in results.items():
            if output in self._tensors:
                self._counter.drop(self._tensors.pop(output))
            self._tensors[output] = result
            self._counter.add(result)

    def _own(self, name: str, result: Tensor) -> Tensor:
        """`result` in a storage of its own, of just its size and laid out as the trace has it.

        A kernel may return a view, or room it worked in. And some lay out what they make otherwise than the
        fake one does (`copy` onto a part of a tensor): paged out and in again, it would be another tensor.
        """
        larger = result.untyped_storage().nbytes() > self.captured.graph.value[name].bytes
        if not larger and not self._counter.holds(result) and self.captured.layouts[name].is_of(result):
            return result
        own, layout = self.captured.empty(name)[0], self.captured.layouts[name]
        once = tuple(slice(None if stride else 1) for stride in layout.stride)  # elements that share a place
        own[once].copy_(result[once])
        return own

    def _rescue(self, step: int) -> None:
        """After a step that did not finish: back to its beginning if nothing was changed, else torn."""
        for name in self._pager.settle() if self._pager is not None else ():
            self._tensors.pop(name, None)  # its bytes never came
        if not self._carried.rescue(self._tensors, changed=self._changed):
            self._torn = step
        self._tensors = {}

    def _wait(self, name: str) -> None:
        if self._pager is not None:
            self._pager.wait(name)

    def _the_pager(self) -> Pager:
        if self._pager is None:
            raise UsageError("The plan pages, but no paging file is open. Make a new executor.")
        return self._pager

    def _bind(self, batch: tuple[Any, Any]) -> dict[str, Tensor]:
        """The tensors of `batch` by value name, each in a storage that holds nothing else."""
        captured = self.captured
        leaves, spec = pytree.tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        rest = [HOLE if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        if spec != captured.batch_spec or rest != list(captured.batch_leaves):
            raise UsageError(
                "The batch differs from the one that the step was captured for in more than its tensors: "
                f"{_outline(rest, spec)}, not {_outline(captured.batch_leaves, captured.batch_spec)}. "
                "Use batches like the example, or capture again."
            )
        bound = {}
        for name, tensor in zip(captured.batch, tensors, strict=True):
            layout = captured.layouts[name]
            if tuple(tensor.shape) != layout.size or tensor.dtype != layout.dtype:
                raise UsageError(
                    f"Tensor `{name}` is {tuple(tensor.shape)} {tensor.dtype}; the step was captured for "
                    f"{layout.size} {layout.dtype}. Use batches of that size, or capture again."
                )
            if name in captured.graph.value:
                whole = tensor.detach().contiguous()
                alone = whole.untyped_storage().nbytes() == captured.graph.value[name].bytes
                bound[name] = whole if alone else whole.clone()
        return bound

    def _traffic(self) -> tuple[int, int]:
        return (self._pager.bytes_written, self._pager.bytes_read) if self._pager else (0, 0)


def _open_pager(captured: Captured, plan: Plan, directory: Path | None) -> Pager | None:
    """A pager with a slot for each value that is paged or streamed; all versions of one share a slot."""
    graph = captured.graph
    replaced = {new: old for op in graph.ops for old, new in op.updates}
    paged = dict.fromkeys((*plan.homes, *(graph.carries[n] for n in plan.homes if n in graph.carries)))
    for step in plan.steps:
        match step:
            case PageOut(name):
                paged[name] = None
            case Compute(name, streamed=streamed):
                paged.update(dict.fromkeys(streamed))
                paged.update({new: None for old, new in graph.op[name].updates if old in streamed})
            case _:
                pass
    if not paged:
        return None
    first = {}
    for name in paged:
        first[name] = name
        while first[name] in replaced:
            first[name] = replaced[first[name]]
    pager = Pager({name: graph.value[name].bytes for name in first.values()}, directory)
    for name, source in first.items():
        pager.share_slot(source, name)
    return pager


def _outline(leaves: Iterable[Any], spec: pytree.TreeSpec) -> str:
    """A batch in short, with `T` for each tensor."""
    marks = ["T" if leaf is HOLE else leaf for leaf in leaves]
    return str(pytree.tree_unflatten(marks, spec)).replace("'T'", "T")
