"""Arrays in one `.npz` file. Nothing in it is unpickled."""

import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.train.data.samples import Array, Arrays, Dataset, hold_out
from edgewise.train.recipe import Npz

_AXES = {"nhw": 3, "nhwc": 4}


def load_npz(config: Npz) -> Dataset:
    """The arrays that `config` names.

    Inputs become float32; only `int32` and `int64` ones that are not divided stay whole, as int64: tokens.
    Whole targets are class indices, others numbers.

    Raises:
        UsageError: no such file or array; arrays of unequal length, or an unfit shape or dtype; a bad label.
        CorruptArtifact: the file is damaged.
    """
    arrays = _read(config)
    where = config.path
    train = _pair(arrays, config.x_train, config.y_train, config, where)
    if config.x_test not in arrays and config.y_test not in arrays:
        kept, held = hold_out(len(train[0]), config.test_fraction)
        parts = [_samples(train, part, config) for part in (kept, held)]
        return Dataset(where, parts[0], parts[1], _class_count(train[1]))
    test = _pair(arrays, config.x_test, config.y_test, config, where)
    for name, other, (one, two) in (
        (config.x_train, config.x_test, (train[0], test[0])),
        (config.y_train, config.y_test, (train[1], test[1])),
    ):
        if one.shape[1:] != two.shape[1:] or one.dtype.kind != two.dtype.kind:
            raise UsageError(
                f"{where}: a sample of `{name}` is {_shown(one)}, but of `{other}` {_shown(two)}. "
                "Make them alike."
            )
    parts = [_samples(pair, np.arange(len(pair[0])), config) for pair in (train, test)]
    return Dataset(where, parts[0], parts[1], _class_count(train[1], test[1]))


def _read(config: Npz) -> dict[str, Array]:
    """The named arrays that the file has."""
    wanted = (config.x_train, config.y_train, config.x_test, config.y_test)
    try:
        with Path(config.path).expanduser().open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UsageError(
                    f"{config.path} is a single array. Save inputs and targets with `numpy.savez`."
                )
            found = {name: file[name] for name in wanted if name in file.files}
            names = ", ".join(file.files)
            file.close()
    except OSError as error:
        raise UsageError(
            f"Cannot read the data file {config.path}: {error.strerror or error}. Check `data.path`."
        ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptArtifact(
            f"{config.path} is no sound `.npz` file of numbers: {error}. Fetch or save it again."
        ) from error
    for key, name in (("x_train", config.x_train), ("y_train", config.y_train)):
        if name not in found:
            raise UsageError(
                f"{config.path} has no array `{name}`. There are: {names}. "
                f"Name the right one with `data.{key}`."
            )
    return found


def _pair(arrays: dict[str, Array], x: str, y: str, config: Npz, where: str) -> tuple[Array, Array]:
    for name, other in ((x, y), (y, x)):
        if name not in arrays:
            raise UsageError(f"{where} has the array `{other}`, but no `{name}` to go with it. Save both.")
    inputs, targets = arrays[x], arrays[y]
    for name, array in ((x, inputs), (y, targets)):
        if array.dtype.kind not in "uifb" or array.ndim < 1:
            raise UsageError(
                f"{where}: `{name}` is {array.dtype} {list(array.shape)}, "
                "not an array of numbers. Save numbers."
            )
    if len(inputs) != len(targets):
        raise UsageError(
            f"{where}: `{x}` has {len(inputs):,} samples, but `{y}` has {len(targets):,}. "
            "They must be as many."
        )
    axes = _AXES.get(config.layout)
    if axes is not None and inputs.ndim != axes:
        raise UsageError(
            f'{where}: `{x}` has {inputs.ndim} axes, {list(inputs.shape)}; `data.layout = "{config.layout}"` '
            f"wants {axes}. Use another `data.layout`."
        )
    if inputs.dtype.kind == "f":
        _check_finite(inputs, x, where)
    return inputs, _labels(targets, y, where)


def _check_finite(array: Array, name: str, where: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        at = np.argwhere(bad)[0].tolist()
        raise UsageError(f"{where}: `{name}` at {at} is not a finite number. Leave that sample out.")


def _labels(targets: Array, name: str, where: str) -> Array:
    """Class indices as int64, numbers as float32."""
    if targets.dtype.kind == "f":
        _check_finite(targets, name, where)
        return targets.astype(np.float32)
    labels = targets.astype(np.int64)
    if labels.size and labels.min() < 0:
        at = np.argwhere(labels < 0)[0].tolist()
        raise UsageError(
            f"{where}: `{name}` at {at} is {labels[tuple(at)]}; a class index must not be negative. "
            "Number the classes from 0."
        )
    return labels


def _class_count(*labels: Array) -> int | None:
    if labels[0].dtype.kind == "f":
        return None
    return max(int(part.max(initial=-1)) for part in labels) + 1


def _samples(pair: tuple[Array, Array], indices: Array, config: Npz) -> Arrays:
    return Arrays(*pair, indices, partial(_prepare, layout=config.layout, divide_by=config.divide_by))


def _prepare(inputs: Array, *, layout: str, divide_by: float) -> Array:
    if layout == "nhw":
        inputs = inputs[:, None]
    if layout == "nhwc":
        inputs = inputs.transpose(0, 3, 1, 2)
    if inputs.dtype in (np.int32, np.int64) and divide_by == 1:
        return inputs.astype(np.int64)
    return inputs.astype(np.float32) / np.float32(divide_by)


def _shown(array: Array) -> str:
    return f"{array.dtype} {list(array.shape[1:])}"
