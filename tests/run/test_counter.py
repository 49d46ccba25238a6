"""The executor's own count of bytes."""

import torch

from edgewise.run.counter import Counter


def test_a_storage_counts_once() -> None:
    counter, base = Counter(), torch.zeros(10)
    counter.start([base, base.t(), base[2:]])
    assert (counter.live_bytes, counter.peak_bytes) == (40, 40)
    assert counter.holds(base[5:])
    counter.drop(base)
    assert (counter.live_bytes, counter.peak_bytes) == (0, 40)


def test_peak_since_the_mark() -> None:
    counter, a, b = Counter(), torch.zeros(10), torch.zeros(5)
    counter.start([a, b])
    counter.drop(b)
    counter.mark()
    assert counter.peak_bytes == 40
    counter.add(b)
    assert counter.peak_bytes == 60


def test_compute_holds_operands_results_and_workspace_at_once() -> None:
    counter, operand, result = Counter(), torch.zeros(10), torch.zeros(3)
    counter.start([operand])
    counter.note_compute([result, result[1:], operand], workspace_bytes=100)
    assert (counter.live_bytes, counter.peak_bytes) == (40, 40 + 12 + 100)


def test_empty_storages_take_nothing() -> None:
    counter = Counter()
    counter.start([torch.empty(0), torch.empty(0)])
    assert counter.live_bytes == 0
    assert not counter.holds(torch.empty(0))
