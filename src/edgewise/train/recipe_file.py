"""Recipes as TOML: strict reading with overrides, writing, and the ones shipped with Edgewise."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from edgewise.errors import UsageError
from edgewise.train.recipe import Recipe, check_recipe

MAX_FILE_BYTES = 1 << 20


def load_recipe(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in the file `path`, or the shipped one of that name, with `a.b=value` overrides applied.

    Raises:
        UsageError: no such file or recipe, no TOML, an unknown or missing key, a wrong type or value.
    """
    text, where = _read(path)
    return decode_recipe(text, where=where, overrides=overrides)


def decode_recipe(text: str, *, where: str = "recipe", overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in TOML `text`; `where` names it in errors. Raises as `load_recipe`."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where} is not TOML: {error}.") from error
    for override in overrides:
        _override(table, override)
    return check_recipe(convert_table(table, Recipe, where), where)


def convert_table(table: Mapping[str, Any], kind: Any, where: str, path: tuple[str, ...] = ()) -> Any:
    """`table`, which stands at `path`, as a `kind`: a struct, or a union of structs with a `kind` each.

    Raises:
        UsageError: an unknown or missing key or kind, a wrong type, or a value that the struct refuses.
    """
    _check_keys(table, kind, path, where)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_readable(error)}") from error
    except UsageError as error:  # a struct's own rule
        raise UsageError(f"{where}: {error}") from error


def encode_recipe(recipe: Recipe) -> str:
    """`recipe` as TOML that `decode_recipe` reads back."""
    return "".join(_lines(msgspec.to_builtins(recipe), ()))


def list_recipes() -> dict[str, str]:
    """Names of the shipped recipes, each with its one-line description."""
    folder = resources.files("edgewise.train") / "recipes"
    texts = {entry.name.removesuffix(".toml"): entry.read_text("utf-8") for entry in folder.iterdir()}
    return {name: decode_recipe(texts[name], where=f"{name}.toml").description for name in sorted(texts)}


def copy_recipe(name: str, dest: Path) -> Path:
    """Copy the shipped recipe `name` to the file or into the folder `dest`; returns the file's path.

    Raises:
        UsageError: no such recipe, the file is there already, or cannot be written.
    """
    text = _shipped(name)
    path = dest / f"{name}.toml" if dest.is_dir() else dest
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already and will not be overwritten. Name another file."
        ) from error
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.") from error
    return path


def _shipped(name: str) -> str:
    names = [entry.name for entry in (resources.files("edgewise.train") / "recipes").iterdir()]
    if f"{name}.toml" in names:
        return (resources.files("edgewise.train") / "recipes" / f"{name}.toml").read_text("utf-8")
    known = sorted(entry.removesuffix(".toml") for entry in names)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}."
    raise UsageError(f"No recipe `{name}`. {hint}")


def _read(path: Path | str) -> tuple[str, str]:
    if not Path(path).suffix and not Path(path).exists():
        return _shipped(str(path)), f"{path}.toml"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"Cannot read the recipe {path}: {error.strerror}. `edgewise recipes ls` lists the shipped ones."
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: {len(data):,} bytes are more than a recipe may have ({MAX_FILE_BYTES:,}).")
    try:
        return data.decode("utf-8"), str(path)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not TOML: it is not UTF-8 text.") from error


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise UsageError(f"`--set {text}` is not of the form `--set train.epochs=3`.")
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"`--set {text}`: `{part}` is a value, not a table.")
    table[parts[-1]] = toml_value(value.strip())


def toml_value(text: str) -> Any:
    """`text` as a TOML value; what is none (`resnet18`, `256KiB`) is a string, to spare the quotes."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def _check_keys(table: Mapping[str, Any], kind: Any, path: tuple[str, ...], where: str) -> None:
    """Refuse the first key of `table` that `kind` does not have, with its path and the nearest one."""
    struct = _struct_for(table, kind)
    if struct is None:
        _check_kind(table, kind, path, where)
        return
    info = msgspec.structs.fields(struct)
    known = {field.encode_name: field.type for field in info}
    config = struct.__struct_config__
    allowed = [*known, *([config.tag_field] if config.tag_field else [])]
    for key, value in table.items():
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(allowed)}."
            raise UsageError(f"{where}: unknown key `{'.'.join((*path, key))}`; {hint}")
        if isinstance(value, dict) and key in known:
            _check_keys(value, known[key], (*path, key), where)


def _check_kind(table: Mapping[str, Any], kind: Any, path: tuple[str, ...], where: str) -> None:
    """Refuse a `kind` that no member of the union `kind` has."""
    members = [m for m in get_args(kind) if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    known = [str(member.__struct_config__.tag) for member in members]
    found = table.get("kind")
    if known and isinstance(found, str):
        near = difflib.get_close_matches(found, known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}."
        raise UsageError(f"{where}: `{'.'.join((*path, 'kind'))}`: Invalid value '{found}'. {hint}")


def _struct_for(table: Mapping[str, Any], kind: Any) -> Any:
    """The struct that `table` is to become: `kind` itself, or the member of a union with the table's tag."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    structs = [m for m in members if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    if len(structs) == 1:
        return structs[0]
    return next((s for s in structs if s.__struct_config__.tag == table.get("kind")), None)


def _readable(error: msgspec.ValidationError) -> str:
    """The library's message with the path in front: `train.batch`: Expected `int`, got `str`."""
    what, at, path = str(error).partition(" - at `$")
    return f"`{path.strip('`.')}`: {what}." if at and path.strip("`.") else f"{what}."


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, dict) and v is not None}
    if path and (plain or not table):
        yield f"\n[{'.'.join(_key(part) for part in path)}]\n"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}\n"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*path, key))


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _value(key)


def _value(value: Any) -> str:
    """A TOML value. JSON's strings, numbers and booleans are TOML's too, but DEL must be escaped."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float) or not isinstance(value, str | int):
        return str(value)
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
