"""Kernel calls as C text: each in a block of its own, with the tensors it names."""

import re
from collections.abc import Callable
from typing import Any

from edgewise.emit.calls import Call, Settings, Table, Unsupported, c_number, extents, single
from edgewise.emit.views import MOST_DIMS, View, plus, times

INDENT = "    "
_CONSTANT = re.compile(r"(model_arena|FLASH\(\d+\))( \+ \d+)*")
"""An address that is known when the program is linked."""

Place = Callable[[View], str]
"""The C expression of the address of the first element of a view's value."""


def render(call: Call, place: Place) -> list[str]:
    """The lines of a block that makes `call`.

    Tensors of numbers alone are constants, and cost no stack.
    """
    declared: list[str] = []
    seen: dict[View | Settings | Table, str] = {}
    words = []
    for argument in call.arguments:
        if not isinstance(argument, (View, Settings, Table)):
            words.append(_literal(argument))
            continue
        if argument not in seen:
            kind, letter = type(argument), {View: "t", Settings: "s", Table: "a"}[type(argument)]
            seen[argument] = f"{letter}{sum(isinstance(other, kind) for other in seen)}"
            declared += _declared(seen[argument], argument, place)
        words.append(seen[argument] if isinstance(argument, Table) else f"&{seen[argument]}")
    made = f"{call.function}({', '.join(words)})"
    lines = [*declared, f"TRY({made});" if call.checked else f"{made};"]
    if not declared:
        return lines
    return ["{", *(INDENT + line for line in lines), "}"]


def _declared(name: str, argument: View | Settings | Table, place: Place) -> list[str]:
    if isinstance(argument, View):
        return [tensor(name, argument, place)]
    if isinstance(argument, Table):
        return [_table(name, argument)]
    return _settings(name, argument)


def tensor(name: str, view: View, place: Place) -> str:
    """The declaration of `view` as the C tensor `name`."""
    if view.dims > MOST_DIMS:
        raise Unsupported(f"no kernel in C for {view.dims} dims")
    address = plus(place(view), times(view.offset, view.dtype.itemsize))
    size, stride = (extents(e) for e in (view.size or (1,), view.stride or (1,)))
    fixed = all(isinstance(e, int) for e in (*view.size, *view.stride))
    storage = "static const" if fixed and _CONSTANT.fullmatch(str(address)) else "const"
    text = f"{storage} ew_tensor {name} = {{{address}, {max(view.dims, 1)}, {{{size}}}, {{{stride}}}}};"
    return f"{text} /* {comment(view.value)} */" if view.value else text


def comment(text: str) -> str:
    """`text` without what would end a comment."""
    return text.replace("*/", "* /").replace("\n", " ")


def _table(name: str, table: Table) -> str:
    numbers = ", ".join(map(c_number, table.numbers))
    return f"static const {table.kind} {name}[] = {{{numbers}}};"


def _settings(name: str, settings: Settings) -> list[str]:
    """The tables in it, and itself."""
    tables = {f: f"{name}_{i}" for i, f in enumerate(settings.fields) if isinstance(f, Table)}
    fields = [tables[f] if isinstance(f, Table) else _field(f) for f in settings.fields]
    dynamic = any(isinstance(f, str) and not f.rstrip("u").isdigit() for f in _flat(settings.fields))
    storage = "const" if dynamic else "static const"
    return [
        *(_table(name, table) for table, name in tables.items()),
        f"{storage} {settings.kind} {name} = {{{', '.join(fields)}}};",
    ]


def _flat(fields: tuple[Any, ...]) -> list[Any]:
    return [f for field in fields for f in (_flat(field) if isinstance(field, tuple) else [field])]


def _field(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{{{', '.join(map(_field, value))}}}"
    return c_number(value)


def _literal(argument: Any) -> str:
    if argument is None:
        return "NULL"
    return c_number(single(argument) if isinstance(argument, float) else argument)
