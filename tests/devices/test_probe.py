"""The probe, with tensors and files so small that it takes moments. What it measures is whatever it is."""

import errno
import os
import types
from pathlib import Path

import pytest

from edgewise.capture import AdamW, capture
from edgewise.devices import (
    decode_device,
    encode_device,
    load_device,
    numbers,
    probe,
    probe_disk,
    probe_host,
    probe_ops,
    probe_power,
)
from edgewise.errors import DeviceError
from edgewise.zoo import resolve_task

CLASSES = {
    "matmul",
    "convolution",
    "depthwise_convolution",
    "elementwise",
    "reduction",
    "normalization",
    "softmax",
    "pooling",
    "embedding",
    "copy",
    "random",
    "optimizer",
    "other",
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_ops, "SAMPLE_SECONDS", 1e-5)


def test_a_probed_host_is_a_profile_like_any_other(quick: None, tmp_path: Path) -> None:
    said: list[str] = []
    device = probe_host(tmp_path / "pages", name="mine", size=8, disk_bytes=65536, say=said.append)
    assert device.name == "mine"
    assert set(device.compute.class_flops_per_second) == CLASSES
    assert decode_device(encode_device(device).encode()) == device
    assert {*CLASSES, "power", f"disk at {tmp_path / 'pages'}"} == set(said)
    assert device.memory.paging is not None
    assert device.memory.paging[0] == "ssd"
    assert device.overlaps
    assert all((path in device.sources) != (path in device.assumed) for path in numbers(device))
    assert str(tmp_path) in device.sources["memory.ssd.read_bytes_per_second"]
    assert not list((tmp_path / "pages").iterdir()), "the file that was measured is gone"


@pytest.mark.parametrize("name", ["digits-cnn", "transformer", "text-classifier"])
def test_every_class_of_a_captured_step_was_measured(name: str) -> None:
    task = resolve_task(name, batch=2)
    graph = capture(task.model, task.loss, AdamW(), task.example_batch).graph
    assert {op.kind for op in graph.ops} <= CLASSES


def test_the_stand_in_for_the_host_has_a_rate_for_every_class() -> None:
    assert set(load_device("host").compute.class_flops_per_second) == CLASSES


def test_figures_are_rounded_to_what_was_measured() -> None:
    assert probe.round_figure(123456.0) == 123500.0
    assert probe.round_figure(0.00012345678) == 0.0001235


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1000 * 1024),
        ({"sys/fs/cgroup/memory.max": "max"}, 1000 * 1024),
        ({"sys/fs/cgroup/memory.max": "4096\n"}, 4096),
        ({"sys/fs/cgroup/memory.max": "9999999999"}, 1000 * 1024),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "8192"}, 8192),
    ],
)
def test_ram_is_what_the_control_group_leaves(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    for name, text in {"proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\n", **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert probe.ram_bytes(tmp_path) == expected


def test_the_processor_has_a_name() -> None:
    assert probe.cpu_model()


def test_latency_and_rate_are_solved_from_a_small_and_a_large_transfer() -> None:
    latency, rate = probe_disk._medians(lambda size: 0.25 + size / 1000.0, 100_000, 3)
    assert (latency, rate) == pytest.approx((0.25, 1000.0))


def test_a_disk_without_latency_is_not_given_a_negative_one() -> None:
    latency, rate = probe_disk._medians(lambda size: (size / 1000.0) ** 2, 8192, 1)
    assert latency == 0.0
    assert rate > 0


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tier = probe_disk.measure_disk(tmp_path, 16384, samples=1)
    assert tier.read_bytes_per_second > 0
    assert tier.write_bytes_per_second > 0


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DeviceError, match=r"Cannot page to .*: No space left on device. Free some space, or"):
        probe_disk.measure_disk(tmp_path, 8192)


def test_a_file_that_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(DeviceError, match=r"Cannot page to .*: the file ended early"):
        probe_disk.measure_disk(tmp_path, 8192)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeviceError, match=r"name another folder with `--paging-dir`"):
        probe_disk.measure_disk(tmp_path / "file" / "pages", 8192)


def test_the_file_system_of_a_folder() -> None:
    assert probe_disk.filesystem_of(Path("/proc")) == "proc"


def _rapl(root: Path, packages: int) -> Path:
    for number in range(packages):
        folder = root / f"intel-rapl:{number}"
        (folder / f"intel-rapl:{number}:0").mkdir(parents=True)
        (folder / "energy_uj").write_text("1000")
        (folder / "max_energy_range_uj").write_text("1000000")
        (folder / f"intel-rapl:{number}:0" / "energy_uj").write_text("7")
    return root


def test_power_is_assumed_where_the_kernel_does_not_tell(tmp_path: Path) -> None:
    power = probe_power.measure_power(tmp_path / "none")
    assert not power.measured
    assert power.watts_busy == 5.0 * len(os.sched_getaffinity(0))
    assert "RAPL cannot be read here" in power.origin


def test_power_is_read_from_every_package(tmp_path: Path) -> None:
    power = probe_power.measure_power(_rapl(tmp_path, 2), interval_seconds=0.001)
    assert power.measured
    assert power.watts_busy == 0.01, "counters that stand still: the least that a profile may say"
    assert "2 package(s)" in power.origin


def test_a_counter_may_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = _rapl(tmp_path, 1) / "intel-rapl:0" / "energy_uj"
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(
        probe_power,
        "time",
        types.SimpleNamespace(
            perf_counter=lambda: next(clock),
            sleep=lambda _: counter.write_text("500"),  # 1000 -> wrap -> 500
        ),
    )
    assert probe_power._watts([counter], 1.0, busy=False) == pytest.approx(0.4997)
