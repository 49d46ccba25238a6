"""Every profile that ships: it loads, each number has an origin, the published ones agree with each other."""

from importlib import resources

import pytest

from edgewise.devices import (
    Device,
    decode_device,
    encode_device,
    list_devices,
    load_device,
    numbers,
    profile_text,
)

NAMES = ("host", "jetson-tx2", "mkr1000", "nrf52840", "rpi4", "stm32f4", "stm32f7")
POETS = ("mkr1000", "nrf52840", "rpi4", "jetson-tx2")


@pytest.fixture(params=NAMES)
def device(request: pytest.FixtureRequest) -> Device:
    return load_device(request.param)


def test_these_and_no_others_ship() -> None:
    files = (resources.files("edgewise.devices") / "profiles").iterdir()
    assert tuple(sorted(file.name.removesuffix(".toml") for file in files)) == NAMES
    assert tuple(listed.name for listed in list_devices() if listed.is_built_in) == NAMES


def test_every_number_has_exactly_one_origin(device: Device) -> None:
    for path in numbers(device):
        assert (path in device.sources) != (path in device.assumed), path
    assert all(len(text) > 10 for text in (*device.sources.values(), *device.assumed.values()))


def test_every_profile_can_page(device: Device) -> None:
    assert device.memory.paging is not None
    assert device.read_cost(4096).seconds > 0
    assert "overlap" in next(path for path in device.assumed if path.endswith("overlap"))


def test_what_is_written_is_what_was_read(device: Device) -> None:
    assert decode_device(encode_device(device).encode()) == device


def test_the_text_of_a_profile_is_its_file_with_its_comments(device: Device) -> None:
    text = profile_text(device.name)
    assert text.startswith("# ")
    assert decode_device(text.encode()) == device


@pytest.mark.parametrize("name", POETS)
def test_a_figure_of_poet_names_the_place_it_is_from(name: str) -> None:
    sources = load_device(name).sources
    assert sources
    assert all("ShishirPatil/poet@6e63098 poet/chipsets.py" in text for text in sources.values())


@pytest.mark.parametrize(
    ("name", "mflops", "nanojoules", "read_ms", "read_mb", "write_ms", "write_mb", "watts"),
    [
        ("mkr1000", 0.1667, 396, 0.109, 4.617, 0.113, 4.440, 0.33),
        ("nrf52840", 6.370, 1.724, 0.109, 4.617, 0.113, 4.440, 0.33),
        ("rpi4", 120.3, 24.93, 0.0051, 45.5, 0.0185, 24.5, 0.15),
    ],
)
def test_poets_published_figures(
    name: str,
    mflops: float,
    nanojoules: float,
    read_ms: float,
    read_mb: float,
    write_ms: float,
    write_mb: float,
    watts: float,
) -> None:
    device = load_device(name)
    tier = device.memory.sd
    assert tier is not None
    assert device.compute.flops_per_second == pytest.approx(mflops * 1e6, rel=1e-3)
    assert device.compute.joules_per_flop == pytest.approx(nanojoules * 1e-9, rel=1e-3)
    assert tier.read_latency_seconds == pytest.approx(read_ms * 1e-3, rel=2e-2)
    assert tier.read_bytes_per_second == pytest.approx(read_mb * 1e6, rel=1e-3)
    assert tier.write_latency_seconds == pytest.approx(write_ms * 1e-3, rel=2e-2)
    assert tier.write_bytes_per_second == pytest.approx(write_mb * 1e6, rel=1e-3)
    assert tier.watts == watts


@pytest.mark.parametrize(("name", "watts"), [("mkr1000", 0.066), ("nrf52840", 0.01098), ("rpi4", 3.0)])
def test_rate_and_energy_of_one_measurement_give_its_power(name: str, watts: float) -> None:
    compute = load_device(name).compute
    assert compute.flops_per_second * compute.joules_per_flop == pytest.approx(watts, rel=1e-3)


def test_where_poet_contradicts_itself_the_profile_says_so() -> None:
    assert "contradicts" in load_device("rpi4").sources["compute.flops_per_second"]
    assert "49.9 W" in profile_text("rpi4")


def test_what_poet_leaves_out_is_assumed() -> None:
    jetson = load_device("jetson-tx2")
    assert "has no FLOPS" in jetson.assumed["compute.flops_per_second"]
    assert "KeyError" in profile_text("jetson-tx2")
    assert all("memory.ram.bytes" in load_device(name).assumed for name in POETS)


@pytest.mark.parametrize(("name", "megahertz"), [("stm32f4", 168), ("stm32f7", 216)])
def test_boards_nobody_measured_scale_the_m4f_by_the_clock_and_say_so(name: str, megahertz: int) -> None:
    board, measured = load_device(name), load_device("nrf52840")
    expected = measured.compute.flops_per_second * megahertz / 64
    assert board.compute.flops_per_second == pytest.approx(expected, rel=1e-12)
    assert "compute.flops_per_second" in board.assumed
    assert "compute.joules_per_flop" in board.assumed


def test_the_host_is_assumed_until_it_is_probed() -> None:
    host = load_device("host")
    assert not host.sources
    assert "edgewise devices probe" in host.description
