"""What integers cannot represent is refused before the first step: moves below the unit of a weight."""

from collections.abc import Mapping

from edgewise.capture import SGD, Optimizer
from edgewise.errors import UsageError
from edgewise.methods.fixed_point.draws import Z_MAX, Z_SCALE
from edgewise.methods.fixed_point.moves import Rate
from edgewise.methods.fixed_point.network import Network, Parameter
from edgewise.methods.settings import FixedPoint


def check_optimizer(optimizer: Optimizer) -> float:
    """The learning rate.

    Raises:
        UsageError: the optimizer is not plain SGD.
    """
    if not isinstance(optimizer, SGD) or optimizer.momentum or optimizer.weight_decay:
        raise UsageError(
            "Method fixed-point: its update is w - lr g in integers. Use `sgd` without momentum "
            "and weight decay; `beta` below 1 guides directions by the last one."
        )
    return optimizer.lr


def rate_of(parameter: Parameter, settings: FixedPoint, lr: float) -> Rate:
    """In units of the weight for a z_q of 1; with `normalize`, the learning rate itself."""
    units = lr if settings.normalize else lr * Z_SCALE / parameter.scale
    return Rate(units, settings.decay_steps, settings.normalize)


def check_steps(network: Network, settings: FixedPoint, rates: Mapping[str, float]) -> None:
    """See that perturbations are a unit of each weight at least, and steps in the range of the weights.

    `rates` are learning rates at the first step, for each parameter that is trained.

    Raises:
        UsageError: they are not; the weights concerned are named. Nothing is trained.
    """
    trained = {name: p for name, p in network.parameters.items() if p.trained}
    if not trained:
        raise UsageError(
            "Method fixed-point: no weight of the model requires a gradient: nothing can be trained."
        )
    _refuse(
        {n: p.scale for n, p in trained.items() if p.epsilon == 0},
        f"`epsilon` {settings.epsilon:g} is less than half a unit of",
        f"With {settings.weight_bits} bits `epsilon` must be at least {{:.2g}}; 16 bits have finer units.",
    )
    _refuse(
        {n: p.scale for n, p in trained.items() if settings.sharpness and p.rho == 0},
        f"`sharpness` {settings.sharpness:g} is less than half a unit of",
        "It must be 0, or at least {:.2g}.",
    )
    lr = max(rates.values())
    if lr == 0:
        return
    largest = {n: _largest_step(p, settings, rates[n]) for n, p in trained.items()}
    _refuse(
        {n: p.scale / Z_MAX for n, p in trained.items() if not settings.normalize and largest[n] < 0.5},
        f"with lr {lr:g} the largest step is less than half a unit of",
        "Use lr of at least {:.2g}, or more bits.",
    )
    _refuse(
        {n: 0.0 for n, p in trained.items() if largest[n] > p.most},
        f"with lr {lr:g} the largest step is beyond the whole range of",
        "Use a smaller lr.",
    )


def _largest_step(parameter: Parameter, settings: FixedPoint, lr: float) -> float:
    """In units, of a gradient of 3.5."""
    if not settings.normalize:
        return lr * Z_MAX / parameter.scale
    values = parameter.values.double()
    return float(lr * Z_MAX * values.norm() / values.numel() ** 0.5)


def _refuse(units: dict[str, float], what: str, next_: str) -> None:
    """`units` of what is refused, by name; the largest decides what would be enough."""
    if not units:
        return
    listed = ", ".join(f"`{name}`" for name in list(units)[:8]) + (" ..." if len(units) > 8 else "")
    raise UsageError(f"Method fixed-point: {what} {listed}. {next_.format(max(units.values()) / 2)}")
