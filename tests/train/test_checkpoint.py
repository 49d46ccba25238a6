import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from edgewise.errors import CorruptArtifact, DeviceError
from edgewise.train.checkpoint import POSITION, TENSORS, load_position, load_tensors, save_checkpoint

OLD = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}
NEW = {"weight": torch.arange(6.0).reshape(2, 3) * -1, "count": torch.tensor(4)}


class Killed(BaseException):
    """What no code of ours catches: the process is gone."""


def save(folder: Path, state: dict[str, torch.Tensor], step: int) -> None:
    save_checkpoint(folder, state, recipe="digest", epoch=step // 10, step=step)


def loaded(folder: Path) -> tuple[int, dict[str, torch.Tensor]]:
    position = load_position(folder)
    assert position is not None
    assert (position.recipe, position.epoch) == ("digest", position.step // 10)
    return position.step, load_tensors(folder)


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def count_calls(patch: pytest.MonkeyPatch, stop_at: int, how: BaseException, *, after: bool) -> list[str]:
    """Let the call number `stop_at` to anything that changes the disk fail, before or after its effect."""
    calls: list[str] = []

    def guard(owner: Any, name: str) -> None:
        true = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            stops = len(calls) == stop_at
            if stops and not after:
                raise how
            result = true(*args, **kwargs)
            if stops:
                raise how
            return result

        patch.setattr(owner, name, call)

    guard(os, "fsync")
    guard(Path, "replace")
    guard(Path, "write_bytes")
    guard(Path, "chmod")
    patch.setattr(
        "edgewise.train.checkpoint.save_file", save_file := _save_file(calls, stop_at, how, after=after)
    )
    assert callable(save_file)
    return calls


def _save_file(calls: list[str], stop_at: int, how: BaseException, *, after: bool) -> Any:
    from safetensors.torch import save_file  # noqa: PLC0415 (the true one, not the one that tests replace)

    def call(tensors: Any, path: Path) -> None:
        calls.append("save_file")
        if len(calls) == stop_at:
            if after:
                save_file(tensors, path)
                path.write_bytes(path.read_bytes()[:-3])  # half of it
            raise how
        save_file(tensors, path)

    return call


STEPS = 8  # save_file, fsync, write_bytes, fsync, chmod, replace, replace, fsync of the folder


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert load_position(tmp_path) is None


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, OLD, 10)
    step, state = loaded(tmp_path)
    assert step == 10
    assert same(state, OLD)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, POSITION}
    assert (tmp_path / TENSORS).stat().st_mode == (tmp_path / POSITION).stat().st_mode


def test_strides_are_no_matter(tmp_path: Path) -> None:
    state = {"weight": torch.arange(6.0).reshape(2, 3).t()}
    save(tmp_path, state, 1)
    assert same(loaded(tmp_path)[1], state)


def test_the_number_of_steps_is_right(tmp_path: Path, monkeypatch) -> None:
    calls = count_calls(monkeypatch, 99, Killed(), after=False)
    save(tmp_path, NEW, 20)
    assert len(calls) == STEPS, calls


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stop_at", range(1, STEPS + 1))
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_kill_at_any_moment_leaves_a_whole_pair(tmp_path, monkeypatch, stop_at, after, first) -> None:
    if not first:
        save(tmp_path, OLD, 10)
    with monkeypatch.context() as patch:
        count_calls(patch, stop_at, Killed(), after=after)
        with pytest.raises(Killed):
            save(tmp_path, NEW, 20)
    if first and load_position(tmp_path) is None:
        assert stop_at + after <= 6
    else:
        step, state = loaded(tmp_path)
        assert (step, same(state, OLD), same(state, NEW)) in [(10, True, False), (20, False, True)]
        assert step == (20 if stop_at + after > 6 else 10)
    save(tmp_path, NEW, 30)
    assert loaded(tmp_path)[0] == 30
    assert same(loaded(tmp_path)[1], NEW)


@pytest.mark.parametrize("stop_at", range(1, STEPS + 1))
def test_a_failing_disk_is_told_and_costs_nothing(tmp_path, monkeypatch, stop_at) -> None:
    save(tmp_path, OLD, 10)
    with monkeypatch.context() as patch:
        count_calls(patch, stop_at, OSError(28, "No space left on device"), after=False)
        with pytest.raises(
            DeviceError, match=r"Cannot write .*: No space left on device\. What was there before is"
        ):
            save(tmp_path, NEW, 20)
    with monkeypatch.context() as patch:  # and the next one in the same process may be killed
        count_calls(patch, 5, Killed(), after=False)
        with pytest.raises(Killed):
            save(tmp_path, {"weight": torch.ones(2)}, 30)
    step, state = loaded(tmp_path)
    assert (step, same(state, OLD), same(state, NEW)) in [(10, True, False), (20, False, True)]


def test_a_full_disk_as_the_library_tells_it(tmp_path: Path, monkeypatch) -> None:
    from safetensors import SafetensorError  # noqa: PLC0415

    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("edgewise.train.checkpoint.save_file", full)
    with pytest.raises(DeviceError, match="No space left on device"):
        save(tmp_path, NEW, 20)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"Cannot write .*checkpoint\.safetensors: .*No such file"):
        save(tmp_path / "none", NEW, 20)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path, OLD, 10)
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(CorruptArtifact) as caught:
        load_position(folder)
    return str(caught.value)


@pytest.mark.parametrize("at", [0, 9, 60, -1])
def test_damaged_tensors(saved: Path, at: int) -> None:
    data = bytearray((saved / TENSORS).read_bytes())
    data[at] ^= 1
    (saved / TENSORS).write_bytes(data)
    assert "is not the file that checkpoint.json belongs to (its SHA-256 differs). It was damaged" in refused(
        saved
    )


@pytest.mark.parametrize(("gone", "left"), [(TENSORS, POSITION), (POSITION, TENSORS)])
def test_half_a_checkpoint(saved: Path, gone: str, left: str) -> None:
    (saved / gone).unlink()
    assert refused(saved) == f"{saved / gone} is missing beside {left}. Restore it, or start a new run."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "edgewise.checkpoint/2"},
            "format `edgewise.checkpoint/2` is not `edgewise.checkpoint/1`, the one",
        ),
        ({"step": -1}, "step -1 of epoch 1 is no position. Restore it."),
        (
            {"step": "10"},
            "is no checkpoint: Expected `int`, got `str` - at `$.step`. Restore it, or start a new run.",
        ),
        (
            {"more": 1},
            "is no checkpoint: Object contains unknown field `more`. Restore it, or start a new run.",
        ),
    ],
)
def test_a_position_that_is_none(saved: Path, change: dict[str, Any], message: str) -> None:
    fields = msgspec.json.decode((saved / POSITION).read_bytes())
    (saved / POSITION).write_bytes(msgspec.json.encode({**fields, **change}))
    assert message in refused(saved)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 5000, b" " * 70000])
def test_a_position_that_is_no_json(saved: Path, data: bytes) -> None:
    (saved / POSITION).write_bytes(data)
    assert "is no checkpoint: " in refused(
        saved
    ) or "more bytes than a checkpoint's JSON may have" in refused(saved)


def test_a_position_that_cannot_be_read(saved: Path) -> None:
    (saved / POSITION).unlink()
    (saved / POSITION).mkdir()
    assert refused(saved) == f"Cannot read {saved / POSITION}: Is a directory. Restore it."


def test_tensors_that_are_none(saved: Path) -> None:
    (saved / TENSORS).write_bytes(b"hello")
    with pytest.raises(CorruptArtifact, match=r"is no sound safetensors file: .* Restore it\."):
        load_tensors(saved)
