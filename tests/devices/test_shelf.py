"""Where profiles are found: your own folder first, a path when it looks like one."""

from pathlib import Path

import msgspec
import pytest

from edgewise.devices import list_devices, load_device, profile_text, save_device, user_folder
from edgewise.errors import CorruptArtifact, UsageError


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "edgewise" / "devices"


def test_the_folder_follows_the_environment(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_folder() == shelf
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(shelf))
    assert user_folder() == shelf / ".config" / "edgewise" / "devices"


def test_your_profile_hides_the_built_in_one_of_its_name(shelf: Path) -> None:
    mine = msgspec.structs.replace(load_device("rpi4"), description="mine")
    save_device(mine, shelf / "rpi4.toml")
    assert load_device("rpi4").description == "mine"
    assert 'description = "mine"' in profile_text("rpi4")
    listed = {entry.name: entry for entry in list_devices()}
    assert listed["rpi4"].origin == str(shelf / "rpi4.toml")
    assert not listed["rpi4"].is_built_in
    assert listed["host"].is_built_in


def test_a_profile_of_your_own_is_listed_in_order(shelf: Path) -> None:
    save_device(msgspec.structs.replace(load_device("rpi4"), name="alpha"), shelf / "alpha.toml")
    assert list_devices()[0].name == "alpha"
    assert load_device("alpha").name == "alpha"


def test_a_bad_file_is_listed_as_such_and_refused(shelf: Path) -> None:
    shelf.mkdir(parents=True)
    (shelf / "bad.toml").write_text("format = 3")
    entry = next(entry for entry in list_devices() if entry.name == "bad")
    assert entry.device is None
    assert "format `3` is not" in entry.problem
    with pytest.raises(CorruptArtifact, match=r"bad.toml: format `3`"):
        load_device("bad")
    with pytest.raises(CorruptArtifact, match=r"bad.toml: format `3`"):
        profile_text("bad")


def test_file_and_device_must_have_one_name(shelf: Path) -> None:
    save_device(load_device("rpi4"), shelf / "pi.toml")
    with pytest.raises(CorruptArtifact, match=r"calls itself `rpi4`. Name the file and the device alike"):
        load_device("pi")


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path_is_read_whatever_its_name(as_text: bool, tmp_path: Path) -> None:
    path = tmp_path / "anything.toml"
    save_device(load_device("rpi4"), path)
    assert load_device(str(path) if as_text else path) == load_device("rpi4")
    assert profile_text(path) == path.read_text()


def test_a_path_without_a_file_is_no_name() -> None:
    with pytest.raises(UsageError, match=r"Cannot read the device file rpi4.toml"):
        load_device("rpi4.toml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rpi5", "No device `rpi5`. Did you mean `rpi4`? There are: host, jetson-tx2, mkr1000,"),
        ("NRF52840", "Did you mean `nrf52840`?"),
        ("zx81", "No device `zx81`. There are: host, .*; or give the path of a .toml file"),
        ("", "No device ``"),
    ],
)
def test_an_unknown_name(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        load_device(name)
