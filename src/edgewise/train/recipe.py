"""Recipe: everything that decides a training run, read strictly from TOML.

Nothing here imports torch, so that listing and checking recipes is quick. Keys that do not exist are refused
with their path and the nearest one that does.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from edgewise.errors import UsageError
from edgewise.methods.settings import Backprop, Method
from edgewise.plan import SOLVERS
from edgewise.train.units import Amount, parse_bytes, parse_seconds


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[model]`: a zoo name or `package.module:factory`, and the keyword arguments it is called with."""

    name: str
    args: dict[str, Any] = {}


class Digits(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="digits",
    tag_field="kind",
):
    """scikit-learn's bundled handwritten digits: 1,797 gray images 1x8x8, ten classes."""

    test_fraction: float = 0.2


class Npz(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="npz", tag_field="kind"
):
    """Arrays in one `.npz` file. Inputs are divided by `divide_by`; `layout` says which axes the file has.

    `nhw` gains a channel axis of length 1, `nhwc` is turned to channels first, `as-is` is left alone. Where
    the file has no test arrays, `test_fraction` of the training ones are held out.
    """

    path: str
    x_train: str = "x_train"
    y_train: str = "y_train"
    x_test: str = "x_test"
    y_test: str = "y_test"
    layout: Literal["as-is", "nhw", "nhwc"] = "as-is"
    divide_by: float = 1.0
    test_fraction: float = 0.2


class Images(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="images",
    tag_field="kind",
):
    """A folder with one subfolder of images for each class; each is resized to `size` (height, width).

    Images are read one by one, when they are due. With subfolders `train` and `test`, these are the split;
    else `test_fraction` of each class is held out.
    """

    path: str
    size: tuple[int, int] = (32, 32)
    channels: Literal[1, 3] = 3
    test_fraction: float = 0.2


class Table(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="table", tag_field="kind"
):
    """A CSV or parquet file: numeric feature columns, and a label column that holds a class or a number.

    `features` are all columns but the label where not given. Each is brought to mean 0 and deviation 1.
    """

    path: str
    label: str
    features: tuple[str, ...] = ()
    target: Literal["class", "number"] = "class"
    test_fraction: float = 0.2


Data = Digits | Npz | Images | Table


class Sgd(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="sgd", tag_field="kind"
):
    """Stochastic gradient descent."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0


class AdamW(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="adamw", tag_field="kind"
):
    """Adam with decoupled weight decay."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2


OptimizerConfig = Sgd | AdamW


class Train(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[train]`: how long, in what batches, by which optimizer. `loss` replaces the model's own.

    `epoch_steps` ends an epoch, which is what is evaluated after, before all samples were seen.
    """

    epochs: int
    batch: int
    optimizer: OptimizerConfig
    seed: int = 0
    loss: str | None = None
    epoch_steps: int | None = None


class DeviceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[device]`: a profile's name or file, and the budget of one step on it.

    `ram` is a size (`256KiB`) or a multiple of what plain training needs (`0.5x`); the device's RAM where not
    given. `seconds` of one step likewise (`0.2s`, `1.5x`). `written` limits the bytes that a step writes to
    the slower tier (`2MiB`), because flash wears. Paging files go to the run directory where `paging_dir` is
    not given. `gap` and `time_limit_seconds` say when the planner may stop, `solver` which one plans.
    """

    name: str = "host"
    ram: str | None = None
    seconds: str | None = None
    written: str | None = None
    minimize: Literal["joules", "seconds"] = "joules"
    paging_dir: str | None = None
    gap: float = 0.01
    time_limit_seconds: float = 60.0
    solver: str = "auto"

    @property
    def ram_amount(self) -> Amount | None:
        """`ram` in bytes or as a multiple."""
        return None if self.ram is None else parse_bytes(self.ram)

    @property
    def written_bytes(self) -> int | None:
        """`written` in bytes."""
        return None if self.written is None else int(parse_bytes(self.written).number)

    @property
    def seconds_amount(self) -> Amount | None:
        """`seconds` in seconds or as a multiple."""
        return None if self.seconds is None else parse_seconds(self.seconds)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A whole training run. Equal recipes give equal weights, bit by bit, on one machine."""

    model: Model
    data: Data
    train: Train
    device: DeviceConfig = DeviceConfig()
    method: Method = Backprop()
    description: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the weights after each step: model, data, method, training but its length.

        The device and budget are left out on purpose: every plan computes the same bits.
        """
        return hashlib.sha256(msgspec.json.encode(self.decisive, order="deterministic")).hexdigest()

    @property
    def decisive(self) -> dict[str, Any]:
        """What `digest` covers, each value by its path, as in `train.optimizer.lr`; defaults included."""
        parts: list[tuple[str, Any]] = [("model", self.model), ("data", self.data), ("train", self.train)]
        if self.method != Backprop():  # so that runs from before there were others can be resumed
            parts.append(("method", self.method))
        found = dict(pair for path, part in parts for pair in _flat(part, path))
        del found["train.epochs"]
        if found["train.epoch_steps"] is None:
            del found["train.epoch_steps"]
        return found

    def steps_of_epoch(self, samples: int) -> int:
        """Steps of an epoch where there are so many training samples."""
        whole = samples // self.train.batch
        return whole if self.train.epoch_steps is None else min(whole, self.train.epoch_steps)


def check_recipe(recipe: Recipe, where: str = "recipe") -> Recipe:
    """Return `recipe` if every figure in it makes sense.

    Raises:
        UsageError: the key and its value, and what it may be.
    """
    train, device = recipe.train, recipe.device
    _at_least(where, "train.epochs", train.epochs, 1)
    _at_least(where, "train.batch", train.batch, 1)
    _at_least(where, "train.seed", train.seed, 0)
    _at_least(where, "train.epoch_steps", 1 if train.epoch_steps is None else train.epoch_steps, 1)
    if train.seed >= 2**63:
        raise UsageError(f"{where}: `train.seed` is {train.seed}; it must be below 2**63.")
    if not 0 < recipe.data.test_fraction < 1:
        raise UsageError(
            f"{where}: `data.test_fraction` is {recipe.data.test_fraction}; it must be in (0, 1)."
        )
    if isinstance(recipe.data, Npz) and not recipe.data.divide_by > 0:
        raise UsageError(f"{where}: `data.divide_by` is {recipe.data.divide_by}; it must be above 0.")
    if isinstance(recipe.data, Images):
        _at_least(where, "data.size", min(recipe.data.size), 1)
    for key, value in (("gap", device.gap), ("time_limit_seconds", device.time_limit_seconds)):
        if not value >= 0:
            raise UsageError(f"{where}: `device.{key}` is {value}; it must not be negative.")
    for key, text, read in (("ram", device.ram, parse_bytes), ("seconds", device.seconds, parse_seconds)):
        try:
            read(text or "1")
        except UsageError as error:
            raise UsageError(f"{where}: `device.{key}`: {error}") from error
    _check_written(where, device.written)
    if device.solver not in SOLVERS:
        raise UsageError(f"{where}: `device.solver` is `{device.solver}`; there are: {', '.join(SOLVERS)}.")
    return recipe


def _check_written(where: str, written: str | None) -> None:
    try:
        relative = written is not None and parse_bytes(written).relative
    except UsageError as error:
        raise UsageError(f"{where}: `device.written`: {error}") from error
    if relative:
        raise UsageError(
            f"{where}: `device.written` is `{written}`, but plain training writes nothing to take a multiple "
            "of. Give a size such as `2MiB`."
        )


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, msgspec.Struct):
        yield path, value
        return
    if value.__struct_config__.tag is not None:
        yield f"{path}.kind", value.__struct_config__.tag
    for field in msgspec.structs.fields(value):
        yield from _flat(getattr(value, field.name), f"{path}.{field.name}")


def _at_least(where: str, key: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{where}: `{key}` is {value}; it must be at least {least}.")
