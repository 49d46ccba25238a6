"""Executes a Plan in PyTorch: what is freed is freed, what is paged out is on disk, and every byte is counted."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewise.capture import Captured
from edgewise.capture.lowering import STEP
from edgewise.devices import Device
from edgewise.errors import UsageError
from edgewise.plan import Certificate, Compute, Free, PageIn, PageOut, Plan, check
from edgewise.run import process
from edgewise.run.pager import Pager


class StepResult(msgspec.Struct, frozen=True):
    """What one executed step showed.

    `peak_bytes` is the executor's own count of the storages it held, with the workspace that ops declare, and
    `live_bytes[i]` that count's peak during plan step i. `process_bytes` is how far the process's high-water mark
    rose above where it stood before the step (0 where the kernel does not tell).
    """

    loss: float
    seconds: float
    peak_bytes: int
    live_bytes: tuple[int, ...]
    process_bytes: int
    bytes_written: int
    bytes_read: int


class Executor:
    """Runs the steps of one plan, again and again, on the parameters of the captured model.

    The plan is checked first. While the executor is open it owns the model's parameters and buffers: those that live
    in the slower tier are not in memory between steps. `sync` or `close` puts them back into the model.

    Args:
        captured: the training step; `captured.model` is what gets trained.
        plan: a plan for `captured.graph` on `device`.
        device: the device that the plan was made for.
        paging_dir: where the paging file is made; the system's temporary directory by default.

    Raises:
        PlanRejected: the plan does not pass `check`.
        DeviceError: the paging directory cannot hold what the plan pages.
    """

    def __init__(
        self, captured: Captured, plan: Plan, device: Device, *, paging_dir: Path | None = None
    ) -> None:
        self.captured, self.plan = captured, plan
        self.certificate: Certificate = check(plan, captured.graph, device)
        process.return_freed_memory()
        self._owners = _owners(captured)
        self._pager = self._open_pager(paging_dir)
        self._tensors: dict[str, Tensor] = {}
        self._counter = _Counter()
        self._done: set[str] = set()
        self._take_sources()

    # -- between steps -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters, buffers and optimizer states, by name."""
        return {name: self._fetch(name).clone() for name in self._carried()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Replace parameters, buffers and optimizer states by those of `state`.

        Raises:
            UsageError: a tensor is missing, unknown, or of another shape or dtype.
        """
        expected = set(self._carried())
        if expected != set(state):
            odd = sorted(expected ^ set(state))
            raise UsageError(f"The state does not fit this model and optimizer: {', '.join(odd[:8])} missing or unknown.")
        for name, tensor in state.items():
            layout = self.captured.layouts[name]
            if tuple(tensor.shape) != layout.size or tensor.dtype != layout.dtype:
                raise UsageError(f"The state has `{name}` as {tuple(tensor.shape)} {tensor.dtype}, not {layout.size} {layout.dtype}.")
            held = self._fetch(name)
            with torch.no_grad():
                held.copy_(tensor)
            self._store_back(name, held)

    def sync(self) -> None:
        """Bring every parameter and buffer up to date in the model, also those that live in the slower tier."""
        for name in self._owners:
            if name in self.plan.homes:
                _set(self._owners[name], self._fetch(name))

    def close(self) -> None:
        """Give the parameters back to the model and remove the paging file."""
        if self._pager is not None:
            self.sync()
            self._pager.close()
            self._pager = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- one step ------------------------------------------------------------------------------------------------------

    def step(self, batch: tuple[Any, Any], step: int) -> StepResult:
        """Run one training step.

        Args:
            batch: `(inputs, targets)` of the captured shapes and dtypes.
            step: number of the step, from 0: the key of everything random, and the optimizer's count.

        Raises:
            UsageError: the batch has another structure, shape or dtype than the captured one.
            DeviceError: paging failed; parameters are then part old, part new: resume from a checkpoint.
        """
        self._release_homes()
        tensors = self._tensors
        tensors.update(self._bind(batch))
        if STEP in self.captured.graph.value:
            tensors[STEP] = torch.tensor(step, dtype=torch.int64)
        counter = self._counter
        counter.start(tensors)
        self._done.clear()
        written, read = self._traffic()
        before = process.resident_bytes() if process.reset_peak() else None
        begin = time.perf_counter()
        peaks = []
        with torch.no_grad():
            for action in self.plan.steps:
                counter.peak = counter.live
                self._run(action)
                peaks.append(counter.peak)
        if self._pager is not None:
            self._pager.wait_all()
        seconds = time.perf_counter() - begin
        rise = process.peak_resident_bytes() - before if before is not None else 0
        loss = float(self.captured.loss.slots(tensors)[self.captured.loss_slot])
        self._finish()
        now_written, now_read = self._traffic()
        return StepResult(
            loss, seconds, max([counter.first, *peaks]), tuple(peaks), max(rise, 0), now_written - written, now_read - read
        )

    def _run(self, action: Compute | Free | PageOut | PageIn) -> None:
        match action:
            case Compute(op, option):
                self._compute(op, option)
            case Free(name):
                self._wait(name)
                self._counter.drop(self._tensors.pop(name))
            case PageOut(name):
                self._wait(name)
                assert self._pager is not None  # noqa: S101 (check refuses plans that page without a tier)
                self._pager.write(name, self._tensors[name])
            case PageIn(name):
                self._page_in(name)

    def _compute(self, name: str, option: str) -> None:
        op, tensors = self.captured.graph.op[name], self._tensors
        first = name not in self._done
        self._done.add(name)
        for operand in op.reads if first else op.inputs:
            self._wait(operand)
        results = self.captured.kernels[name](tensors, option, first)
        chosen = op.option(option)
        overwritten = {new: old for old, new in chosen.overwrites} if chosen else {}
        results = tuple(
            result if output in overwritten else self._own(result)
            for output, result in zip(op.outputs, results, strict=False)
        )
        self._counter.note_compute(results, chosen.workspace_bytes if chosen else 0)
        for old in overwritten.values():
            self._counter.drop(tensors.pop(old))
        for output, result in zip(op.outputs, results, strict=True):
            if output in tensors:
                self._counter.drop(tensors.pop(output))
            tensors[output] = result
            self._counter.add(result)
        if first:
            for old, new in op.updates:
                tensors[new] = tensors.pop(old)

    def _own(self, result: Tensor) -> Tensor:
        """`result` in a storage of its own, should a kernel have returned a view of an operand after all."""
        return result.clone() if self._counter.holds(result) else result

    def _page_in(self, name: str) -> None:
        assert self._pager is not None  # noqa: S101
        self._wait(name)
        layout = self.captured.layouts[name]
        storage = torch.empty(self.captured.graph.value[name].bytes, dtype=torch.uint8)
        tensor = torch.empty(0, dtype=layout.dtype)
        tensor.set_(storage.untyped_storage(), layout.offset, layout.size, layout.stride)  # type: ignore[call-overload]
        self._tensors[name] = tensor
        self._counter.add(tensor)
        self._pager.read(name, storage)

    def _wait(self, name: str) -> None:
        if self._pager is not None:
            self._pager.wait(name)

    # -- sources and what is carried ---------------------------------------------------------------------------------

    def _carried(self) -> list[str]:
        return [v.name for v in self.captured.graph.sources() if v.kind in ("parameter", "state")]

    def _open_pager(self, directory: Path | None) -> Pager | None:
        graph = self.captured.graph
        paged = dict.fromkeys((*self.plan.homes, *(s.value for s in self.plan.steps if isinstance(s, PageOut))))
        if not paged:
            return None
        replaced = {graph.carries[home]: home for home in self.plan.homes if home in graph.carries}
        pager = Pager({n: graph.value[n].bytes for n in paged if n not in replaced}, directory)
        for new, old in replaced.items():
            pager.share_slot(old, new)
        return pager

    def _take_sources(self) -> None:
        """Hold the model's own tensors and zero states; move those at home in the slower tier there."""
        for name in self._carried():
            tensor = self.captured.tensors.get(name)
            if tensor is None:
                layout = self.captured.layouts[name]
                tensor = torch.zeros(layout.count, dtype=layout.dtype).as_strided(layout.size, layout.stride)
            self._tensors[name] = tensor
            if name in self.plan.homes:
                self._store_back(name, tensor)
                del self._tensors[name]

    def _store_back(self, name: str, tensor: Tensor) -> None:
        if name in self.plan.homes and self._pager is not None:
            self._pager.write(name, tensor)
            self._pager.wait(name)

    def _release_homes(self) -> None:
        """Take what lives in the slower tier out of the model's memory."""
        for name in self.plan.homes:
            if name in self._owners:
                _set(self._owners[name], None)
                self.captured.tensors.pop(name, None)

    def _fetch(self, name: str) -> Tensor:
        """The current tensor of a carried value, read from the slower tier if it lives there."""
        if name in self._tensors:
            return self._tensors[name]
        self._page_in(name)
        self._wait(name)
        return self._tensors.pop(name)

    def _finish(self) -> None:
        """Give each carried value the name under which the next step looks for it; drop everything else."""
        carries = self.captured.graph.carries
        kept = {name: self._tensors[carries.get(name, name)] for name in self._carried() if name not in self.plan.homes}
        self._tensors = kept

    def _bind(self, batch: tuple[Any, Any]) -> dict[str, Tensor]:
        leaves, spec = pytree.tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if spec != self.captured.batch_spec or len(tensors) != len(self.captured.batch):
            raise UsageError(f"The batch has another structure ({spec}) than the captured one ({self.captured.batch_spec}).")
        bound = {}
        for name, tensor in zip(self.captured.batch, tensors, strict=True):
            layout = self.captured.layouts[name]
            if tuple(tensor.shape) != layout.size or tensor.dtype != layout.dtype:
                raise UsageError(
                    f"Tensor `{name}` is {tuple(tensor.shape)} {tensor.dtype}; the step was captured for "
                    f"{layout.size} {layout.dtype}. Use batches of that size, or capture again."
                )
            if name in self.captured.graph.value:
                bound[name] = tensor.detach().contiguous()
        return bound

    def _traffic(self) -> tuple[int, int]:
        return (self._pager.bytes_written, self._pager.bytes_read) if self._pager else (0, 0)


class _Counter:
    """Counts the bytes of the storages that are held, each storage once."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.live = self.peak = self.first = 0

    def start(self, tensors: dict[str, Tensor]) -> None:
        self.sizes.clear()
        self.live = 0
        for tensor in tensors.values():
            self.add(tensor)
        self.peak = self.first = self.live

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.sizes and tensor.untyped_storage().nbytes() > 0

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)

    def drop(self, tensor: Tensor) -> None:
        self.live -= self.sizes.pop(tensor.untyped_storage().data_ptr(), 0)

    def note_compute(self, results: tuple[Tensor, ...], workspace_bytes: int) -> None:
        fresh = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in results}
        new = sum(size for key, size in fresh.items() if key not in self.sizes)
        self.peak = max(self.peak, self.live + new + workspace_bytes)


Setter = Callable[[Tensor], None]


def _owners(captured: Captured) -> dict[str, Tensor]:
    """The model's own parameter and buffer objects, by value name."""
    named = {**dict(captured.model.named_parameters()), **dict(captured.model.named_buffers())}
    return {name: tensor for name, tensor in named.items() if name in captured.graph.value}


def _set(owner: Tensor, content: Tensor | None) -> None:
    """Give the model's tensor `owner` other contents, or none."""
    owner.data = content if content is not None else torch.empty(0, dtype=owner.dtype)
