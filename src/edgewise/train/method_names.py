"""Methods as words: `spsa:directions=4:sign=true` is a recipe's `[method]` on the command line.

What can be named is what `methods.settings.Method` holds, so a new method has its name here the day it is
added.
"""

import difflib
from typing import Any, get_args

import msgspec

from edgewise.errors import UsageError
from edgewise.methods.settings import Method, Spsa
from edgewise.train.recipe_file import convert_table, toml_value

ALIASES: dict[str, Method] = {"sign-spsa": Spsa(sign=True)}
"""Names for settings that are compared often enough to deserve one."""


def method_kinds() -> tuple[str, ...]:
    """The `kind` of each method there is."""
    return tuple(str(member.__struct_config__.tag) for member in get_args(Method))


def parse_method(text: str) -> Method:
    """The method that `text` names: its kind, and settings behind colons where they are not the usual ones.

    Raises:
        UsageError: no such method or setting, or a value that it may not have.
    """
    name, *settings = text.strip().split(":")
    base = ALIASES.get(name)
    table: dict[str, Any] = {"kind": name} if base is None else msgspec.to_builtins(base)
    if base is None and name not in method_kinds():
        raise UsageError(f"No method `{name}`. {_hint(name)}")
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"Method `{text}`: `{setting}` is no setting. Write `{name}:KEY=VALUE`.")
        table[key.strip()] = toml_value(value.strip())
    found: Method = convert_table(table, Method, f"Method `{text}`")
    return found


def method_text(method: Method) -> str:
    """`method` in the words that `parse_method` reads: only what is not as usual."""
    config = method.__struct_config__
    words = [str(config.tag)]
    for field in msgspec.structs.fields(method):
        value = getattr(method, field.name)
        if value != _usual(field):
            words.append(f"{field.encode_name}={msgspec.json.encode(value).decode()}")
    return ":".join(words)


def is_complete(kind: str) -> bool:
    """Whether a method of this kind has a usual setting for everything."""
    members = {str(member.__struct_config__.tag): member for member in get_args(Method)}
    return all(_usual(field) is not msgspec.NODEFAULT for field in msgspec.structs.fields(members[kind]))


def _usual(field: msgspec.structs.FieldInfo) -> Any:
    factory = field.default_factory
    return field.default if factory is msgspec.NODEFAULT else factory()


def _hint(name: str) -> str:
    known = (*method_kinds(), *ALIASES)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}."
