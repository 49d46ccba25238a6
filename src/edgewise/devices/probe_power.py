"""Power of the processor, busy and idle: read from RAPL where the kernel shows it, else assumed."""

import os
import time
from pathlib import Path
from typing import NamedTuple

RAPL = Path("/sys/class/powercap")
ASSUMED_WATTS_PER_CORE = 5.0
INTERVAL_SECONDS = 0.3


class Power(NamedTuple):
    """Watts drawn above idle while computing, watts drawn all the time, and where the figures are from."""

    watts_busy: float
    watts_idle: float
    measured: bool
    origin: str


def measure_power(rapl: Path = RAPL, *, interval_seconds: float = INTERVAL_SECONDS) -> Power:
    """Busy and idle power of all processor packages in watts; takes two intervals where RAPL can be read."""
    counters = _readable(rapl)
    if not counters:
        cores = len(os.sched_getaffinity(0))
        watts = ASSUMED_WATTS_PER_CORE * cores
        origin = (
            f"{ASSUMED_WATTS_PER_CORE:g} W above idle for each of {cores} cores; RAPL cannot be read here"
        )
        return Power(watts, 0.0, measured=False, origin=f"{origin}, and idle power is left out")
    idle = _watts(counters, interval_seconds, busy=False)
    loaded = _watts(counters, interval_seconds, busy=True)
    origin = f"RAPL, {len(counters)} package(s), a torch product against sleep"
    return Power(max(loaded - idle, 0.01), idle, measured=True, origin=origin)


def _readable(rapl: Path) -> list[Path]:
    found = sorted(rapl.glob("intel-rapl:[0-9]*/energy_uj")) if rapl.is_dir() else []
    packages = [path for path in found if path.parent.name.count(":") == 1]
    return [path for path in packages if os.access(path, os.R_OK)]


def _watts(counters: list[Path], interval_seconds: float, *, busy: bool) -> float:
    before = [int(path.read_text()) for path in counters]
    started = time.perf_counter()
    if busy:
        _burn(started + interval_seconds)
    else:
        time.sleep(interval_seconds)
    elapsed = time.perf_counter() - started
    microjoules = 0
    for path, first in zip(counters, before, strict=True):
        used = int(path.read_text()) - first
        if used < 0:  # the counter wrapped
            used += int((path.parent / "max_energy_range_uj").read_text())
        microjoules += used
    return float(f"{microjoules * 1e-6 / elapsed:.4g}")


def _burn(until: float) -> None:
    import torch  # noqa: PLC0415  -- see probe_ops

    a = torch.ones(256, 256)
    while time.perf_counter() < until:
        torch.mm(a, a)
