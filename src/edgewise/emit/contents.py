"""The bytes that values have before the first step."""

import torch
from torch import Tensor

from edgewise.capture import Captured


def initial(captured: Captured, name: str) -> bytes:
    """The bytes that the carried value `name` has before the first step."""
    tensor, storage = captured.empty(name)
    storage.zero_()
    found = dict([*captured.model.named_parameters(), *captured.model.named_buffers()]).get(name)
    found = captured.constants.get(name) if found is None else found
    if found is not None:
        tensor.copy_(found.detach())
    elif name not in captured.states:
        raise KeyError(name)
    return as_bytes(storage)[: captured.layouts[name].storage_bytes]


def as_bytes(tensor: Tensor) -> bytes:
    """The bytes of a dense tensor."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
