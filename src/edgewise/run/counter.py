"""Counts the bytes that a step holds, storage by storage, as they come and go."""

from collections.abc import Iterable, Sequence

from torch import Tensor


class Counter:
    """Live bytes now and their peak since it was last set; tensors that share a storage count once."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self.live_bytes = self.peak_bytes = 0

    def start(self, tensors: Iterable[Tensor]) -> None:
        """Count `tensors` and nothing else."""
        self._sizes.clear()
        self.live_bytes = self.peak_bytes = 0
        for tensor in tensors:
            self.add(tensor)

    def mark(self) -> None:
        """Begin a new peak where the count stands now."""
        self.peak_bytes = self.live_bytes

    def holds(self, tensor: Tensor) -> bool:
        """Whether the storage of `tensor` is counted already."""
        return tensor.untyped_storage().data_ptr() in self._sizes and tensor.untyped_storage().nbytes() > 0

    def add(self, tensor: Tensor) -> None:
        """Count the storage of `tensor`, if it is not counted yet."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._sizes:
            self._sizes[storage.data_ptr()] = storage.nbytes()
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def drop(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` no longer."""
        self.live_bytes -= self._sizes.pop(tensor.untyped_storage().data_ptr(), 0)

    def note(self, hidden_bytes: int) -> None:
        """Let the peak know of bytes that were held for a moment beside what is counted."""
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + hidden_bytes)

    def note_compute(self, results: Sequence[Tensor], workspace_bytes: int) -> None:
        """Let the peak know of the moment in which operands, results and workspace are held at once."""
        storages = (result.untyped_storage() for result in results)
        fresh = {s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in self._sizes}
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + sum(fresh.values()) + workspace_bytes)
