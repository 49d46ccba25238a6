import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.train.data import Dataset, check_enough, epoch_order, hold_out, load_data
from edgewise.train.recipe import Data, Digits, Images, Npz, Table


def everything(samples: Any) -> tuple[torch.Tensor, torch.Tensor]:
    found: tuple[torch.Tensor, torch.Tensor] = samples.batch(np.arange(len(samples)))
    return found


def refused(config: Data, kind: type[Exception] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        load_data(config)
    return str(caught.value)


# -- splits and orders -----------------------------------------------------------------------------


@given(st.integers(0, 300), st.floats(0.01, 0.99))
def test_the_split_is_whole_disjoint_and_always_the_same(count: int, fraction: float) -> None:
    train, test = hold_out(count, fraction)
    assert sorted([*train, *test]) == list(range(count))
    assert len(test) == round(count * fraction)
    again = hold_out(count, fraction)
    assert np.array_equal(train, again[0])
    assert np.array_equal(test, again[1])


@given(st.integers(1, 200), st.integers(0, 2**63 - 1), st.integers(1, 1000))
def test_an_epoch_visits_every_sample_once(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(count))
    assert np.array_equal(order, epoch_order(count, seed=seed, epoch=epoch))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(epoch_order(20, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(1, 4)]
    assert len(set(orders)) == 9


def test_orders_never_change_between_versions() -> None:
    """A run may be resumed by a later version: these numbers are part of the format."""
    assert epoch_order(8, seed=0, epoch=1).tolist() == [5, 3, 7, 2, 4, 1, 0, 6]
    assert hold_out(8, 0.25)[1].tolist() == [2, 3]


# -- digits ----------------------------------------------------------------------------------------


def test_digits() -> None:
    data = load_data(Digits())
    assert (len(data.train), len(data.test), data.class_count) == (1438, 359, 10)
    x, y = everything(data.test)
    assert (x.shape, x.dtype, y.dtype) == ((359, 1, 8, 8), torch.float32, torch.int64)
    assert (float(x.min()), float(x.max())) == (0, 1)
    assert set(y.tolist()) == set(range(10))
    again = everything(load_data(Digits()).test)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])


def test_the_test_fraction_is_kept() -> None:
    assert len(load_data(Digits(test_fraction=0.5)).test) == 898


# -- npz -------------------------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    def write(**arrays: Any) -> str:
        path = tmp_path / "data.npz"
        np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
        return str(path)

    return write


X, Y = np.arange(30, dtype=np.float64).reshape(10, 3), np.arange(10) % 3


def test_an_npz_without_test_arrays_is_split(save) -> None:
    data = load_data(Npz(save(x_train=X, y_train=Y)))
    assert (len(data.train), len(data.test), data.class_count) == (8, 2, 3)
    x, y = everything(data.train)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    rows = {tuple(row) for part in (data.train, data.test) for row in everything(part)[0].tolist()}
    assert rows == {tuple(row) for row in X.tolist()}
    assert all(int(row[0]) // 3 % 3 == label for row, label in zip(x.tolist(), y.tolist(), strict=True))


def test_an_npz_with_test_arrays_is_taken_as_it_is(save) -> None:
    path = save(a=X, b=Y, c=X[:4], d=Y[:4] + 5)
    data = load_data(Npz(path, x_train="a", y_train="b", x_test="c", y_test="d"))
    assert (len(data.train), len(data.test), data.class_count) == (10, 4, 8)
    assert np.array_equal(everything(data.train)[0], X)


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [("nhw", (10, 4, 5), (1, 4, 5)), ("nhwc", (10, 4, 5, 3), (3, 4, 5)), ("as-is", (10, 4, 5), (4, 5))],
)
def test_layouts_and_scale(save, layout, shape, expected) -> None:
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = load_data(Npz(save(x_train=x, y_train=Y, x_test=x, y_test=Y), layout=layout, divide_by=255))
    found, _ = everything(data.test)
    assert (found.shape[1:], found.dtype) == (expected, torch.float32)
    assert found.is_contiguous()
    channels_first = np.moveaxis(x, -1, 1) if layout == "nhwc" else x
    want = channels_first.reshape(10, *expected).astype(np.float32) / np.float32(255)
    assert np.array_equal(found, want)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_whole_inputs_stay_whole(save, dtype) -> None:
    data = load_data(Npz(save(x_train=X.astype(dtype), y_train=Y)))
    assert everything(data.train)[0].dtype == torch.int64


def test_targets_that_are_numbers(save) -> None:
    data = load_data(Npz(save(x_train=X, y_train=X[:, 0])))
    assert data.class_count is None
    assert everything(data.train)[1].dtype == torch.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y_train": Y}, "has no array `x_train`. There are: x, y_train. Name the right"),
        ({"x_train": X}, "has no array `y_train`. There are: x_train. Name the right"),
        ({"x_train": X, "y_train": Y[:9]}, ": `x_train` has 10 samples, but `y_train` has 9. They must"),
        ({"x_train": X, "y_train": Y, "x_test": X}, " has the array `x_test`, but no `y_test` to go with"),
        ({"x_train": X, "y_train": Y, "y_test": Y}, " has the array `y_test`, but no `x_test` to go with"),
        ({"x_train": X, "y_train": Y - 1}, ": `y_train` at [0] is -1; a class index must not be"),
        ({"x_train": X, "y_train": np.where(Y, 0.5, np.nan)}, ": `y_train` at [0] is not a finite"),
        ({"x_train": np.where(X, X, np.inf), "y_train": Y}, ": `x_train` at [0, 0] is not a finite"),
        ({"x_train": X, "y_train": list("abcdefghij")}, ": `y_train` is <U1 [10], not an array of"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y},
            ": a sample of `x_train` is float64 [3], but of `x_test` float64 [2]. Make them alike.",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": X[:, 0]},
            ": a sample of `y_train` is int64 [], but of `y_test` float32 []. Make them alike.",
        ),
    ],
)  # fmt: skip
def test_what_an_npz_must_not_be(save, arrays, message) -> None:
    path = save(**arrays)
    assert refused(Npz(path)).startswith(
        f"{path}{message}" if message[0] == ":" else f"{path} {message.strip()}"
    )


def test_a_layout_that_does_not_fit(save) -> None:
    path = save(x_train=X, y_train=Y)
    expected = (
        f'{path}: `x_train` has 2 axes, [10, 3]; `data.layout = "nhw"` wants 3. Use another `data.layout`.'
    )
    assert refused(Npz(path, layout="nhw")) == expected


def test_an_npz_that_is_not_there() -> None:
    expected = "Cannot read the data file no.npz: No such file or directory. Check `data.path`."
    assert refused(Npz("no.npz")) == expected


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: b"hello", lambda _: b""])
def test_a_damaged_npz(save, damage) -> None:
    path = save(x_train=X, y_train=Y)
    Path(path).write_bytes(damage(Path(path).read_bytes()))
    assert "is no sound `.npz` file of numbers: " in refused(Npz(path), CorruptArtifact)


def test_an_npz_whose_contents_were_altered(save) -> None:
    path = Path(save(x_train=X, y_train=Y))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    assert "is no sound `.npz` file of numbers: " in refused(Npz(str(path)), CorruptArtifact)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("it went off",))

    for name, content in (("a.npz", np.array([Bomb()], dtype=object)), ("b.npz", None)):
        path = tmp_path / name
        if content is None:
            path.write_bytes(b"cpytest\nfail\n(S'it went off'\ntR.")
        else:
            np.savez(path, x_train=content, y_train=Y)
        assert "is no sound `.npz` file of numbers: " in refused(Npz(str(path)), CorruptArtifact)


def test_a_single_array_is_not_enough(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    path = str(tmp_path / "one.npy")
    assert refused(Npz(path)) == f"{path} is a single array. Save inputs and targets with `numpy.savez`."


# -- images ----------------------------------------------------------------------------------------


def paint(path: Path, shade: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode == "L" else (shade, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for number in range(5):
            paint(tmp_path / "pets" / name / f"{number}.png", 100 * label + number)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "pets" / ".hidden").mkdir()
    return tmp_path / "pets"


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_each_class_are_split_alike(folder: Path, channels: Any) -> None:
    data = load_data(Images(str(folder), size=(8, 10), channels=channels))
    assert (len(data.train), len(data.test), data.class_count) == (8, 2, 2)
    x, y = everything(data.test)
    assert (x.shape, x.dtype) == ((2, channels, 8, 10), torch.float32)
    assert y.tolist() == [0, 1]
    assert x[1].max() > x[0].max()
    assert 0 <= x.min() <= x.max() <= 1


def test_folders_train_and_test_are_the_split(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for number in range(count):
            paint(tmp_path / part / "b" / f"{number}.PNG", 9, mode="L")
    paint(tmp_path / "train" / "a" / "0.jpg", 9)
    data = load_data(Images(str(tmp_path)))
    assert (len(data.train), len(data.test), data.class_count) == (4, 2, 2)
    assert everything(data.test)[1].tolist() == [1, 1]


def test_what_a_folder_of_images_must_not_be(tmp_path: Path, folder: Path) -> None:
    assert (
        refused(Images("nowhere"))
        == "Cannot read the image folder nowhere: no such folder. Check `data.path`."
    )
    bare = tmp_path / "bare"
    bare.mkdir()
    expected = f"{bare} has no subfolders. Put the images of each class into a folder of its own."
    assert refused(Images(str(bare))) == expected
    (folder / "eel").mkdir()
    assert refused(Images(str(folder))).startswith(f"{folder / 'eel'} holds no images (.bmp, .gif, ")
    paint(tmp_path / "split" / "train" / "a" / "0.png", 9)
    paint(tmp_path / "split" / "test" / "z" / "0.png", 9)
    text = f"{tmp_path / 'split' / 'test'} has the class `z`, unknown to the training images: a."
    assert refused(Images(str(tmp_path / "split"))) == text


def test_a_damaged_image_is_named_when_it_is_read(folder: Path) -> None:
    path = folder / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:40])
    data = load_data(Images(str(folder)))
    broken = next(part for part in (data.train, data.test) if path in dict(part.files))  # type: ignore[attr-defined]
    with pytest.raises(CorruptArtifact, match=r"0\.png is no sound image: .* Remove or replace it\."):
        everything(broken)


# -- tables ----------------------------------------------------------------------------------------

ROWS = [("a", "b", "kind"), *((str(i), str(i % 3), "xy"[i % 2]) for i in range(20))]


def write_csv(path: Path, rows: Any, comma: str = ",") -> str:
    path.write_text("\n".join(comma.join(row) for row in rows) + "\n")
    return str(path)


@pytest.fixture(params=["csv", "tsv", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / f"t.{request.param}"
    if request.param == "parquet":
        columns = {"a": [float(r[0]) for r in ROWS[1:]], "b": [int(r[1]) for r in ROWS[1:]]}
        parquet.write_table(pa.table({**columns, "kind": [r[2] for r in ROWS[1:]]}), path)
        return str(path)
    return write_csv(path, ROWS, "\t" if request.param == "tsv" else ",")


def test_tables(table: str) -> None:
    data = load_data(Table(table, "kind"))
    assert (len(data.train), len(data.test), data.class_count) == (16, 4, 2)
    x, y = everything(data.train)
    assert (x.shape, x.dtype, y.dtype) == ((16, 2), torch.float32, torch.int64)
    assert torch.allclose(x.mean(dim=0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(x.std(dim=0, correction=0), torch.ones(2), atol=1e-6)
    assert torch.equal(y, torch.tensor([int(row) % 2 for row in hold_out(20, 0.2)[0]]))


def test_chosen_features_and_a_number_to_predict(table: str) -> None:
    data = load_data(Table(table, "a", features=("b",), target="number"))
    x, y = everything(data.test)
    assert (x.shape, y.dtype, data.class_count) == ((4, 1), torch.float32, None)
    assert y.tolist() == [float(row) for row in hold_out(20, 0.2)[1]]


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    labels = ["10", "9", "-1", "b", "a"] * 4
    path = write_csv(tmp_path / "t.csv", [("x", "y"), *(("0", label) for label in labels)])
    data = load_data(Table(path, "y"))
    order = {"-1": 0, "9": 1, "10": 2, "a": 3, "b": 4}
    assert everything(data.train)[1].tolist() == [order[labels[row]] for row in hold_out(20, 0.2)[0]]


def test_a_column_without_spread_is_only_centred(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [("x", "y"), *(("7", "a"),) * 10])
    assert everything(load_data(Table(path, "y")).train)[0].unique().tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (ROWS, {"label": "sort"}, " has no column `sort`. There are: a, b, kind. Mend `data.label`."),
        (ROWS, {"features": ("a", "c")}, " has no column `c`. There are: a, b, kind. Mend `data.features`."),
        (
            ROWS,
            {"features": ("a", "kind")},
            ": `data.features` must name columns other than the label `kind`.",
        ),
        (
            ROWS,
            {"label": "a"},
            ", row 1: column `kind` is `x`, not a finite number. Mend the row, or leave the column",
        ),
        (
            ROWS,
            {"target": "number", "features": ("a",)},
            ", row 1: column `kind` is `x`, not a finite number.",
        ),
        ([*ROWS, ("", "1", "x")], {}, ", row 21: column `a` is empty, not a finite number."),
        ([*ROWS, ("inf", "1", "x")], {}, ", row 21: column `a` is `inf`, not a finite number."),
        ([*ROWS, ("1", "1", " ")], {}, ", row 21: the label `kind` is empty. Fill or remove the row."),
        ([*ROWS, ("1", "1")], {}, ", row 21: 2 cells, but 3 columns. Mend the row."),
        (ROWS[:1], {}, " has no rows below its header. Use more data."),
        ([], {}, " has no rows below its header. Use more data."),
        ([("a", "a", "kind"), *ROWS[1:]], {}, " has two columns `a`. Rename one."),
    ],
)
def test_what_a_table_must_not_be(tmp_path: Path, rows, changes, message) -> None:
    path = write_csv(tmp_path / "t.csv", rows)
    assert refused(Table(**{"path": path, "label": "kind", **changes})).startswith(f"{path}{message}")


def test_a_label_with_a_fraction_is_no_class(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    parquet.write_table(pa.table({"x": [1.0, 2.0], "y": [1.0, 2.5]}), path)
    expected = (
        f"{path}, row 2: the label `y` is 2.5, not a class. To predict a number, "
        'use `data.target = "number"` and `train.loss = "mse"`.'
    )
    assert refused(Table(path, "y")) == expected


def test_a_parquet_label_that_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    parquet.write_table(pa.table({"x": [1.0, 2.0], "y": [None, 2.0]}), path)
    assert refused(Table(path, "y")) == f"{path}, row 1: the label `y` is empty. Fill or remove the row."


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_damaged_and_missing_tables(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    expected = f"Cannot read the table {path}: No such file or directory. Check `data.path`."
    assert refused(Table(str(path), "y")) == expected
    path.write_bytes(b"a,y\n\xff\xfe,1\n")
    assert f"{path} is no sound " in refused(Table(str(path), "y"), CorruptArtifact)


def test_an_empty_parquet_table(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    parquet.write_table(pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}), path)
    assert refused(Table(path, "y")) == f"{path} has no rows. Use more data."


def test_a_table_of_another_format() -> None:
    expected = "t.xlsx: a table is a `.csv`, `.tsv` or `.parquet` file. Check `data.path`."
    assert refused(Table("t.xlsx", "y")) == expected


# -- all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "package", "message"),
    [
        (Images("x"), "PIL", "Reading images needs pillow: `pip install edgewise[data]`."),
        (Table("x.parquet", "y"), "pyarrow", "Reading parquet needs pyarrow: `pip install edgewise[data]`."),
    ],
)
def test_what_to_install_for_an_extra(monkeypatch, config, package, message) -> None:
    true_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refused(config) == message


def test_too_few_samples(save) -> None:
    data = load_data(Npz(save(x_train=X, y_train=Y)))
    check_enough(data, 8)
    with pytest.raises(
        UsageError, match=r"8 training samples are less than one batch of 9\. Use a smaller `train\.b"
    ):
        check_enough(data, 9)
    with pytest.raises(
        UsageError, match=r"no test samples\. Use a larger `data\.test_fraction`, or more data\."
    ):
        check_enough(
            Dataset("none", data.train, load_data(Npz(save(x_train=X[:2], y_train=Y[:2]))).test, 3), 1
        )
