"""Figures for people: every number with its unit, at most four digits, never a bare `0.00`."""

import math

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
MINUS = "\N{MINUS SIGN}"
_METRIC = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def figure(number: float) -> str:
    """`number` to three significant digits, whole above 100: `0.0813`, `12.3`, `4,096`, `8.1e-07`."""
    size = abs(number)
    if size == 0:
        return "0"
    if size < 1e-4 or size >= 1e15:
        return f"{number:.3g}"
    places = 0 if size >= 99.95 else max(1, 2 - math.floor(math.log10(size * 1.0005)))
    text = f"{number:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def bytes_text(size: float) -> str:
    """Bytes in the largest binary unit that keeps them above one: `96 KiB`."""
    unit = 0
    while abs(size) >= 1024 and unit < len(_BINARY) - 1:
        size, unit = size / 1024, unit + 1
    if unit and abs(size) >= 99.95:
        return f"{size:,.1f}".removesuffix(".0") + f" {_BINARY[unit]}"
    return f"{figure(size)} {_BINARY[unit]}"


def exact_bytes(size: int) -> str:
    """Bytes to the last one: `98,304 B`."""
    return f"{size:,} B"


def metric(amount: float, unit: str) -> str:
    """`amount` of `unit` with the prefix that makes it readable: `73 µJ`, `1.2 ms`."""
    if amount == 0:
        return f"0 {unit}"
    scale, prefix = next((s for s in _METRIC if abs(amount) >= s[0] * 0.9995), _METRIC[-1])
    return f"{figure(amount / scale)} {prefix}{unit}"


def seconds_text(seconds: float) -> str:
    """Seconds, in minutes or hours where they are that many."""
    if seconds >= 7200:
        return f"{figure(seconds / 3600)} h"
    if seconds >= 180:
        return f"{figure(seconds / 60)} min"
    return metric(seconds, "s")


def joules_text(joules: float) -> str:
    """Joules with a metric prefix."""
    return metric(joules, "J")


def percent(share: float, *, signed: bool = False) -> str:
    """`share` of one as percent; a small share stays visible (`<0.01%`) and zero is `0%`."""
    sign = "+" if signed and share > 0 else MINUS if share < 0 else ""
    size = abs(share) * 100
    if size == 0:
        return "0%"
    if size < 0.01:
        return f"{sign}<0.01%"
    return f"{sign}{size:.2f}%" if size < 1 else f"{sign}{figure(size)}%"


def clipped(text: str, limit: int = 96) -> str:
    """`text`, cut to `limit` characters: a name is somebody else's, and may be of any length."""
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def plural(count: int, noun: str) -> str:
    """`1 value`, `2 values`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def nice_step(span: float, pieces: int, *, binary: bool = False) -> float:
    """The round distance (1, 2, 5 x 10^k, or a power of two) that cuts `span` into at most `pieces`."""
    if span <= 0:
        return 1.0
    step = 1.0 if binary else 1e-12
    factors = (2.0,) if binary else (2.0, 2.5, 2.0)
    turn = 0
    while span / step > pieces * (1 + 1e-9):  # 1 / 0.2 may come out above 5
        step *= factors[turn % len(factors)]
        turn += 1
    return step
