"""The kernels, compiled for this machine and called with PyTorch's tensors."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import edgewise.emit

KERNELS = Path(edgewise.emit.__file__).parent / "kernels"
SOURCES = sorted(KERNELS.glob("*.c"))
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LIBRARY = "EDGEWISE_KERNELS"  # in the environment: a library that is built already, with the sanitizers
DIMS = 6
TYPES = {
    torch.float32: 0,
    torch.int64: 1,
    torch.uint8: 2,
    torch.bool: 2,
    torch.int32: 3,
    torch.int8: 4,
}
WEIGHTS = {torch.int8: 4, torch.int16: 5}  # of fixed point


class Tensor(ctypes.Structure):
    """`ew_tensor`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dims", ctypes.c_int32),
        ("size", ctypes.c_int32 * DIMS),
        ("stride", ctypes.c_int32 * DIMS),
    )

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Tensor":
        """A tensor of at most six dims, where it lies."""
        assert tensor.dim() <= DIMS
        assert tensor.dtype in {**TYPES, **WEIGHTS}
        six = ctypes.c_int32 * DIMS
        return cls(tensor.data_ptr(), tensor.dim(), six(*tensor.shape), six(*tensor.stride()))


Pair = ctypes.c_int32 * 2


class Convolution(ctypes.Structure):
    """`ew_convolution_settings`."""

    _fields_ = (("stride", Pair), ("padding", Pair), ("dilation", Pair), ("groups", ctypes.c_int32))

    @classmethod
    def of(cls, stride: Any, padding: Any, dilation: Any, groups: int) -> "Convolution":
        """Settings from pairs of integers."""
        return cls(Pair(*stride), Pair(*padding), Pair(*dilation), groups)


class Terms(ctypes.Structure):
    """`ew_terms_i8`."""

    _fields_ = (
        ("count", ctypes.c_int32),
        ("scale", ctypes.c_float * 4),
        ("low", ctypes.c_float * 4),
        ("high", ctypes.c_float * 4),
    )

    @classmethod
    def of(cls, count: int, *numbers: Sequence[float]) -> "Terms":
        """Terms with four scales, lower and upper limits."""
        return cls(count, *((ctypes.c_float * 4)(*each) for each in numbers))


class Pool(ctypes.Structure):
    """`ew_pool_settings`."""

    _fields_ = (("kernel", Pair), ("stride", Pair), ("padding", Pair), ("dilation", Pair))

    @classmethod
    def of(cls, kernel: Any, stride: Any, padding: Any, dilation: Any = (1, 1)) -> "Pool":
        """Settings from pairs of integers."""
        return cls(Pair(*kernel), Pair(*stride), Pair(*padding), Pair(*dilation))


class Key(ctypes.Structure):
    """`ew_key`."""

    _fields_ = (("seed", ctypes.c_uint64), ("step", ctypes.c_uint64), ("stream", ctypes.c_uint32))


class Directions(ctypes.Structure):
    """`ew_directions`."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("step", ctypes.c_uint64),
        ("law", ctypes.c_int),
        ("count", ctypes.c_int32),
        ("streams", ctypes.POINTER(ctypes.c_uint32)),
    )

    @classmethod
    def of(cls, seed: int, step: int, law: str, streams: Sequence[int]) -> "Directions":
        """Of a law by its name."""
        held = (ctypes.c_uint32 * len(streams))(*streams)
        return cls(seed, step, ("rademacher", "normal").index(law), len(streams), held)


class IntegerDirections(ctypes.Structure):
    """`ew_integer_directions`."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("step", ctypes.c_uint64),
        ("law", ctypes.c_int),
        ("count", ctypes.c_int32),
        ("streams", ctypes.POINTER(ctypes.c_uint32)),
        ("mask", ctypes.c_uint32),
        ("below", ctypes.c_uint32),
        ("spread", ctypes.c_int32),
        ("rest", ctypes.c_int32),
        ("after", ctypes.c_uint64),
    )

    @classmethod
    def of(cls, drawn: Any, step: int) -> "IntegerDirections":
        """As those of a parameter that trains in fixed point."""
        held = (ctypes.c_uint32 * len(drawn.streams))(*drawn.streams)
        chance = (drawn.mask.stream, drawn.mask.below) if drawn.mask else (0, 0)
        guidance = (*drawn.guidance.shares, drawn.guidance.after) if drawn.guidance else (0, 0, 0)
        law = ("rademacher", "normal").index(drawn.law)
        return cls(drawn.seed, step, law, len(drawn.streams), held, *chance, *guidance)


class Factor(ctypes.Structure):
    """`ew_factor`."""

    _fields_ = (("m", ctypes.c_int64), ("k", ctypes.c_int32))


class RateSettings(ctypes.Structure):
    """`ew_rate`."""

    _fields_ = (
        ("units", ctypes.c_int64),
        ("decay_steps", ctypes.c_uint64),
        ("normalized", ctypes.c_int32),
        ("most", ctypes.c_int32),
        ("noise", ctypes.c_uint32),
    )


class Requantize(ctypes.Structure):
    """`ew_requantize`."""

    _fields_ = (("factor", Factor), ("low", ctypes.c_int32), ("high", ctypes.c_int32), ("bias", Factor))


class ProbeSettings(ctypes.Structure):
    """`ew_probe_settings`."""

    _fields_ = (("rates", Factor * 2), ("bias", Factor), ("logits", Factor))


class Sgd(ctypes.Structure):
    """`ew_sgd_settings`."""

    _fields_ = tuple((name, ctypes.c_float) for name in ("lr", "momentum", "weight_decay"))


class Adamw(ctypes.Structure):
    """`ew_adamw_settings`."""

    _fields_ = tuple((name, ctypes.c_double) for name in ("lr", "beta1", "beta2", "eps", "weight_decay"))


C_TYPES: dict[str, Any] = {
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "ew_type": ctypes.c_int,
    "ew_relation": ctypes.c_int,
    "ew_reduction": ctypes.c_int,
    "ew_tensor *": ctypes.POINTER(Tensor),
    "ew_convolution_settings *": ctypes.POINTER(Convolution),
    "ew_terms_i8 *": ctypes.POINTER(Terms),
    "ew_pool_settings *": ctypes.POINTER(Pool),
    "ew_key *": ctypes.POINTER(Key),
    "ew_directions *": ctypes.POINTER(Directions),
    "float []": ctypes.POINTER(ctypes.c_float),
    "int8_t []": ctypes.POINTER(ctypes.c_int8),
    "void *": ctypes.c_void_p,
    "ew_integer_directions *": ctypes.POINTER(IntegerDirections),
    "ew_factor *": ctypes.POINTER(Factor),
    "ew_rate *": ctypes.POINTER(RateSettings),
    "ew_requantize *": ctypes.POINTER(Requantize),
    "ew_probe_settings *": ctypes.POINTER(ProbeSettings),
    "ew_sgd_settings *": ctypes.POINTER(Sgd),
    "ew_adamw_settings *": ctypes.POINTER(Adamw),
    "uint32_t []": ctypes.POINTER(ctypes.c_uint32),
}


def declared() -> dict[str, tuple[str, list[str]]]:
    """Every function of ew.h: what it returns, and the C types of its parameters."""
    text = re.sub(r"/\*.*?\*/", "", (KERNELS / "ew.h").read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"^(void|float) (ew_\w+)\(([^)]*)\);", text, flags=re.MULTILINE)
    return {name: (result, [_type_of(part) for part in given.split(",")]) for result, name, given in found}


def _type_of(parameter: str) -> str:
    found = re.fullmatch(r"(\w+)\s+(\*?)(\w+(?:\[\d*\])?)", parameter.replace("const", "").strip())
    assert found, f"ew.h: cannot read `{parameter}`"
    base, star, name = found.groups()
    suffix = " *" if star else " []" if name.endswith("]") else ""
    return base + suffix


class Native:
    """The kernels of a library, as methods: a tensor becomes an `ew_tensor`, None a null pointer."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, (result, types) in declared().items():
            function = getattr(self._library, name)
            function.argtypes = [C_TYPES[each] for each in types]
            function.restype = ctypes.c_float if result == "float" else None
            setattr(self, name, _calling(function))
        by_bits = self._library.ew_sqrtf_by_bits  # private: what ew_sqrtf is where there is no instruction
        by_bits.argtypes, by_bits.restype = [ctypes.c_float], ctypes.c_float
        self.ew_sqrtf_by_bits = _calling(by_bits)


def _calling(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*(_argument(arg) for arg in args))


def _argument(arg: Any) -> Any:
    if isinstance(arg, torch.Tensor):
        return ctypes.byref(Tensor.of(arg))
    return ctypes.byref(arg) if isinstance(arg, ctypes.Structure) else arg


def compilers() -> dict[str, list[str]]:
    """Every C compiler found that can build for this machine: how to call it."""
    found = {name: [path] for name in ("gcc", "clang") if (path := shutil.which(name))}
    if find_spec("ziglang"):
        found["zig"] = [sys.executable, "-m", "ziglang", "cc"]
    return found


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgewise-kernels-")


@cache
def compiled(*command: str) -> tuple[int, str]:
    """The exit status of a compiler and what it says; a second call repeats the first one's answer."""
    done = subprocess.run(command, cwd=_folder().name, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@cache
def library(*extra: str) -> Path:
    """The kernels as the first compiler makes them, with these flags more."""
    found = compilers()
    assert found, "No C compiler: install gcc, or `pip install edgewise[mcu]`, which brings zig."
    made = Path(_folder().name) / re.sub(r"[^\w.]", "-", f"kernels{''.join(extra)}.so")
    sources, command = [str(source) for source in SOURCES], next(iter(found.values()))
    status, said = compiled(*command, *STRICT, "-shared", "-fPIC", *extra, *sources, "-o", str(made))
    assert status == 0, said
    return made


@cache
def build(*extra: str) -> Native:
    """The kernels with these flags, ready to be called."""
    return Native(library(*extra))


@cache
def kernels() -> Native:
    """The kernels for the tests of a session: the sanitized ones in a process that is there for them."""
    ready = os.environ.get(LIBRARY)
    return Native(Path(ready)) if ready else build("-O2")


@cache
def paired() -> Native:
    """The kernels that go the way of cores with DSP: pairs of products of int8, made in plain C here."""
    return build(*(SANITIZED if os.environ.get(LIBRARY) else ("-O1",)), "-DEW_PAIRS=1")


__all__ = [
    "Adamw",
    "Convolution",
    "Directions",
    "Factor",
    "IntegerDirections",
    "Key",
    "Native",
    "Pool",
    "ProbeSettings",
    "RateSettings",
    "Requantize",
    "Sgd",
    "Tensor",
    "Terms",
    "build",
    "compilers",
    "kernels",
    "paired",
]
