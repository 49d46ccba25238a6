"""`edgewise devices`: what profiles there are, what is in one, and a profile of this machine."""

from pathlib import Path
from typing import Any

from cyclopts import App

from edgewise.cli.output import note, write_facts, write_json, write_line, write_table
from edgewise.cli.params import AsJson, OutFile
from edgewise.devices import (
    Device,
    Listed,
    list_devices,
    load_device,
    numbers,
    probe_host,
    profile_text,
    save_device,
    user_folder,
)
from edgewise.errors import UsageError
from edgewise.report.units import bytes_text, figure, seconds_text

EXAMPLE = """\
Example:
  edgewise devices
  edgewise devices show nrf52840
  edgewise devices probe"""

EXAMPLE_SHOW = """\
Example:
  edgewise devices show rpi4 > my-board.toml"""

EXAMPLE_PROBE = """\
Example:
  edgewise devices probe --paging-dir /mnt/sdcard"""

app = App(name="devices", help_epilogue=EXAMPLE)


@app.default
def devices(*, as_json: AsJson = False) -> None:
    """Profiles of devices: compute rates, memories, energies. Without a command: list them.

    Args:
        as_json: Print the result as JSON.
    """
    listed = list_devices()
    if as_json:
        write_json([_entry(entry) for entry in listed])
        return
    rows = []
    for entry in listed:
        device = entry.device
        if device is None:
            rows.append((entry.name, "", "", "", "", f"unusable: {entry.problem}"))
            continue
        paging = device.memory.paging
        rows.append(
            (
                entry.name,
                bytes_text(device.memory.ram.bytes),
                figure(device.compute.flops_per_second / 1e6),
                paging[0] if paging else "none",
                "{} of {}".format(*_assumed(device)),
                device.description if entry.is_built_in else f"{device.description} ({entry.origin})",
            )
        )
    heads = {"device": False, "RAM": True, "MFLOP/s": True, "pages to": False, "assumed": True, "what": False}
    write_table(heads, rows)


@app.command(help_epilogue=EXAMPLE_SHOW)
def show(name: str, /, *, as_json: AsJson = False) -> None:
    """Print a profile, with the origin of each number. It can be saved, changed and used as your own.

    Args:
        name: Name of a profile, or path of a .toml file.
        as_json: Print the result as JSON.
    """
    if as_json:
        write_json(load_device(name))
        return
    write_line(profile_text(name).rstrip("\n"))


@app.command(help_epilogue=EXAMPLE_PROBE)
def probe(
    *, name: str = "host", paging_dir: Path | None = None, out: OutFile = None, as_json: AsJson = False
) -> None:
    """Measure this machine in a few seconds and save the profile among your own.

    Args:
        name: Name of the profile.
        paging_dir: Folder on the disk that will be paged to. The system's temporary folder if not given.
        out: File to save to. NAME.toml in your folder of profiles if not given.
        as_json: Print the result as JSON.
    """
    if not name or "/" in name or name.startswith("."):
        raise UsageError(
            f"`{name}` is no name of a profile. Use letters, digits and dashes, as in `--name my-board`."
        )
    device = probe_host(paging_dir, name=name, say=lambda what: note(f"measuring {what}"))
    path = out or user_folder() / f"{name}.toml"
    save_device(device, path)
    if as_json:
        write_json({"name": name, "path": str(path), "device": device})
        return
    write_facts(_figures(device, path), title=device.description)


def _entry(entry: Listed) -> dict[str, Any]:
    device = entry.device
    if device is None:
        return {"name": entry.name, "origin": entry.origin, "problem": entry.problem}
    paging = device.memory.paging
    assumed, total = _assumed(device)
    return {
        "name": entry.name,
        "origin": entry.origin,
        "description": device.description,
        "ram_bytes": device.memory.ram.bytes,
        "flops_per_second": device.compute.flops_per_second,
        "paging_tier": paging[0] if paging else None,
        "numbers": total,
        "assumed": assumed,
        "problem": None,
    }


def _assumed(device: Device) -> tuple[int, int]:
    """How many of the profile's numbers are assumed, and how many there are."""
    paths = numbers(device)
    return sum(path in device.assumed for path in paths), len(paths)


def _figures(device: Device, path: Path) -> list[tuple[str, str]]:
    rates = device.compute.class_flops_per_second
    facts = [("RAM", bytes_text(device.memory.ram.bytes))]
    facts += [(kind, f"{figure(rate / 1e6)} MFLOP/s") for kind, rate in sorted(rates.items())]
    facts.append(("overhead of an op", seconds_text(device.compute.seconds_per_op)))
    facts.append(
        ("power", f"{figure(device.compute.watts_busy)} W busy, {figure(device.compute.watts_idle)} W idle")
    )
    if device.memory.paging:
        name, tier = device.memory.paging
        facts.append((f"{name}, page in", f"{bytes_text(tier.read_bytes_per_second)}/s"))
        facts.append((f"{name}, page out", f"{bytes_text(tier.write_bytes_per_second)}/s"))
    if "(tmpfs)" in device.sources.get("memory.ssd.read_bytes_per_second", ""):
        facts.append(
            ("caution", "the folder that was measured is in RAM; name one on a disk: `--paging-dir`")
        )
    return [*facts, ("saved to", str(path))]
