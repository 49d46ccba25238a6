"""An emitted step that loses its power on an emulated board, at each of its writes to the store.

What is paged is of the last step that was committed, what lives in RAM of the last `model_save`: each of the
two all old or all new.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from edgewise.capture import SGD
from edgewise.emit import RESERVED_BYTES, Built, Made, build, contents, find_board, run
from tests.emit.trained import captured_zoo, made_in_c, tensors_of

ARENA_BYTES = 17 * 1024


class Lab(NamedTuple):
    """An emitted perceptron whose larger weights are paged, built for a board, and one batch."""

    made: Made
    built: Built
    batches: list
    store: Path

    def held(self, image: bytes) -> tuple[list[bytes], list[bytes]]:
        """What is paged, and what lives in RAM, by the last commit."""
        pairs = list(zip(self.made.emitted.values, contents(image, self.made.emitted.store), strict=True))
        kept = [(value, raw) for value, raw in pairs if value.kind == "double"]
        return [raw for v, raw in kept if not v.resident], [raw for v, raw in kept if v.resident]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("power") / "mlp"
    captured, batches = captured_zoo("mlp", 4, SGD(lr=0.1, momentum=0.9))
    made = made_in_c(captured, folder, ARENA_BYTES)
    built = build(folder, find_board("stm32f405"), ram_bytes=ARENA_BYTES + RESERVED_BYTES)
    return Lab(made, built, tensors_of(made, batches[:1]), folder / "weights.bin")


def lose_power(lab: Lab, writes: Iterable[int]) -> int:
    """At each of `writes`; how many there are, of one step and a save."""
    old = lab.held(lab.store.read_bytes())
    new = lab.held(run(lab.built, lab.batches, store=lab.store).store)
    assert all(a != b for a, b in zip(old, new, strict=True)), "both kinds are there, and change"
    found = []
    for write in writes:
        left = run(lab.built, lab.batches, store=lab.store, power_off_at=write)
        if not left.power_lost:
            break
        paged, resident = lab.held(left.store)
        found.append((paged == new[0], resident == new[1]))
        assert paged in (old[0], new[0])
        assert resident in (old[1], new[1])
    assert found == sorted(found), "never back to the old"
    assert found[0] == (False, False)
    return len(found)


def test_power_lost_at_some_writes(lab: Lab) -> None:
    assert lose_power(lab, range(0, 10_000, 17)) > 3


@pytest.mark.slow
def test_power_lost_at_every_write(lab: Lab) -> None:
    assert lose_power(lab, range(10_000)) > 50
