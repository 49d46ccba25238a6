"""`edgewise emulate`: what it says of a small model, and of what it cannot run."""

import re
import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from edgewise.cli import emulating, main
from edgewise.cli.emulating import find_batches, load_emitted
from edgewise.emit import RESERVED_BYTES, Emitted, toolchain
from edgewise.errors import UsageError
from tests.cli.conftest import Run

RAM_BYTES = 40 * 1024


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron with a batch of 32 digits."""
    folder = tmp_path_factory.mktemp("emulate") / "mlp"
    assert main(["emit", "digits-mlp", "--ram", "40KiB", "--time-limit", "2", "-o", str(folder)]) == 0
    return folder


def test_for_people(run: Run, emitted: Path) -> None:
    said = run("emulate", emitted, "--steps", 3)
    assert said.code == 0
    facts = [line.strip().split("  ", 1) for line in said.out.splitlines()]
    names, values = [fact[0] for fact in facts], {fact[0]: fact[-1].strip() for fact in facts}
    assert facts[0] == ["mlp on stm32f405, emulated by unicorn, built by zig"]
    assert names[1:] == [
        *("trained", "loss", "PyTorch's", "accuracy", "PyTorch's", "RAM", "arena", "stack", "flash"),
        *("instructions", "store", "read", "written"),
    ]
    assert values["trained"] == "3 steps"
    assert values["loss"].startswith("2.3")
    assert " test samples" in values["accuracy"]
    assert values["RAM"].endswith(f" of {RAM_BYTES:,} B")
    assert values["stack"].startswith(("at most 1,", "at most 2,"))
    each = r"[\d,]+, [\d,]+ a step, [\d,]+ an inference"
    assert re.fullmatch(each, values["instructions"])
    assert re.fullmatch(each.replace(r"[\d,]+", r"[\d.]+ \w*B"), values["read"])


def test_json_is_the_same_everywhere(run: Run, emitted: Path) -> None:
    there = run("emulate", emitted, "--steps", 2, "--json").json
    here = run("emulate", emitted, "--steps", 2, "--board", "host", "--json").json
    assert there["losses"] == here["losses"]
    assert len(there["losses"]) == 2
    assert there["instructions"] > 1_000_000
    assert there["instructions_per_step"] > 2 * there["instructions_per_inference"] > 100_000
    assert here["instructions_per_step"] is here["instructions_per_inference"] is None
    assert there["bytes_read_per_inference"] == here["bytes_read_per_inference"]
    assert there["ram_bytes"] == load_emitted(emitted).ram_bytes + RESERVED_BYTES
    assert there["arena_bytes"] < there["ram_used_bytes"] <= there["ram_bytes"] == RAM_BYTES
    assert (there["bytes_read"], there["bytes_written"]) == (here["bytes_read"], here["bytes_written"])
    assert (there["emulator"], here["emulator"]) == ("unicorn", None)
    for name in ("instructions", "ram_bytes", "ram_used_bytes", "stack_bytes", "flash_bytes"):
        assert here[name] is None


def test_beside_pytorch(run: Run, emitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("emulate", emitted, "--steps", 2, "--board", "host", "--json").json
    assert found["losses"] == pytest.approx(found["pytorch_losses"], rel=1e-5)
    assert found["accuracy"] == pytest.approx(found["pytorch_accuracy"], abs=0.01)
    monkeypatch.setattr(emulating, "reference", lambda *_: emulating.Reference([2.5, 2.0], 0.5))
    said = run("emulate", emitted, "--steps", 2, "--board", "host")
    assert re.search("PyTorch's +2.5 at first, 2 at last; .* apart at most, relatively", said.out)
    assert re.search("PyTorch's +50.0%", said.out)


def test_data_come_in_the_order_of_their_epochs(emitted: Path) -> None:
    """And begin anew after the last."""
    found = load_emitted(emitted)
    batches = find_batches(found, "digits", 46)
    assert all(x.shape == (32, 1, 8, 8) or x.shape == (32, 64) for x, _ in batches)
    assert len({x.numpy().tobytes() for x, _ in batches}) == 46, (
        "44 in an epoch; the second has another order"
    )


def test_a_model_that_is_no_recipe_has_its_example_batch(emitted: Path) -> None:
    mlp = msgspec.structs.replace(load_emitted(emitted), model="mlp@32")
    wanted = (msgspec.structs.replace(mlp.inputs[0], shape=(32, 64)), mlp.inputs[1])
    try:
        batches = find_batches(msgspec.structs.replace(mlp, inputs=wanted), None, 2)
    except UsageError as error:
        pytest.fail(str(error))
    assert torch.equal(batches[0][0], batches[1][0])


def test_data_that_do_not_fit(run: Run, emitted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(emitted, copy, ignore=shutil.ignore_patterns("build"))
    found = load_emitted(copy)
    other = (msgspec.structs.replace(found.inputs[0], shape=(32, 1, 9, 9)), *found.inputs[1:])
    (copy / "model.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(found, inputs=other)))
    said = run("emulate", copy, "--data", "digits")
    assert said.code == 2
    assert "The model takes float32 (32, 1, 9, 9) as `batch.0`; digits has float32 (32, " in said.err
    assert "Name other data with `--data`, or emit the model for these." in said.err


def test_unknown_data(run: Run, emitted: Path) -> None:
    said = run("emulate", emitted, "--data", "mnist")
    assert said.code == 2
    assert "There is no recipe `mnist`. Name a .toml file, or one of: digits," in said.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--steps", 0), 2, "`--steps 0` must be at least 1."),
        (("--board", "esp32"), 2, "There is no board `esp32`. There are: stm32f405,"),
        (("--ram", "20KiB"), 3, " B more than its 20,480 B of RAM on board `stm32f405`. Give it "),
        (("--ram", "1MiB"), 2, "Board `stm32f405` has 131,072 B of RAM, not the 1,048,576 B asked for."),
        (("--emulator", "bochs"), 2, "There is no emulator `bochs`. There are: unicorn, qemu."),
        (("--compiler", "tcc"), 2, "There is no compiler `tcc`. There are: zig, gcc."),
        (("--medium", "sd"), 2, "Board `stm32f405` has no medium `sd`. It has: file."),
    ],
)
def test_what_cannot_be(words: tuple[object, ...], code: int, said: str, run: Run, emitted: Path) -> None:
    found = run("emulate", emitted, *words)
    assert (found.code, found.out) == (code, "")
    assert said in found.err


def test_no_folder(run: Run, tmp_path: Path) -> None:
    said = run("emulate", tmp_path / "none")
    assert said.code == 2
    assert "none is no emitted model: cannot read " in said.err
    assert "(No such file or directory). Make one with `edgewise emit MODEL -o FOLDER`." in said.err


def test_a_damaged_description(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"format": 3}')
    said = run("emulate", tmp_path)
    assert said.code == 5
    assert "model.json: Expected `str`, got `int` - at `$.format`. Emit the model anew." in said.err


def test_a_damaged_store(run: Run, emitted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(emitted, copy, ignore=shutil.ignore_patterns("build"))
    weights = bytearray((copy / "weights.bin").read_bytes())
    weights[100] ^= 1
    (copy / "weights.bin").write_bytes(weights)
    said = run("emulate", copy, "--board", "host")
    assert said.code == 5
    assert "weights.bin: model_init failed after 0 steps: the store is corrupt" in said.err


def test_no_compiler(run: Run, emitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    said = run("emulate", emitted)
    assert said.code == 6
    assert "No C compiler for board `stm32f405`" in said.err
    assert "pip install edgewise[mcu]" in said.err


def test_the_format_is_what_is_emitted(emitted: Path) -> None:
    assert isinstance(load_emitted(emitted), Emitted)
