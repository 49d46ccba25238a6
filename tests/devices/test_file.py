"""`device.toml`: what is written is what was read, and each fault of a file has its own words."""

import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.devices import (
    Compute,
    Device,
    Memory,
    Ram,
    Tier,
    decode_device,
    encode_device,
    numbers,
    read_device,
    save_device,
)
from edgewise.devices.file import MAX_FILE_BYTES
from edgewise.errors import CorruptArtifact, UsageError

GOOD = """\
format = "edgewise.device/1"
name = "board"
description = "a board"

[compute]
flops_per_second = 1e6
joules_per_flop = 1e-9

[memory.ram]
bytes = 65536

[memory.sd]
read_bytes_per_second = 2e6
write_bytes_per_second = 1e6

[sources]
"compute.flops_per_second" = "measured"
"compute.joules_per_flop" = "measured"

[assumed]
"memory.ram.bytes" = "guessed"
"memory.sd.read_bytes_per_second" = "guessed"
"memory.sd.write_bytes_per_second" = "guessed"
"""

_POSITIVE = st.floats(1e-30, 1e30)
_ANY = st.one_of(st.just(0.0), _POSITIVE)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_COMPUTES = st.builds(
    Compute,
    flops_per_second=_POSITIVE,
    joules_per_flop=_POSITIVE,
    watts_busy=_ANY,
    class_flops_per_second=st.dictionaries(_TEXTS, _POSITIVE, max_size=3),
    bytes_per_second=st.none() | _POSITIVE,
    seconds_per_op=_ANY,
    watts_idle=_ANY,
)
_TIERS = st.none() | st.builds(
    Tier,
    read_bytes_per_second=_POSITIVE,
    write_bytes_per_second=_POSITIVE,
    read_latency_seconds=_ANY,
    write_latency_seconds=_ANY,
    watts=_ANY,
    bytes=st.none() | st.integers(1, 2**50),
    overlap=st.booleans(),
)
_MEMORIES = st.builds(
    Memory, ram=st.builds(Ram, st.integers(1, 2**50)), sd=_TIERS, flash=_TIERS, ssd=_TIERS, host=_TIERS
)


@st.composite
def devices(draw: st.DrawFn) -> Device:
    device = Device(draw(_TEXTS), draw(_TEXTS), draw(_COMPUTES), draw(_MEMORIES))
    measured, assumed = {}, {}
    for path in numbers(device):
        (measured if draw(st.booleans()) else assumed)[path] = draw(_TEXTS)
    return msgspec.structs.replace(device, sources=measured, assumed=assumed)


@given(devices())
def test_what_is_written_is_what_was_read(device: Device) -> None:
    assert decode_device(encode_device(device).encode()) == device


def test_save_and_read(tmp_path: Path) -> None:
    device = decode_device(GOOD.encode())
    path = tmp_path / "own" / "board.toml"
    save_device(device, path)
    save_device(msgspec.structs.replace(device, description="größer"), path)
    assert read_device(path).description == "größer"
    assert [file.name for file in path.parent.iterdir()] == ["board.toml"], "no half-written file is left"


def test_numbers_have_the_paths_that_origins_use() -> None:
    device = decode_device(GOOD.encode())
    assert set(numbers(device)) == {*device.sources, *device.assumed}
    assert numbers(device)["memory.ram.bytes"] == 65536


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[compute]", "[compute", "board.toml is not TOML: .* Mend the file, or probe the device again"),
        ('format = "edgewise.device/1"\n', "", "board.toml: format `missing` is not `edgewise.device/1`"),
        (
            "device/1",
            "device/2",
            "format `edgewise.device/2` is not `edgewise.device/1`, the one this version reads",
        ),
        (
            "joules_per_flop = 1e-9",
            "joule_per_flop = 1e-9",
            r"unknown field `joule_per_flop` - at `\$.compute`",
        ),
        ("flops_per_second = 1e6\n", "", r"missing required field `flops_per_second` - at `\$.compute`"),
        (
            "bytes = 65536",
            'bytes = "64KiB"',
            r"Expected `int`, got `str` - at `\$.memory.ram.bytes`. Mend the file",
        ),
        ("bytes = 65536", "bytes = 0", "`memory.ram.bytes` is 0; a rate or a size must be above zero"),
        (
            "flops_per_second = 1e6",
            "flops_per_second = 0",
            "`compute.flops_per_second` is 0; a rate or a size",
        ),
        ("bytes = 65536", "bytes = -1", "`memory.ram.bytes` is -1; it must be a number from 0 to"),
        ("read_bytes_per_second = 2e6", "read_bytes_per_second = inf", "is inf; it must be a number"),
        ("joules_per_flop = 1e-9", "joules_per_flop = nan", "is nan; it must be a number"),
        (
            '"memory.ram.bytes" = "guessed"\n',
            "",
            r"`memory.ram.bytes` has no origin; name it in `\[sources\]`",
        ),
        ("[assumed]\n", '"memory.ram.bytes" = "x"\n[assumed]\n', "must be in exactly one of them"),
        ('"memory.ram.bytes"', '"memory.ram.byte"', "`memory.ram.bytes` has no origin"),
        (
            "[assumed]",
            '[assumed]\n"memory.ssd.watts" = "x"',
            "an origin is given for `memory.ssd.watts`, which",
        ),
        (
            "joules_per_flop = 1e-9",
            "joules_per_flop = 0.0",
            "it gives no energy; set `compute.joules_per_flop`",
        ),
        ("bytes = 65536", f"bytes = 1{'0' * 400}", "it must be a number from 0 to"),
        ("bytes = 65536", f"bytes = 1{'0' * 5000}", "board.toml is not TOML: Exceeds the limit"),
        ("[memory.sd]", "[memory.tape]", "unknown field `tape`"),
        ("[memory.sd]", "[memory.sd]\noverlap = 1", "Expected `bool`, got `int`"),
    ],
)
def test_each_fault_has_its_own_words(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(CorruptArtifact, match=said):
        decode_device(GOOD.replace(old, new, 1).encode(), where="board.toml")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"\x00", b"[" * 100_000, b'format = "edgewise.device/1"\nname = 3']
)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        decode_device(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        decode_device(data)


@given(st.integers(0, len(GOOD)), st.characters(min_codepoint=9, max_codepoint=126))
def test_a_changed_character_is_read_or_refused(at: int, character: str) -> None:
    with contextlib.suppress(CorruptArtifact):
        decode_device((GOOD[:at] + character + GOOD[at + 1 :]).encode())


def test_a_file_may_not_be_endless(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_bytes(GOOD.encode() + b"#" * MAX_FILE_BYTES)
    with pytest.raises(CorruptArtifact, match=r"more bytes than a device file may have \(1,048,576\)"):
        read_device(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"Cannot read the device file .*no.toml: No such file.* Check the path"
    ):
        read_device(tmp_path / "no.toml")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"Cannot write the device file .* Choose another place"):
        save_device(decode_device(GOOD.encode()), tmp_path / "file" / "board.toml")
