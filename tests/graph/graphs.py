"""Random graphs that keep every rule, for hypothesis."""

from hypothesis import strategies as st

from edgewise.graph import WHOLE, Graph, Op, Option, Value

_NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
_COSTS = st.none() | st.floats(0, 1e6)


@st.composite
def graphs(draw: st.DrawFn, max_ops: int = 6) -> Graph:
    """Sources of every kind, then ops that read what is there, make values, update parameters and states."""
    values = [
        Value(f"s{i}", draw(st.integers(0, 100)), draw(st.sampled_from(["input", "parameter", "state"])))
        for i in range(draw(st.integers(1, 4)))
    ]
    present = [value.name for value in values]
    size = {value.name: value.bytes for value in values}
    kind = {value.name: value.kind for value in values}
    ops = []
    for i in range(draw(st.integers(0, max_ops))):
        inputs = tuple(draw(st.lists(st.sampled_from(present), max_size=3, unique=True)))
        updates = []
        for old in draw(st.lists(st.sampled_from(present), max_size=2, unique=True)):
            if kind[old] in ("parameter", "state"):
                new = f"{old}'{i}"
                values.append(Value(new, size[old], kind[old]))  # type: ignore[arg-type]
                updates.append((old, new))
        outputs = tuple(f"v{i}_{j}" for j in range(draw(st.integers(0, 2))))
        values += [_made(draw, name) for name in outputs]
        size |= {value.name: value.bytes for value in values}
        kind |= {value.name: value.kind for value in values}
        options = _options(draw, inputs, outputs, size, kind)
        ops.append(_op(draw, i, inputs, outputs, tuple(updates), options))
        gone = {old for old, _ in updates}
        present = [name for name in present if name not in gone] + [*outputs, *(new for _, new in updates)]
    chosen = draw(st.lists(st.sampled_from(present), max_size=2, unique=True)) if present else []
    return Graph(draw(_NAMES), tuple(values), tuple(ops), tuple(chosen))


def _made(draw: st.DrawFn, name: str) -> Value:
    shape = draw(st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple))
    kind = draw(st.sampled_from(["activation", "gradient", "output"]))
    return Value(name, draw(st.integers(0, 2**40)), kind, shape, draw(st.none() | _NAMES))


def _options(
    draw: st.DrawFn,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    size: dict[str, int],
    kind: dict[str, str],
) -> tuple[Option, ...]:
    pairs = [
        (old, new)
        for old in inputs
        for new in outputs
        if size[old] == size[new] and kind[old] not in ("parameter", "state")
    ]
    if not pairs or not draw(st.booleans()):
        return (WHOLE,)
    return (WHOLE, Option("in_place", (draw(st.sampled_from(pairs)),), draw(st.integers(0, 9))))


def _op(
    draw: st.DrawFn,
    number: int,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    updates: tuple[tuple[str, str], ...],
    options: tuple[Option, ...],
) -> Op:
    return Op(
        f"op{number}",
        inputs,
        outputs,
        flops=draw(st.integers(0, 2**50)),
        kind=draw(st.sampled_from(["other", "matmul"])),
        seconds=draw(_COSTS),
        joules=draw(_COSTS),
        recomputable=draw(st.booleans()),
        updates=updates,
        options=options,
        layer=draw(_NAMES),
    )
