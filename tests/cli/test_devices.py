"""`edgewise devices`, `show` and `probe`."""

from pathlib import Path

import msgspec
import pytest

from edgewise.cli import devices as devices_command
from edgewise.devices import Device, decode_device, load_device, read_device, save_device, user_folder
from tests.cli.conftest import Run


def test_every_profile_is_listed(run: Run) -> None:
    said = run("devices")
    assert said.code == 0
    names = [line.split()[0] for line in said.out.splitlines()[1:]]
    assert names == ["host", "jetson-tx2", "mkr1000", "nrf52840", "rpi4", "stm32f4", "stm32f7"]
    row = next(line for line in said.out.splitlines() if line.startswith("nrf52840"))
    assert "256 KiB" in row
    assert "1 of 8" in row
    assert not any(line.endswith(" ") for line in said.out.splitlines())


def test_json(run: Run) -> None:
    found = {entry["name"]: entry for entry in run("devices", "--json").json}
    assert found["mkr1000"]["ram_bytes"] == 32768
    assert found["mkr1000"]["paging_tier"] == "sd"
    assert found["host"]["assumed"] == found["host"]["numbers"]


def test_your_own_and_broken_profiles_are_listed(run: Run) -> None:
    own = msgspec.structs.replace(load_device("rpi4"), name="mine")
    save_device(own, user_folder() / "mine.toml")
    (user_folder() / "broken.toml").write_text("[")
    said = run("devices")
    assert f"({user_folder() / 'mine.toml'})" in said.out
    assert "unusable: " in said.out
    found = {entry["name"]: entry for entry in run("devices", "--json").json}
    assert found["mine"]["problem"] is None
    assert "is not TOML" in found["broken"]["problem"]


def test_show_prints_a_file_that_can_be_used(run: Run, tmp_path: Path) -> None:
    said = run("devices", "show", "rpi4")
    assert said.out.startswith("# POET's `RPi`, with one number replaced.")
    (tmp_path / "copy.toml").write_text(said.out)
    assert read_device(tmp_path / "copy.toml") == load_device("rpi4")
    assert msgspec.convert(run("devices", "show", "rpi4", "--json").json, Device) == load_device("rpi4")


def test_show_of_none(run: Run) -> None:
    assert "Did you mean `rpi4`?" in run("devices", "show", "rpi").err


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe_host(paging_dir: Path | None, *, name: str, say: object) -> Device:
        return msgspec.structs.replace(load_device("host"), name=name, description=f"probed at {paging_dir}")

    monkeypatch.setattr(devices_command, "probe_host", probe_host)


def test_probe_saves_where_devices_looks(run: Run, no_measuring: None) -> None:
    said = run("devices", "probe", "--paging-dir", "pages")
    assert said.code == 0
    assert said.out.startswith("probed at pages\n")
    assert "matmul" in said.out
    assert str(user_folder() / "host.toml") in said.out
    assert load_device("host").description == "probed at pages"


def test_probe_to_a_file_under_a_name(run: Run, no_measuring: None, tmp_path: Path) -> None:
    found = run("devices", "probe", "--name", "board", "-o", "board.toml", "--json").json
    assert found["path"] == "board.toml"
    assert found["device"]["name"] == "board"
    assert decode_device((tmp_path / "board.toml").read_bytes()).name == "board"


def test_paging_to_a_folder_in_ram_is_cautioned_against(tmp_path: Path) -> None:
    host = load_device("host")
    origin = {"memory.ssd.read_bytes_per_second": "measured in a folder (tmpfs), fsync'ed"}
    shown = dict(devices_command._figures(msgspec.structs.replace(host, sources=origin), tmp_path))
    assert "is in RAM; name one on a disk: `--paging-dir`" in shown["caution"]
    assert "caution" not in dict(devices_command._figures(host, tmp_path))


@pytest.mark.parametrize("name", ["", "a/b", ".hidden"])
def test_a_profile_needs_a_name_that_is_one(name: str, run: Run, no_measuring: None) -> None:
    said = run("devices", "probe", f"--name={name}")
    assert said.code == 2
    assert "is no name of a profile. Use letters, digits and dashes" in said.err
