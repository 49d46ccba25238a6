"""What one step hands to the next: parameters, buffers and optimizer states, in RAM or in the slower tier.

While a plan runs it owns the memory of the model. A value whose home is the slower tier, or that the plan
drops from RAM for a while, must not be kept alive by the model's own tensor, or its memory would not be free
at all: such tensors of the model stand empty until `sync`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from edgewise.capture import Captured
from edgewise.errors import DeviceError, UsageError
from edgewise.plan import Free, Plan
from edgewise.run.pager import Pager


class Carried:
    """The carried values of one captured step under one plan.

    `tensors` holds those in RAM between steps, by the name under which the step begins with them.
    """

    def __init__(self, captured: Captured, plan: Plan, pager: Pager | None) -> None:
        self.captured, self.pager = captured, pager
        self.homes = frozenset(plan.homes)
        self.names = [v.name for v in captured.graph.sources() if v.kind in ("parameter", "state")]
        self.owners = {name: tensor for name, tensor in _named_tensors(captured) if name in self.names}
        self.of_user = [n for n in self.names if n in self.owners or n in captured.states]
        self.tensors: dict[str, Tensor] = {}
        self._versions = _versions(captured)
        freed = {step.value for step in plan.steps if isinstance(step, Free)}
        self._leaving = [n for n in self.names if n in self.homes or freed & set(self._versions_of(n))]
        for name in self.names:
            tensor = self._first_content(name)
            if name in self.homes:
                self._write_home(name, tensor)
            else:
                self.tensors[name] = tensor

    def _versions_of(self, name: str) -> list[str]:
        return self._versions.get(name, [name])

    def _first_content(self, name: str) -> Tensor:
        if name in self.captured.states:
            return self._filled(name, 0)
        owner = self.owners.get(name, self.captured.constants.get(name))
        layout = self.captured.layouts[name]
        if owner is None or tuple(owner.shape) != layout.size:
            raise UsageError(
                f"`{name}` of the model is not {layout.size} any more, as it was when it was captured. "
                "Close the executor that holds it, or capture the model again."
            )
        own, size = owner.detach(), self.captured.graph.value[name].bytes
        if own.stride() == layout.stride and own.untyped_storage().nbytes() == size:
            return own
        content = self._filled(name, 0)  # a part of something larger: give it a storage of its own
        content.copy_(own)
        owner.data = content
        return content

    def _filled(self, name: str, content: float) -> Tensor:
        return self.captured.empty(name)[0].fill_(content)

    # -- around a step -------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let go of all that the plan moves, so that nobody but the step under way holds it."""
        for name in self._leaving:
            self.tensors.pop(name, None)
            self.captured.constants.pop(name, None)
            if name in self.owners:
                self.owners[name].data = torch.empty(0, dtype=self.owners[name].dtype)

    def end(self, tensors: dict[str, Tensor]) -> None:
        """Take over what a finished step left in RAM."""
        carries = self.captured.graph.carries
        self.tensors = {n: tensors[carries.get(n, n)] for n in self.names if n not in self.homes}

    def rescue(self, tensors: dict[str, Tensor], *, changed: bool) -> bool:
        """Take over what an unfinished step left; False if that is not the state it began with.

        What was out of RAM is read back; where that fails it is lost, and becomes NaN.
        """
        whole = not changed
        for name in self._leaving:
            if name in self.homes:
                continue
            found = [tensors[v] for v in self._versions_of(name) if v in tensors]
            try:
                self.tensors[name] = found[-1] if found else self._read(name)
            except DeviceError:
                whole = False
                floating = self.captured.layouts[name].dtype.is_floating_point
                self.tensors[name] = self._filled(name, float("nan") if floating else 0)
        return whole

    # -- between steps -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters, buffers and optimizer states, by name."""
        return {name: self._fetch(name).clone() for name in self.of_user}

    def load(self, state: dict[str, Tensor]) -> None:
        """Replace all of them by those of `state`."""
        self._check_state(state)
        for name, tensor in state.items():
            content = self._filled(name, 0) if name in self.homes else self.tensors[name]
            content.copy_(tensor.detach())
            if name in self.homes:
                self._write_home(name, content)

    def _check_state(self, state: dict[str, Tensor]) -> None:
        odd = sorted(set(self.of_user) ^ set(state))
        if odd:
            listed = ", ".join(f"`{name}`" for name in odd[:8]) + (" ..." if len(odd) > 8 else "")
            raise UsageError(
                f"The state does not fit this model and optimizer; missing or unknown: {listed}. "
                "Load the state of a run with the same model and optimizer."
            )
        for name, tensor in state.items():
            layout = self.captured.layouts[name]
            if tuple(tensor.shape) != layout.size or tensor.dtype != layout.dtype:
                raise UsageError(
                    f"The state has `{name}` as {tuple(tensor.shape)} {tensor.dtype}, not {layout.size} "
                    f"{layout.dtype}. Load the state of a run with the same model and optimizer."
                )

    def sync(self) -> None:
        """Bring every parameter and buffer up to date in the model."""
        for name in self._leaving:
            if name in self.owners:
                self.owners[name].data = self._fetch(name)
            elif name not in self.captured.states:
                self.captured.constants[name] = self._fetch(name)

    def _fetch(self, name: str) -> Tensor:
        """The current tensor of a carried value, read from the slower tier if it lives there."""
        return self.tensors[name] if name in self.tensors else self._read(name)

    def _read(self, name: str) -> Tensor:
        tensor, storage = self.captured.empty(name)
        self._paging().read(name, storage)
        self._paging().wait(name)
        return tensor

    def _write_home(self, name: str, tensor: Tensor) -> None:
        self._paging().write(name, tensor)
        self._paging().wait(name)

    def _paging(self) -> Pager:
        if self.pager is None:
            raise DeviceError("The plan pages, but no paging file is open. Make a new executor.")
        return self.pager


def _named_tensors(captured: Captured) -> Iterator[tuple[str, Tensor]]:
    yield from captured.model.named_parameters()
    yield from captured.model.named_buffers()


def _versions(captured: Captured) -> dict[str, list[str]]:
    """`value -> [value, its update, the update of that, ...]` for what a step changes."""
    follow = {old: new for op in captured.graph.ops for old, new in op.updates}
    chains = {}
    for head in captured.graph.carries:
        chain = [head]
        while chain[-1] in follow:
            chain.append(follow[chain[-1]])
        chains[head] = chain
    return chains
