"""A large table in the store: a step reads and writes the rows that it looks up, and no others."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, Captured, capture
from edgewise.emit import Made, find_board
from tests.emit.trained import distance, in_pytorch, made_in_c, run_in_c, same_bits

ROWS, WIDTH, PADDING = 3000, 16, 7
RAM_BYTES = 24 * 1024


class _Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH, padding_idx=PADDING)
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, words_BT: Tensor) -> Tensor:
        return self.last(self.table(words_BT).mean(1))


@pytest.fixture(scope="module")
def words() -> tuple[Captured, list]:
    torch.manual_seed(0)
    batch = torch.randint(0, ROWS, (3, 5)), torch.tensor([0, 3, 1])
    batch[0][0, :3] = batch[0][1, 2]  # a word again and again
    batch[0][2, 1] = PADDING
    captured = capture(_Words(), "cross_entropy", SGD(lr=0.5), batch, name="words")
    return captured, [batch, (batch[0].flip(0).contiguous(), batch[1])]


@pytest.fixture(scope="module")
def made(words: tuple[Captured, list], tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Path]:
    folder = tmp_path_factory.mktemp("words")
    return made_in_c(words[0], folder, RAM_BYTES), folder


def test_the_bits_are_those_of_the_whole_update(
    words: tuple[Captured, list], made: tuple[Made, Path], tmp_path: Path
) -> None:
    captured, batches = words
    whole, _ = run_in_c(made_in_c(captured, tmp_path, 1 << 30), tmp_path, batches)
    here, _ = run_in_c(*made, batches)
    there, _ = run_in_c(*made, batches, find_board("stm32f405"), ram_bytes=32 * 1024)
    assert here.losses == whole.losses == there.losses
    assert same_bits(here.state, whole.state)
    assert same_bits(there.state, here.state)
    assert distance(here.state, in_pytorch(captured, batches).state) < 1e-6


def test_other_rows_are_neither_read_nor_written(
    words: tuple[Captured, list], made: tuple[Made, Path]
) -> None:
    kinds = {value.name: value.kind for value in made[0].emitted.values}
    assert kinds["table.weight"] == "journal"
    assert made[0].emitted.store.journal_bytes > 0
    _, seen = run_in_c(*made, words[1][:1])
    assert seen.read_bytes < ROWS * WIDTH
    assert seen.written_bytes < ROWS * WIDTH
    assert "the store; a step changes some rows" in (made[1] / "README.md").read_text()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_power_lost_in_the_middle_leaves_no_row_half_way(
    words: tuple[Captured, list], made: tuple[Made, Path], share: float
) -> None:
    batch = words[1][:1]
    board, ram_bytes = find_board("stm32f405"), 32 * 1024
    after, _ = run_in_c(*made, batch, board, ram_bytes=ram_bytes)
    before = {**after.state, **{n: t.detach() for n, t in words[0].model.state_dict().items()}}
    writes = 0
    while run_in_c(*made, batch, board, ram_bytes=ram_bytes, power_off_at=1 << writes)[1].power_lost:
        writes += 1
    last = 1 << (writes - 1)
    left, seen = run_in_c(*made, batch, board, ram_bytes=ram_bytes, power_off_at=int(share * last))
    assert seen.power_lost
    assert same_bits(left.state, before) or same_bits(left.state, after.state)
