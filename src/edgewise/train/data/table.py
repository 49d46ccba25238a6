"""Tables in CSV or parquet: numeric feature columns, and a column that holds a class or a number."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.train.data.samples import Array, Arrays, Dataset, hold_out
from edgewise.train.recipe import Table

Columns = dict[str, Sequence[Any]]


def load_table(config: Table) -> Dataset:
    """The rows of the file that `config` names; a sample is float32 [features].

    Features are brought to mean 0 and deviation 1 of the *training* rows, so that nothing is learned from the
    test rows. A class may be any text or whole number; classes are numbered in order.

    Raises:
        UsageError: no such file or column, an empty or non-numeric cell, a bad label, or no pyarrow.
        CorruptArtifact: the file is damaged.
    """
    columns = _read_parquet(config.path) if _is_parquet(config.path) else _read_csv(config.path)
    names = config.features or tuple(name for name in columns if name != config.label)
    for key, wanted in (("label", (config.label,)), ("features", names)):
        _check_columns(columns, wanted, f"data.{key}", config.path)
    if config.label in names or not names:
        raise UsageError(
            f"{config.path}: `data.features` must name columns other than the label `{config.label}`."
        )
    features = np.stack([_numbers(columns[name], name, config.path) for name in names], axis=1)
    targets, class_count = _targets(columns[config.label], config)
    train, test = hold_out(len(targets), config.test_fraction)
    if not len(train):
        raise UsageError(f"{config.path} has {len(targets):,} rows: too few to train on. Use more data.")
    scale = _standardizer(features[train])
    parts = [Arrays(features, targets, part, scale) for part in (train, test)]
    return Dataset(config.path, parts[0], parts[1], class_count)


def _check_columns(columns: Columns, wanted: Sequence[str], key: str, path: str) -> None:
    for name in wanted:
        if name not in columns:
            raise UsageError(f"{path} has no column `{name}`. There are: {', '.join(columns)}. Mend `{key}`.")


def _standardizer(rows: Array) -> Callable[[Array], Array]:
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def standardize(chosen: Array) -> Array:
        scaled: Array = ((chosen - mean) / deviation).astype(np.float32)
        return scaled

    return standardize


def _targets(cells: Sequence[Any], config: Table) -> tuple[Array, int | None]:
    """Class indices and how many classes there are; or numbers."""
    if config.target == "number":
        return _numbers(cells, config.label, config.path).astype(np.float32), None
    for row, cell in enumerate(cells, start=1):
        if cell is None or str(cell).strip() == "" or cell != cell:  # noqa: PLR0124 (only NaN differs from itself)
            raise UsageError(
                f"{config.path}, row {row}: the label `{config.label}` is empty. Fill or remove the row."
            )
        if isinstance(cell, float) and not cell.is_integer():
            raise UsageError(
                f"{config.path}, row {row}: the label `{config.label}` is {cell}, not a class. "
                'To predict a number, use `data.target = "number"` and `train.loss = "mse"`.'
            )
    names = [str(int(cell)) if isinstance(cell, float) else str(cell).strip() for cell in cells]
    classes = sorted(set(names), key=_class_order)
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64), len(classes)


def _class_order(name: str) -> tuple[bool, int, str]:
    """Whole numbers by size, then text by letters."""
    whole = name.removeprefix("-").isdecimal()
    return (not whole, int(name) if whole else 0, name)


def _numbers(cells: Sequence[Any], name: str, path: str) -> Array:
    numbers = np.empty(len(cells))
    for row, cell in enumerate(cells, start=1):
        try:
            number = float(cell)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            shown = "empty" if cell is None or cell == "" else f"`{cell}`"
            raise UsageError(
                f"{path}, row {row}: column `{name}` is {shown}, not a finite number. "
                "Mend the row, or leave the column out with `data.features`."
            )
        numbers[row - 1] = number
    return numbers


def _is_parquet(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    if suffix in (".parquet", ".pq"):
        return True
    if suffix in (".csv", ".tsv"):
        return False
    raise UsageError(f"{path}: a table is a `.csv`, `.tsv` or `.parquet` file. Check `data.path`.")


def _read_csv(path: str) -> Columns:
    """Every column as text; the first row names them."""
    delimiter = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    try:
        with Path(path).expanduser().open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, delimiter=delimiter, strict=True) if row]
    except OSError as error:
        raise UsageError(f"Cannot read the table {path}: {error.strerror}. Check `data.path`.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{path} is no sound CSV file in UTF-8: {error}. Save it again.") from error
    if len(rows) < 2:
        raise UsageError(f"{path} has no rows below its header. Use more data.")
    header, *body = [[cell.strip() for cell in row] for row in rows]
    if len(set(header)) != len(header):
        double = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"{path} has two columns `{double}`. Rename one.")
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise UsageError(
                f"{path}, row {number}: {len(row)} cells, but {len(header)} columns. Mend the row."
            )
    return {name: [row[at] for row in body] for at, name in enumerate(header)}


def _read_parquet(path: str) -> Columns:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise UsageError("Reading parquet needs pyarrow: `pip install edgewise[data]`.") from error
    try:
        with Path(path).expanduser().open("rb") as file:
            table = parquet.read_table(file)
    except ArrowException as error:
        raise CorruptArtifact(f"{path} is no sound parquet file: {error}. Save it again.") from error
    except OSError as error:
        raise UsageError(
            f"Cannot read the table {path}: {error.strerror or error}. Check `data.path`."
        ) from error
    if not table.num_rows:
        raise UsageError(f"{path} has no rows. Use more data.")
    return {name: table.column(name).to_pylist() for name in table.column_names}
