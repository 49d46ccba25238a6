import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import UsageError
from edgewise.methods.settings import Backprop, Elastic, ForwardGradient, Spsa
from edgewise.train import copy_recipe, decode_recipe, encode_recipe, list_recipes, load_recipe
from edgewise.train.recipe import AdamW, DeviceConfig, Digits, Images, Model, Npz, Recipe, Sgd, Table, Train
from edgewise.zoo import zoo_names

TEXT = """
[model]
name = "mlp"
[data]
kind = "digits"
[train]
epochs = 1
batch = 8
[train.optimizer]
kind = "sgd"
lr = 0.1
"""


DIGEST_OF_TEXT = "2549ba3a238af4d8979de848bcde33bdd201a21cf13f17c042ffe9a470b034d9"


def refused(text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        decode_recipe(text, where="r.toml", overrides=overrides)
    return str(caught.value)


def test_a_small_recipe_has_defaults_for_the_rest() -> None:
    assert decode_recipe(TEXT) == Recipe(Model("mlp"), Digits(), Train(1, 8, Sgd(0.1)), DeviceConfig())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs", "epoch", "r.toml: unknown key `train.epoch`; did you mean `epochs`?"),
        ("[data]", "[date]", "r.toml: unknown key `date`; did you mean `data`?"),
        (
            "lr =",
            "rate =",
            "r.toml: unknown key `train.optimizer.rate`; there are: lr, momentum, weight_decay, kind.",
        ),
        (
            '"digits"',
            '"digits"\nlayuot = "nhw"',
            "r.toml: unknown key `data.layuot`; there are: test_fraction, kind.",
        ),
        ("epochs = 1\n", "", "r.toml: `train`: Object missing required field `epochs`."),
        ("batch = 8", 'batch = "8"', "r.toml: `train.batch`: Expected `int`, got `str`."),
        ('"sgd"', '"sdg"', "r.toml: `train.optimizer.kind`: Invalid value 'sdg'. Did you mean `sgd`?"),
        ("[data]", '[method]\nkind = "spas"\n[data]', "r.toml: `method.kind`: Invalid value 'spas'. Did you"),
        (
            "[data]",
            '[method]\nkind = "spsa"\ndirection = 2\n[data]',
            "r.toml: unknown key `method.direction`; did you mean `directions`?",
        ),
        (
            "[data]",
            '[method]\nkind = "spsa"\ndirections = 0\n[data]',
            "r.toml: Method: `directions` is 0; it must be at least 1.",
        ),
        (
            "[data]",
            "[method]\nsign = true\n[data]",
            "r.toml: `method`: Object missing required field `kind`.",
        ),
        ("[model]", "[model", "r.toml is not TOML: "),
    ],
)
def test_a_recipe_is_read_strictly(old: str, new: str, message: str) -> None:
    assert refused(TEXT.replace(old, new)).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=0", "r.toml: `train.epochs` is 0; it must be at least 1."),
        ("train.batch=0", "r.toml: `train.batch` is 0; it must be at least 1."),
        ("train.seed=-1", "r.toml: `train.seed` is -1; it must be at least 0."),
        (f"train.seed={2**63}", "r.toml: `train.seed` is 9223372036854775808; it must be below 2**63."),
        ("data.test_fraction=1.0", "r.toml: `data.test_fraction` is 1.0; it must be in (0, 1)."),
        ("data.test_fraction=nan", "r.toml: `data.test_fraction` is nan; it must be in (0, 1)."),
        ('data={kind="npz",path="a",divide_by=0}', "r.toml: `data.divide_by` is 0.0; it must be above 0."),
        ('data={kind="images",path="a",size=[0,8]}', "r.toml: `data.size` is 0; it must be at least 1."),
        ("device.gap=-0.1", "r.toml: `device.gap` is -0.1; it must not be negative."),
        (
            "device.time_limit_seconds=-1",
            "r.toml: `device.time_limit_seconds` is -1.0; it must not be negative.",
        ),
        ("train.epoch_steps=0", "r.toml: `train.epoch_steps` is 0; it must be at least 1."),
        ("device.solver=best", "r.toml: `device.solver` is `best`; there are: auto, time-indexed,"),
        ("device.ram=big", "r.toml: `device.ram`: `big` is not a size such as `256KiB`, or a multiple"),
        ("device.ram=0KiB", "r.toml: `device.ram`: `0KiB` must be above zero."),
        ("device.seconds=3parsecs", "r.toml: `device.seconds`: `3parsecs` is not a time such as `200ms`"),
        ("device.written=3parsecs", "r.toml: `device.written`: `3parsecs` is not a size such as `256KiB`"),
        ("device.written=0.5x", "r.toml: `device.written` is `0.5x`, but plain training writes nothing"),
        ("train.epochs", "`--set train.epochs` is not of the form `--set train.epochs=3`."),
        ("train..epochs=3", "`--set train..epochs=3` is not of the form `--set train.epochs=3`."),
        ("train.epochs.more=3", "`--set train.epochs.more=3`: `epochs` is a value, not a table."),
        ("train.epoch=3", "r.toml: unknown key `train.epoch`; did you mean `epochs`?"),
    ],
)
def test_figures_that_make_no_sense_are_refused(override: str, message: str) -> None:
    assert refused(TEXT, override).startswith(message)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=3", "train.epochs", 3),
        ("device.ram=256KiB", "device.ram", "256KiB"),
        ("device.ram = 0.5x", "device.ram", "0.5x"),
        ("model.name=resnet8", "model.name", "resnet8"),
        ("model.args.hidden=[32, 16]", "model.args", {"hidden": [32, 16]}),
        ('description="a = b"', "description", "a = b"),
        ("description=", "description", ""),
    ],
)
def test_overrides(override: str, path: str, value: Any) -> None:
    found: Any = decode_recipe(TEXT, overrides=[override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_an_override_can_change_the_kind() -> None:
    recipe = decode_recipe(
        TEXT, overrides=['train.optimizer={kind="adamw"}', 'data={kind="table",path="a",label="b"}']
    )
    assert recipe.train.optimizer == AdamW()
    assert recipe.data == Table("a", "b")


text = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
scalar = st.one_of(st.integers(-(2**60), 2**60), number, st.booleans(), text)
args = st.dictionaries(text, st.one_of(scalar, st.lists(scalar, max_size=3)), max_size=4)
data = st.one_of(
    st.builds(Digits, test_fraction=st.floats(0.01, 0.99)),
    st.builds(Npz, path=text, x_train=text, layout=st.sampled_from(["as-is", "nhw", "nhwc"])),
    st.builds(Images, path=text, size=st.tuples(st.integers(1, 64), st.integers(1, 64))),
    st.builds(Table, path=text, label=text, features=st.lists(text).map(tuple)),
)
optimizer = st.one_of(
    st.builds(Sgd, lr=number, momentum=number), st.builds(AdamW, betas=st.tuples(number, number))
)
directions = st.integers(1, 9)
method = st.one_of(
    st.just(Backprop()),
    st.builds(Spsa, directions=directions, sign=st.booleans()),
    st.builds(ForwardGradient, directions=directions),
    st.builds(Elastic, head=st.lists(text).map(tuple), directions=directions),
)
recipes = st.builds(
    Recipe,
    model=st.builds(Model, name=text, args=args),
    data=data,
    train=st.builds(
        Train,
        epochs=st.integers(1, 99),
        batch=st.integers(1, 99),
        optimizer=optimizer,
        seed=st.integers(0, 2**63 - 1),
        loss=st.none() | text,
        epoch_steps=st.none() | st.integers(1, 99),
    ),
    method=method,
    device=st.builds(DeviceConfig, name=text, ram=st.sampled_from([None, "0.5x", "3KiB"])),
    description=text,
)


@given(recipes)
def test_any_recipe_survives_being_written_and_read(recipe: Recipe) -> None:
    again = decode_recipe(encode_recipe(recipe))
    assert again == recipe
    assert again.digest == recipe.digest


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("train.epochs=9", True),
        ("device.ram=1MiB", True),
        ("device.solver=every-block", True),
        ('method={kind="backprop"}', True),
        ('method={kind="spsa"}', False),
        ("train.epoch_steps=2", False),
        ("description=words", True),
        ("train.seed=9", False),
        ("train.batch=9", False),
        ("train.optimizer.lr=9", False),
        ("model.args.classes=9", False),
        ("data.test_fraction=0.9", False),
    ],
)
def test_the_digest_covers_what_decides_the_weights(override: str, same: bool) -> None:
    assert (decode_recipe(TEXT, overrides=[override]).digest == decode_recipe(TEXT).digest) is same


def test_digests_of_recipes_from_before_there_were_methods() -> None:
    """Computed when recipes had no `[method]`: runs of that time can still be resumed."""
    assert decode_recipe(TEXT).digest == DIGEST_OF_TEXT
    assert load_recipe("digits").digest == "a759ac828830dbf6475e7d3b2973f3ad47739214c6cc32e3bc4bfa70b78b2fba"


def test_settings_of_a_method_are_part_of_the_digest() -> None:
    one, four = ('method={kind="spsa"}', 'method={kind="spsa",directions=4}')
    assert decode_recipe(TEXT, overrides=[one]).digest != decode_recipe(TEXT, overrides=[four]).digest


def test_an_epoch_ends_with_the_data_or_before() -> None:
    assert decode_recipe(TEXT).steps_of_epoch(50) == 6
    assert decode_recipe(TEXT, overrides=["train.epoch_steps=4"]).steps_of_epoch(50) == 4
    assert decode_recipe(TEXT, overrides=["train.epoch_steps=9"]).steps_of_epoch(50) == 6


def test_reading_files(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(TEXT)
    assert load_recipe(path, ["train.epochs=2"]).train.epochs == 2
    assert load_recipe(str(path)) == decode_recipe(TEXT)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"r\.toml is not TOML: it is not UTF-8 text\."):
        load_recipe(path)
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UsageError, match=r"1,048,577 bytes are more than a recipe may have \(1,048,576\)"):
        load_recipe(path)
    with pytest.raises(
        UsageError, match=r"Cannot read the recipe .*no\.toml: No such file or directory\. `edgewise"
    ):
        load_recipe(tmp_path / "no.toml")


def test_shipped_recipes_are_sound() -> None:
    listed = list_recipes()
    assert "digits" in listed
    assert all(0 < len(text) <= 120 for text in listed.values())
    for name in listed:
        assert load_recipe(name).model.name in zoo_names()


def test_the_first_recipe_trains_in_less_than_half_of_plain_memory() -> None:
    ram = load_recipe("digits").device.ram_amount
    assert ram is not None
    assert ram.relative
    assert ram.number < 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "No recipe `digit`. Did you mean `digits`?"),
        ("zzz", "No recipe `zzz`. There are: digits, "),
    ],
)
def test_a_recipe_that_is_not_there(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(name)
    assert str(caught.value).startswith(message)
    with pytest.raises(UsageError) as caught:
        copy_recipe(name, tmp_path)
    assert str(caught.value).startswith(message)


def test_copying_a_recipe(tmp_path: Path) -> None:
    assert copy_recipe("digits", tmp_path) == tmp_path / "digits.toml"
    assert load_recipe(tmp_path / "digits.toml") == load_recipe("digits")
    assert copy_recipe("digits", tmp_path / "mine.toml") == tmp_path / "mine.toml"
    (tmp_path / "mine.toml").write_text("mine")
    with pytest.raises(
        UsageError, match=r"mine\.toml is there already and will not be overwritten\. Name another"
    ):
        copy_recipe("digits", tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").read_text() == "mine"
    with pytest.raises(UsageError, match=r"Cannot write .*: No such file or directory\."):
        copy_recipe("digits", tmp_path / "no" / "folder.toml")


def test_recipes_and_records_need_no_torch() -> None:
    code = "import sys, edgewise.train as t; t.list_recipes(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
