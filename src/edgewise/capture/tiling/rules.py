"""Which nest an op has: by the kernel that executes it, and by the ATen op that the kernel calls."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgewise.capture import (
    gradients,
    int8_weights,
    integer_layers,
    integers,
    labelled_layer,
    requantized,
)
from edgewise.capture.directions import AlongKernel, DirectionKernel, NudgeKernel, PerturbedKernel
from edgewise.capture.effects import BatchNormKernel, ProductKernel
from edgewise.capture.integer_layers import WeightGradientKernel
from edgewise.capture.integers import IntegerKernel
from edgewise.capture.kernels import AtenKernel, Instruction, Program, Run, Slot
from edgewise.capture.lowering import Draft, Layout
from edgewise.capture.tiling import (
    broadcast,
    convolution,
    drawn,
    gathers,
    int8_layers,
    products,
    rowwise,
    updating,
)
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import Loop, Nest, Sliced
from edgewise.capture.tiling.options import LEAST_BYTES, Chosen, offered
from edgewise.capture.updates import CarryKernel, UpdateKernel
from edgewise.graph import Option, Value

Rule = Callable[[Call], Nest | None]

_FUNCTIONS: dict[object, Rule] = {
    gradients.input_gradient: convolution.of_input,
    gradients.parameter_gradients: convolution.of_parameters,
    integers.round_nearest: broadcast.elementwise,
    requantized.floats_of: broadcast.elementwise,
    requantized.sum_of: broadcast.elementwise,
    requantized.map_of: broadcast.by_table,
    requantized.max_pool_of: rowwise.planewise,
    requantized.convolution_layer: convolution.requantized,
    int8_weights.convolution_by_int8: convolution.by_int8,
    requantized.linear_layer: products.requantized,
    integer_layers.apply_linear_relu: int8_layers.linear_relu,
    labelled_layer.apply_first_layer: int8_layers.first_layer,
}
_PACKETS: dict[str, Rule] = {
    "convolution": convolution.forward,
    "mm": products.product,
    "bmm": products.product,
    "addmm": products.product_and_sum,
    "baddbmm": products.product_and_sum,
    "cat": broadcast.concatenation,
    "_softmax": rowwise.softmax,
    "_log_softmax": rowwise.softmax,
    "_safe_softmax": rowwise.softmax,
    "_softmax_backward_data": rowwise.softmax,
    "_log_softmax_backward_data": rowwise.softmax,
    "native_layer_norm": rowwise.layer_norm,
    "native_layer_norm_backward": rowwise.layer_norm_backward,
    "_native_batch_norm_legit_no_training": rowwise.batch_norm_frozen,
    "native_batch_norm_backward": rowwise.batch_norm_backward,
    "max_pool2d_with_indices": rowwise.planewise,
    "max_pool2d_with_indices_backward": rowwise.planewise,
    "avg_pool2d": rowwise.planewise,
    "avg_pool2d_backward": rowwise.planewise,
    "_adaptive_avg_pool2d": rowwise.planewise,
    "_adaptive_avg_pool2d_backward": rowwise.planewise,
    "sum": rowwise.reduction,
    "mean": rowwise.reduction,
    "embedding": gathers.embedding,
    "embedding_dense_backward": gathers.embedding_backward,
}


def nest_of(run: Run, outputs: tuple[str, ...], layouts: Mapping[str, Layout]) -> Nest | None:
    """The nest of what `run` executes; `None` if it can only be executed whole."""
    nest: Nest | None = None
    match run:
        case UpdateKernel():
            nest = _of_update(run, layouts)
        case Sliced():
            nest = run.nest(outputs, layouts)
        case CarryKernel():
            nest = updating.carry(run, layouts)
        case NudgeKernel():
            nest = drawn.nudge(run, layouts)
        case DirectionKernel() | PerturbedKernel() | AlongKernel(keeps_top=False):
            nest = drawn.nest_of(run, outputs[0], layouts)
        case BatchNormKernel():
            nest = rowwise.batch_norm(run, _call(run.program, run.operands, outputs, layouts), layouts)
        case ProductKernel():
            call = _call(run.program, (Slot(run.slot),), outputs, layouts)
            dims = broadcast.along_dims(layouts[run.mask].size)
            mask = updating.stored(run.mask, layouts[run.mask], dims)
            nest = broadcast.scaled_product(call, mask, run.scale)
        case WeightGradientKernel() | IntegerKernel() | AtenKernel():
            nest = _of_call(run, outputs, layouts)
    return nest


def _of_call(
    run: AtenKernel | IntegerKernel | WeightGradientKernel,
    outputs: tuple[str, ...],
    layouts: Mapping[str, Layout],
) -> Nest | None:
    if isinstance(run, WeightGradientKernel):
        return int8_layers.weight_gradient(run, _call(run.program, run.args, outputs, layouts))
    if isinstance(run, IntegerKernel):
        rule = _FUNCTIONS.get(run.function)
        return rule(_call(run.program, run.args, outputs, layouts)) if rule is not None else None
    rule = _rule(run)
    return rule(Call.of(run, outputs, layouts)) if rule is not None else None


def _of_update(run: UpdateKernel, layouts: Mapping[str, Layout]) -> Nest | None:
    match run:
        case UpdateKernel(changes) if any(change.rows is not None for change in changes):
            return None  # some rows of a parameter are no slices of it along one axis
        case UpdateKernel(changes, optimizer, None):
            return updating.plain(changes[0], optimizer, layouts)
        case UpdateKernel(changes, optimizer, Draft() as producer, None):
            made = nest_of(producer.run, producer.op.outputs, layouts)
            return updating.absorbing(made, changes, optimizer, layouts) if made is not None else None
        case UpdateKernel(_, _, Draft(run=AlongKernel(keeps_top=False) as a), Draft(run=NudgeKernel() as n)):
            return drawn.nudged_update(run, a, n, layouts)
    return None


def nests_of(run: Run, outputs: tuple[str, ...], layouts: Mapping[str, Layout]) -> tuple[Nest, ...]:
    """All nests of what `run` executes: that of the op, and another where an update need not touch all."""
    nests = [nest_of(run, outputs, layouts)]
    match run:
        case UpdateKernel((change,), optimizer, Draft(run=AtenKernel() as kernel) as producer):
            if _packet(kernel) == "embedding_dense_backward":
                call = Call.of(kernel, producer.op.outputs, layouts)
                nests.append(gathers.touched_rows(call, change, optimizer))
    return tuple(nest for nest in nests if nest is not None)


def _call(
    program: Program, slots: tuple[object, ...], outputs: tuple[str, ...], layouts: Mapping[str, Layout]
) -> Call:
    """The operands and outputs of a kernel that is no ATen call."""
    kept = tuple(range(len(outputs)))
    return Call.of(AtenKernel(program, Instruction(tuple, slots, {}), kept, {}), outputs, layouts)


def _rule(kernel: AtenKernel) -> Rule | None:
    target = kernel.whole.target
    if target in _FUNCTIONS:
        return _FUNCTIONS[target]
    packet = _packet(kernel)
    if packet in _PACKETS:
        return _PACKETS[packet]
    return broadcast.elementwise if broadcast.is_elementwise(target) and kernel.kept is None else None


def _packet(kernel: AtenKernel) -> str:
    packet = getattr(kernel.whole.target, "overloadpacket", None)
    return str(packet.__name__) if packet is not None else ""


def loops_of(
    draft: Draft, values: Mapping[str, Value], layouts: Mapping[str, Layout], chosen: Chosen
) -> dict[str, tuple[Loop, Option]]:
    """The tiled options to offer for `draft`, by name; none for what is small, or can not be tiled.

    `chosen` remembers choices from op to op.
    """
    op = draft.op
    touched = dict.fromkeys((*op.reads, *op.outputs))
    whole = sum(values[name].bytes for name in touched) + op.options[0].workspace_bytes
    if whole < LEAST_BYTES:
        return {}
    loops: dict[str, tuple[Loop, Option]] = {}
    for nest in nests_of(draft.run, op.outputs, layouts):
        loops.update(offered(nest, lambda name: values[name].bytes, whole, chosen))
    narrow = any(layouts[n].dtype.is_floating_point and layouts[n].dtype.itemsize < 4 for n in touched)
    # Sums of parts that were rounded to few bits are not close to the whole sum rounded once.
    return {name: found for name, found in loops.items() if found[1].exact or not narrow}


def offer_loops(
    drafts: Sequence[Draft], values: Mapping[str, Value], layouts: Mapping[str, Layout]
) -> dict[str, dict[str, Loop]]:
    """Add to the op of each draft its tiled options; the loops behind these, by op and by option."""
    chosen: Chosen = {}
    found = {}
    for draft in drafts:
        loops = loops_of(draft, values, layouts, chosen)
        options = (option for _, option in loops.values())
        draft.op = msgspec.structs.replace(draft.op, options=(*draft.op.options, *options))
        found[draft.op.name] = {name: loop for name, (loop, _) in loops.items()}
    return found
