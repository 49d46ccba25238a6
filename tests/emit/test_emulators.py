"""Every emulator and compiler that is there brings a program to the bits that this computer makes."""

import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from edgewise.emit import BOARDS, HOST, Built, Emulated, Taken, build, contents, find_emulator, run
from edgewise.errors import CorruptArtifact, DeviceError, UsageError
from tests.emit.regression import BIAS, LOSSES, RAM_BYTES, STATE, STORE, WEIGHT, batches, losses, write_folder

STEPS = 5
QEMU = shutil.which("qemu-system-arm") is not None
COMPILERS = ["zig", *(["gcc"] if shutil.which("arm-none-eabi-gcc") else [])]
WAYS = [
    (board.name, compiler, emulator)
    for board in BOARDS.values()
    for compiler in COMPILERS
    for emulator in [*(["unicorn"] if board.unicorn else []), *(["qemu"] if QEMU else [])]
    if not board.is_host
]
"""What this machine can run; `.ci/run` installs all of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("emulators") / "regression")


@pytest.fixture(scope="module")
def builds(folder: Path) -> dict[tuple[str, str], Built]:
    """Programs that have been built, so that each is built once."""
    return {}


def built(builds: dict[tuple[str, str], Built], folder: Path, board: str, compiler: str = "zig") -> Built:
    if (board, compiler) not in builds:
        copy = folder.parent / compiler
        if not copy.exists():
            shutil.copytree(folder, copy)
        builds[board, compiler] = build(copy, BOARDS[board], ram_bytes=RAM_BYTES, compiler=compiler)
    return builds[board, compiler]


def train(program: Built, folder: Path, emulator: str | None = None, scale: float = 1.0) -> Emulated:
    scaled = [(x * scale, t * scale) for x, t in batches(STEPS)]
    return run(program, scaled, store=folder / "weights.bin", emulator=emulator, read_back=[STATE])


@pytest.fixture(scope="module")
def at_home(builds: dict[tuple[str, str], Built], folder: Path) -> Emulated:
    return train(built(builds, folder, HOST.name), folder)


def test_it_learns_as_it_should(at_home: Emulated) -> None:
    assert at_home.losses == pytest.approx(losses(STEPS), rel=1e-5)
    assert at_home.read_bytes > 0
    assert at_home.written_bytes > 0
    assert (at_home.stack_bytes, at_home.instructions) == (None, None)


def test_the_store_holds_what_was_saved(at_home: Emulated) -> None:
    held = contents(at_home.store, STORE)
    assert held[BIAS] == at_home.read_back[0][32:36]
    assert held[LOSSES][: 4 * STEPS] == torch.tensor(at_home.losses).numpy().tobytes()


@pytest.mark.parametrize("scale", [1.0, 1e-20], ids=["plain", "denormal"])
@pytest.mark.parametrize(("board", "compiler", "emulator"), WAYS)
def test_a_board_makes_the_bits_of_this_computer(
    board: str, compiler: str, emulator: str, scale: float, builds: dict, folder: Path
) -> None:
    here = train(built(builds, folder, HOST.name), folder, scale=scale)
    there = train(built(builds, folder, board, compiler), folder, emulator, scale)
    assert 0 < min(here.losses) < max(here.losses) < (1e2 if scale == 1 else 1e-38)
    for what in ("losses", "store", "read_back", "read_bytes", "written_bytes"):
        assert getattr(there, what) == getattr(here, what)
    assert 100 < (there.stack_bytes or 0) < 1024


@pytest.mark.parametrize("board", [name for name, board in BOARDS.items() if board.unicorn])
def test_instructions_are_counted_the_same_every_time(board: str, builds: dict, folder: Path) -> None:
    program = built(builds, folder, board)
    counts = {train(program, folder, emulator).instructions for emulator in ["unicorn"] * 2}
    assert len(counts) == 1
    assert 50_000 < (counts.pop() or 0) < 500_000


@pytest.mark.parametrize("emulator", ["unicorn", *(["qemu"] if QEMU else [])])
def test_steps_are_counted_without_what_is_around_them(emulator: str, builds: dict, folder: Path) -> None:
    program = built(builds, folder, "stm32f405")
    once, twice, more = (
        run(program, batches(n), store=folder / "weights.bin", emulator=emulator) for n in (1, 2, 4)
    )
    each = [more.by_steps.instructions or 0, 4 * (once.by_steps.instructions or 0)]
    assert each[0] == pytest.approx(each[1], rel=0.02)  # with the number of the step, a few differ
    assert 0 < each[0] < (more.instructions or 0)
    assert twice.by_steps.read_bytes == twice.read_bytes - once.read_bytes + once.by_steps.read_bytes
    assert more.by_steps.written_bytes == 4 * once.by_steps.written_bytes > 0
    assert more.by_inferences == Taken(more.by_inferences.instructions, 0, 0)
    assert (more.by_inferences.instructions or 0) < 100


@pytest.mark.parametrize("board", [name for name, board in BOARDS.items() if board.unicorn and QEMU])
def test_emulators_count_alike(board: str, builds: dict, folder: Path) -> None:
    """But for the calls of the host, which QEMU counts twice, and the length of a tick."""
    program = built(builds, folder, board)
    one, other = (train(program, folder, emulator).instructions or 0 for emulator in ("unicorn", "qemu"))
    assert other == pytest.approx(one, rel=0.02)


def test_first_step_and_steps(builds: dict, folder: Path) -> None:
    seen = run(
        built(builds, folder, HOST.name),
        batches(STEPS),
        store=folder / "weights.bin",
        steps=2,
        first_step=7,
    )
    assert len(seen.losses) == 2
    kept = contents(seen.store, STORE)[LOSSES]
    assert kept[28:36] == torch.tensor(seen.losses).numpy().tobytes()
    assert not any(kept[:28] + kept[36:])


def test_a_run_goes_on_where_the_last_one_ended(builds: dict, folder: Path, tmp_path: Path) -> None:
    program = built(builds, folder, "stm32f405")
    whole = run(program, batches(4), store=folder / "weights.bin", read_back=[STATE])
    half = run(program, batches(2), store=folder / "weights.bin")
    (tmp_path / "half.bin").write_bytes(half.store)
    rest = run(program, batches(4)[2:], store=tmp_path / "half.bin", first_step=2, read_back=[STATE])
    assert half.losses + rest.losses == whole.losses
    assert rest.read_back == whole.read_back
    assert contents(rest.store, STORE) == contents(whole.store, STORE)


def test_power_lost_at_every_write_to_the_medium(builds: dict, folder: Path, tmp_path: Path) -> None:
    """What is left is of a whole step."""
    program, data = built(builds, folder, "stm32f405"), batches(3)
    states = [run(program, data, store=folder / "weights.bin", steps=n).store for n in range(4)]
    weights = [contents(state, STORE)[WEIGHT] for state in states]
    lost = 0
    while True:
        left = run(program, data, store=folder / "weights.bin", power_off_at=lost)
        if not left.power_lost:
            break
        assert left.losses == ()
        held = contents(left.store, STORE)
        done = weights.index(held[WEIGHT])
        assert len(held[LOSSES].rstrip(b"\0")) == 4 * done, "both slots are of the same step"
        lost += 1
    assert lost == 3 * 5 + 2, (
        "weights, an entry of two sectors, a loss, a record; in the end the bias, a record"
    )


def test_a_store_of_another_model(builds: dict, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes((folder / "weights.bin").read_bytes()[:8] + bytes(STORE.bytes - 8))
    with pytest.raises(CorruptArtifact) as caught:
        run(built(builds, folder, "stm32f405"), batches(1), store=other)
    assert str(caught.value) == (
        f"{other}: model_init failed after 0 steps: the store is corrupt: it has no commit record, or "
        "belongs to another model. Emit the model anew."
    )


def test_a_store_that_is_too_short(builds: dict, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short.bin").write_bytes(bytes(100))
    with pytest.raises(
        DeviceError, match=r"On board `host` model_init failed after 0 steps: the medium failed."
    ):
        run(built(builds, folder, "host"), batches(1), store=tmp_path / "short.bin")


def test_too_few_batches(builds: dict, folder: Path) -> None:
    program = built(builds, folder, "host")
    with pytest.raises(UsageError, match=r"3 steps need as many batches: there are 2."):
        run(program, batches(2), store=folder / "weights.bin", steps=3)
    with pytest.raises(UsageError, match="Batches as bytes need `steps`"):
        run(program, b"", store=folder / "weights.bin")
    with pytest.raises(DeviceError, match="reading its files failed after 1 steps: a file of the host"):
        run(program, bytes(200), store=folder / "weights.bin", steps=2)


def test_emulators_that_are_not_there(builds: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = built(builds, folder, "stm32f405")
    with pytest.raises(UsageError, match=r"There is no emulator `bochs`. There are: unicorn, qemu."):
        find_emulator(program, "bochs")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DeviceError, match="Emulator `qemu` cannot run board `stm32f405`"):
        find_emulator(program, "qemu")
    m55 = msgspec.structs.replace(program, board=BOARDS["an547"])
    with pytest.raises(DeviceError) as caught:
        find_emulator(m55)
    assert str(caught.value) == (
        "No emulator that is installed can run board `an547` with its store on medium `file`. Install "
        "unicorn (`pip install edgewise[mcu]`), or QEMU (`apt-get install qemu-system-arm`)."
    )


def test_power_goes_only_in_unicorn(builds: dict, folder: Path) -> None:
    with pytest.raises(UsageError, match="`power_off_at` needs the emulator `unicorn`"):
        run(built(builds, folder, "host"), batches(1), store=folder / "weights.bin", power_off_at=0)


@pytest.mark.parametrize("card_bytes", [1 << 20, 4 << 30] if QEMU else [], ids=str)
def test_a_real_card_keeps_the_store_as_a_file_does(
    card_bytes: int, builds: dict, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the SD protocol over SPI; small cards count bytes, large ones sectors."""
    monkeypatch.setattr("edgewise.emit.emulate.qemu.SMALLEST_CARD", card_bytes)
    copy = tmp_path / "regression"
    shutil.copytree(folder, copy)
    program = build(copy, BOARDS["lm3s6965"], ram_bytes=RAM_BYTES, medium="sd")
    on_card = train(program, folder)
    in_file = train(built(builds, folder, HOST.name), folder)
    assert on_card.emulator == "qemu"
    for what in ("losses", "store", "read_back", "read_bytes", "written_bytes"):
        assert getattr(on_card, what) == getattr(in_file, what)


def test_memory_on_the_bus_keeps_the_store_too(builds: dict, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "regression"
    shutil.copytree(folder, copy)
    program = build(copy, BOARDS["an500"], ram_bytes=RAM_BYTES, medium="memory")
    in_memory = train(program, folder)
    in_file = train(built(builds, folder, HOST.name), folder)
    for what in ("losses", "store", "read_back", "read_bytes", "written_bytes"):
        assert getattr(in_memory, what) == getattr(in_file, what)
    with pytest.raises(DeviceError, match=r"Emulator `qemu` cannot run board `an500` with its store on"):
        find_emulator(program, "qemu")


def test_a_program_that_crashes_this_computer(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "regression"
    shutil.copytree(folder, copy)
    text = (copy / "model.c").read_text().replace("*loss = sum", "*(volatile float *)8 = sum, *loss = sum")
    (copy / "model.c").write_text(text)
    with pytest.raises(DeviceError, match=r"model.elf crashed \(signal 11\)"):
        run(build(copy, HOST, ram_bytes=0), batches(1), store=folder / "weights.bin")
