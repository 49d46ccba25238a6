"""Recurrent layers as they are traced: PyTorch's decomposition of them, with the dropout that it forgets.

`nn.RNN`, `nn.GRU` and `nn.LSTM` drop elements between their layers, but the decomposition that tracing takes
in their place asks `num_layers < i - 1`, which is never so. Here it is called for one layer at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def recurrent_dropout() -> Iterator[None]:
    """Dropout between recurrent layers is traced."""
    from torch._decomp import decompositions  # noqa: PLC0415 (private, and slow to import)

    before = decompositions._rnn_helper  # noqa: SLF001
    decompositions._rnn_helper = _layer_by_layer(before)  # noqa: SLF001
    try:
        yield
    finally:
        decompositions._rnn_helper = before  # noqa: SLF001


def _layer_by_layer(helper: Callable[..., tuple[Tensor, list[Any]]]) -> Callable[..., Any]:
    def layers(x: Tensor, hidden: Any, params: Any, has_biases: bool, num_layers: int, *settings: Any) -> Any:
        dropout, train, bidirectional, batch_first, layer = settings
        x = x.transpose(0, 1) if batch_first else x
        width, final = 1 + bidirectional, []
        for i in range(num_layers):
            own = slice(i * width, (i + 1) * width)
            one = (hidden[own], params[own], has_biases, 1, 0.0, train, bidirectional, False, layer)
            x, made = helper(x, *one)
            final += made
            if dropout and train and i < num_layers - 1:
                x = torch.dropout(x, dropout, train=True)
        return (x.transpose(0, 1) if batch_first else x), final

    return layers
