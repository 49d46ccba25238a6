"""An emitted step that loses its power on an emulated board, at each of its writes to the store.

What is paged and what lives in RAM is committed together: all of it is old, or all of it new.
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

    def held(self, image: bytes) -> dict[str, bytes]:
        """What outlives a step, by the last commit."""
        pairs = zip(self.made.emitted.values, contents(image, self.made.emitted.store), strict=True)
        return {value.name: raw for value, raw in pairs if value.kind == "double"}


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
    resident = {value.resident for value in lab.made.emitted.values if value.name in old}
    assert resident == {True, False}, "there are weights of both kinds"
    assert all(old[name] != new[name] for name in old)
    found = []
    for write in writes:
        left = run(lab.built, lab.batches, store=lab.store, power_off_at=write)
        if not left.power_lost:
            break
        held = lab.held(left.store)
        assert held in (old, new)
        found.append(held == new)
    assert found == sorted(found), "never back to the old"
    assert not found[0]
    return len(found)


def test_power_lost_at_some_writes(lab: Lab) -> None:
    assert lose_power(lab, range(0, 10_000, 17)) > 3


@pytest.mark.slow
def test_power_lost_at_every_write(lab: Lab) -> None:
    assert lose_power(lab, range(10_000)) > 50
