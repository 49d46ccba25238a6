"""`probe_host`: the profile of the machine this runs on, measured in a few seconds."""

import datetime as dt
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgewise.devices.file import numbers
from edgewise.devices.nouns import Compute, Device, Memory, Ram, Tier
from edgewise.devices.probe_disk import filesystem_of, measure_disk
from edgewise.devices.probe_ops import OpRates, measure_ops
from edgewise.devices.probe_power import Power, measure_power

SIZE = 64
DISK_BYTES = 32 * 2**20
DISK_WATTS = 2.0
"""Assumed of a disk at work: if it cost nothing, a plan for little energy would page at any price in time."""

Say = Callable[[str], None]


def probe_host(
    paging_dir: Path | None = None,
    *,
    name: str = "host",
    size: int = SIZE,
    disk_bytes: int = DISK_BYTES,
    say: Say | None = None,
) -> Device:
    """Measure this machine: op rates by class, memory traffic, overhead per op, paging rates, RAM, power.

    Args:
        paging_dir: folder whose disk will be paged to; the system's temporary folder if not given.
        name: name of the profile.
        size: side of the tensors that are measured; tests take a small one.
        disk_bytes: bytes of the large transfer.
        say: is told what is being measured.

    Raises:
        DeviceError: the paging folder cannot be written.
    """
    folder = paging_dir or Path(tempfile.gettempdir())
    say = say or (lambda _: None)
    ops = measure_ops(size, say)
    say("power")
    power = measure_power()
    say(f"disk at {folder}")
    tier = measure_disk(folder, disk_bytes)
    cpu, today = cpu_model(), f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}"
    memory = Memory(Ram(ram_bytes()), ssd=_rounded(tier))
    device = Device(name, f"this machine: {cpu}, probed {today}", _compute(ops, power), memory)
    measured = f"measured on {cpu}, {today}, by `edgewise devices probe`"
    return _with_origins(device, measured, folder, power)


def ram_bytes(root: Path = Path("/")) -> int:
    """RAM of this machine in bytes, or less where a control group allows less."""
    line = next(x for x in (root / "proc/meminfo").read_text().splitlines() if x.startswith("MemTotal:"))
    total = int(line.split()[1]) * 1024
    for limit in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = (root / limit).read_text().strip() if (root / limit).is_file() else "max"
        if text.isdigit():
            total = min(total, int(text))
    return total


def cpu_model() -> str:
    """Name of the processor, as the kernel gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _compute(ops: OpRates, power: Power) -> Compute:
    rates = {kind: round_figure(rate) for kind, rate in ops.class_flops_per_second.items()}
    return Compute(
        rates["other"],
        watts_busy=power.watts_busy,
        class_flops_per_second=rates,
        bytes_per_second=round_figure(ops.bytes_per_second),
        seconds_per_op=round_figure(ops.seconds_per_op),
        watts_idle=power.watts_idle,
    )


def round_figure(number: float) -> float:
    """`number` to four digits: a measurement of milliseconds has no more."""
    return float(f"{number:.4g}")


def _rounded(tier: Tier) -> Tier:
    return Tier(
        round_figure(tier.read_bytes_per_second),
        round_figure(tier.write_bytes_per_second),
        round_figure(tier.read_latency_seconds),
        round_figure(tier.write_latency_seconds),
        watts=DISK_WATTS,
        overlap=tier.overlap,
    )


def _with_origins(device: Device, measured: str, folder: Path, power: Power) -> Device:
    sources = dict.fromkeys(numbers(device), measured)
    sources["compute.flops_per_second"] = f"{measured}: the class `other`, for ops of an unknown class"
    sources["memory.ram.bytes"] = "/proc/meminfo, and the limit of the control group"
    for path in sources:
        if path.startswith("memory.ssd."):
            sources[path] = f"{measured}, in {folder} ({filesystem_of(folder)}), fsync'ed, page cache dropped"
    assumed = {"memory.ssd.overlap": "a background thread pages while torch computes"}
    watts = ("compute.watts_busy", "compute.watts_idle")
    for path in watts:
        if power.measured:
            sources[path] = f"{measured}; {power.origin}"
        else:
            sources.pop(path, None)
            assumed[path] = power.origin
    sources.pop("memory.ssd.watts", None)
    assumed["memory.ssd.watts"] = f"not measured: {DISK_WATTS:g} W for a solid-state disk at work"
    return msgspec.structs.replace(device, sources=sources, assumed=assumed)
