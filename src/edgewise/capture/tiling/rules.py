"""Which nest an op has: by the kernel that executes it, and by the ATen op that the kernel calls."""

from collections.abc import Callable, Mapping

from edgewise.capture import gradients
from edgewise.capture.effects import BatchNormKernel, ProductKernel
from edgewise.capture.kernels import AtenKernel, Instruction, Run, Slot
from edgewise.capture.lowering import Draft, Layout
from edgewise.capture.tiling import broadcast, convolution, gathers, products, rowwise, updating
from edgewise.capture.tiling.calls import Call
from edgewise.capture.tiling.nest import Loop, Nest
from edgewise.capture.tiling.options import LEAST_BYTES, offered
from edgewise.capture.updates import CarryKernel, UpdateKernel
from edgewise.graph import Option, Value

Rule = Callable[[Call], Nest | None]

_FUNCTIONS: dict[object, Rule] = {
    gradients.input_gradient: convolution.of_input,
    gradients.parameter_gradients: convolution.of_parameters,
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
    match run:
        case UpdateKernel(changes, optimizer, None):
            return updating.plain(changes[0], optimizer, layouts)
        case UpdateKernel(changes, optimizer, producer):
            nest = nest_of(producer.run, producer.op.outputs, layouts)
            return updating.absorbing(nest, changes, optimizer, layouts) if nest is not None else None
        case CarryKernel():
            return updating.carry(run, layouts)
        case BatchNormKernel():
            call = Call.of(
                AtenKernel(run.program, _placeholder(run.operands), (0, 1, 2), {}), outputs, layouts
            )
            return rowwise.batch_norm(run, call, layouts)
        case ProductKernel(program, slot, mask, scale):
            call = Call.of(AtenKernel(program, _placeholder((Slot(slot),)), None, {}), outputs, layouts)
            layout = layouts[mask]
            operand = updating.stored(mask, layout, broadcast.along_dims(layout.size))
            return broadcast.scaled_product(call, operand, scale)
        case AtenKernel():
            rule = _rule(run)
            return rule(Call.of(run, outputs, layouts)) if rule is not None else None
    return None


def _placeholder(slots: tuple[object, ...]) -> Instruction:
    return Instruction(tuple, slots, {})


def _rule(kernel: AtenKernel) -> Rule | None:
    target = kernel.whole.target
    if target in _FUNCTIONS:
        return _FUNCTIONS[target]
    packet = getattr(target, "overloadpacket", None)
    if packet is not None and packet.__name__ in _PACKETS:
        return _PACKETS[packet.__name__]
    return broadcast.elementwise if broadcast.is_elementwise(target) and kernel.kept is None else None


def loops_of(
    draft: Draft, values: Mapping[str, Value], layouts: Mapping[str, Layout]
) -> dict[str, tuple[Loop, Option]]:
    """The tiled options to offer for `draft`, by name; none for what is small, or can not be tiled."""
    op = draft.op
    touched = dict.fromkeys((*op.reads, *op.outputs))
    whole = sum(values[name].bytes for name in touched) + op.options[0].workspace_bytes
    if whole < LEAST_BYTES:
        return {}
    nest = nest_of(draft.run, op.outputs, layouts)
    if nest is None:
        return {}
    return offered(nest, lambda name: values[name].bytes, whole)
