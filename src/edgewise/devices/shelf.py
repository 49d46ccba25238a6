"""Where device profiles are found: the user's own folder first, then the ones that ship with Edgewise."""

import difflib
import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from edgewise.devices.file import decode_device, read_device
from edgewise.devices.nouns import Device
from edgewise.errors import CorruptArtifact, EdgewiseError, UsageError

BUILT_IN = "built-in"


class Listed(NamedTuple):
    """One profile on the shelf: where it is from, and the device or what is wrong with its file."""

    name: str
    origin: str
    device: Device | None
    problem: str = ""

    @property
    def is_built_in(self) -> bool:
        """Whether the profile ships with Edgewise."""
        return self.origin == BUILT_IN


def user_folder() -> Path:
    """Folder of the user's own profiles, `$XDG_CONFIG_HOME/edgewise/devices`; the probe writes there."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "edgewise" / "devices"


def load_device(name_or_path: str | Path) -> Device:
    """The device of that name, or of the file at that path (anything with a `/` or ending in `.toml`).

    Raises:
        UsageError: no such profile or file; the message lists what there is.
        CorruptArtifact: the file breaks a rule of `device.toml`; the message gives the place in the document.
    """
    text = str(name_or_path)
    path = _path_of(name_or_path)
    if path is None:
        return _built_in(text)
    device = read_device(path)
    return device if _is_path(name_or_path) else _named(device, text, str(path))


def profile_text(name_or_path: str | Path) -> str:
    """The profile's file as it stands, with its comments, if it can be read. Raises as `load_device`."""
    load_device(name_or_path)
    path = _path_of(name_or_path)
    return (path or _profiles() / f"{name_or_path}.toml").read_text("utf-8")


def _is_path(name_or_path: str | Path) -> bool:
    text = str(name_or_path)
    return isinstance(name_or_path, Path) or "/" in text or text.endswith(".toml")


def _path_of(name_or_path: str | Path) -> Path | None:
    """The file of a profile, or `None` if it is a built-in one."""
    text = str(name_or_path)
    if _is_path(name_or_path):
        return Path(text).expanduser()
    own = user_folder() / f"{text}.toml"
    if text and own.is_file():
        return own
    if text in _built_in_names():
        return None
    raise UsageError(_unknown(text))


def list_devices() -> tuple[Listed, ...]:
    """Every profile by name. Your file hides the built-in one of its name; a bad file is listed as such."""
    listed = {name: Listed(name, BUILT_IN, _built_in(name)) for name in _built_in_names()}
    for path in sorted(user_folder().glob("*.toml")):
        try:
            listed[path.stem] = Listed(path.stem, str(path), load_device(path.stem))
        except EdgewiseError as error:
            listed[path.stem] = Listed(path.stem, str(path), None, str(error))
    return tuple(listed[name] for name in sorted(listed))


def _profiles() -> Traversable:
    return resources.files("edgewise.devices") / "profiles"


def _built_in_names() -> list[str]:
    names = (item.name for item in _profiles().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def _built_in(name: str) -> Device:
    where = f"built-in profile {name}.toml"
    data = (_profiles() / f"{name}.toml").read_bytes()
    return _named(decode_device(data, where=where), name, where)


def _named(device: Device, name: str, where: str) -> Device:
    if device.name != name:  # a plan names its device; two names for one profile would refuse it later
        raise CorruptArtifact(
            f"{where}: the profile calls itself `{device.name}`. Name the file and the device alike."
        )
    return device


def _unknown(name: str) -> str:
    names = [listed.name for listed in list_devices()]
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return f"No device `{name}`.{hint} There are: {', '.join(names)}; or give the path of a .toml file."
