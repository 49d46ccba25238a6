"""The kernels in every compiler: no warning, small frames, nothing read or written beside a tensor."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emit.layouts import empty, normal, place
from tests.emit.native import (
    LIBRARY,
    SANITIZED,
    SOURCES,
    STRICT,
    Convolution,
    Native,
    build,
    compiled,
    compilers,
    declared,
    kernels,
    library,
)

HERE = Path(__file__).parent
SUITES = sorted(str(path) for path in HERE.glob("test_kernels_*.py") if path.name != Path(__file__).name)
FRAME_BYTES = 511
ZIG = [sys.executable, "-m", "ziglang", "cc", "-target"]
TARGETS = {
    "zig Cortex-M4F": [*ZIG, "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"],
    "zig Cortex-M3": [*ZIG, "thumb-freestanding-eabi", "-mcpu=cortex_m3"],
}
ARM_GCC = "arm-none-eabi-gcc"
if shutil.which(ARM_GCC):
    FPU = ("-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")
    TARGETS["gcc Cortex-M4F"] = [ARM_GCC, "-mcpu=cortex-m4", "-mthumb", *FPU]
    TARGETS["gcc Cortex-M3"] = [ARM_GCC, "-mcpu=cortex-m3", "-mthumb"]


@pytest.mark.parametrize(
    "target", [t if t.endswith("M4F") else pytest.param(t, marks=pytest.mark.slow) for t in TARGETS]
)
def test_no_warnings_and_small_frames_on_devices(target: str) -> None:
    frames = f"-Wframe-larger-than={FRAME_BYTES}"

    status, said = compiled(*TARGETS[target], *STRICT, "-O2", frames, "-c", *map(str, SOURCES))

    assert (status, said) == (0, "")


@pytest.mark.parametrize("compiler", compilers())
def test_no_warnings_on_this_machine(compiler: str) -> None:
    status, said = compiled(*compilers()[compiler], *STRICT, "-O2", "-c", *map(str, SOURCES))

    assert (status, said) == (0, "")


def test_every_function_is_declared_once_and_tested() -> None:
    text = "".join(Path(path).read_text(encoding="utf-8") for path in SUITES)
    named = {name for name in declared() if name in text}
    parts = {f"ew_{key}" for key in re.findall(r'^    "(\w+)": \(', text, flags=re.MULTILINE)}
    composed = {f"ew_{name}" for name in re.findall(r'"(\w+)"', text)}

    assert len(declared()) > 90
    assert set(declared()) - named - parts - composed == set()


def test_the_kernels_call_nothing_of_a_library() -> None:
    """But `memcpy` and `memset`, which a compiler may make of loops."""
    made = str(library("-O2"))
    listed = subprocess.run(["nm", "-D", "-u", made], capture_output=True, text=True, check=True).stdout

    assert set(re.findall(r"\bU (\w+)", listed)) <= {"memcpy", "memset"}


def sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python in which the kernels are built with the sanitizers, and every tensor is watched."""
    asked = ["gcc", "-print-file-name=libasan.so"]
    preloaded = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    ready = str(library(*SANITIZED))
    watched = {LIBRARY: ready, "LD_PRELOAD": preloaded, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **watched},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_case_reads_or_writes_beside_a_tensor() -> None:
    """All the other tests once more, with a few examples each."""
    done = sanitized("-m", "pytest", "-x", "-p", "no:cacheprovider", *SUITES)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_sanitizers_see_a_tensor_that_is_too_short() -> None:
    """What the test above relies on."""
    code = """
import torch
from tests.emit.native import Tensor, kernels
room = torch.zeros(63)
wrong = Tensor.of(room)
wrong.size[0] = 64
kernels().ew_fill(wrong, 1.0)
"""
    done = sanitized("-c", code)

    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def digest(native: Native) -> list[bytes]:
    """Results of a few kernels of all kinds, as bytes."""
    x, w = normal((2, 5, 9, 8), 1), normal((6, 5, 3, 3), 2)
    y, dw, dx = empty((2, 6, 5, 8)), empty(w.shape), empty(x.shape)
    settings = Convolution.of((2, 1), (1, 1), (1, 1), 1)
    native.ew_convolution(y, x, w, None, settings)
    native.ew_convolution_weight_gradient(dw, y, x, settings)
    native.ew_convolution_input_gradient(dx, y, w, settings)
    soft, product, activated = empty(x.shape), empty((7, 7)), empty(x.shape)
    native.ew_log_softmax(soft, x, 1)
    native.ew_matmul(product, normal((7, 200), 3), normal((200, 7), 4))
    native.ew_gelu(activated, place(x, 3), 0)
    native.ew_pow_scalar(activated, activated, 1.7)
    made = [y, dw, dx, soft, product, activated]
    return [ctypes.string_at(t.data_ptr(), 4 * t.numel()) for t in made]


@pytest.mark.parametrize(
    "flags", [pytest.param(("-O0",), marks=pytest.mark.slow), ("-O3", "-march=native")], ids=" ".join
)
def test_the_same_bits_at_every_level(flags: tuple[str, ...]) -> None:
    assert digest(build(*flags)) == digest(kernels())
