"""From a name to a model: the zoo's own, or a user's `package.module:factory`."""

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgewise.errors import EdgewiseError, UsageError

ZOO = {
    "digits-cnn": "edgewise.zoo.digits_cnn:DigitsCNN",
    "local-mixer": "edgewise.zoo.local_mixer:LocalMixer",
    "mcunet": "edgewise.zoo.mcunet:MCUNet",
    "mlp": "edgewise.zoo.mlp:MLP",
    "mobilenetv2": "edgewise.zoo.mobilenetv2:MobileNetV2",
    "resnet18": "edgewise.zoo.resnet:resnet18",
    "resnet8": "edgewise.zoo.resnet:resnet8",
    "text-classifier": "edgewise.zoo.text:TextClassifier",
    "tied-lm": "edgewise.zoo.tied_lm:TiedLM",
    "transformer": "edgewise.zoo.transformer:Transformer",
    "unet": "edgewise.zoo.unet:UNet",
}


def zoo_names() -> tuple[str, ...]:
    """Names of the built-in models, sorted."""
    return tuple(sorted(ZOO))


def build_model(name: str, args: Mapping[str, Any] | None = None, *, seed: int = 0) -> nn.Module:
    """The model `name`, made by `factory(**args)`, with initial weights that depend on `seed` only.

    `name` is one of the zoo's or `package.module:factory`; modules in the current directory can be named.

    Raises:
        UsageError: no such zoo model, module or factory; the factory fails, or returns no module.
    """
    factory = _load_factory(_path_of(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _call(factory, name, args or {})
    if isinstance(model, nn.Module):
        return model
    raise UsageError(
        f"`{name}` returned a {type(model).__name__}, not a torch.nn.Module. Return the model itself."
    )


def _call(factory: Callable[..., Any], name: str, args: Mapping[str, Any]) -> Any:
    try:
        return factory(**args)
    except EdgewiseError:
        raise
    except Exception as error:  # the factory is the user's code and may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in args.items())
        raise UsageError(
            f"Model `{name}`: calling it with ({given}) raised {type(error).__name__}: {error}"
        ) from error


def _path_of(name: str) -> str:
    if name in ZOO:
        return ZOO[name]
    if ":" in name:
        return name
    near = difflib.get_close_matches(name, ZOO, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"The zoo has: {', '.join(zoo_names())}."
    raise UsageError(f"No model `{name}` in the zoo. {hint} Your own model is `package.module:factory`.")


def _load_factory(path: str) -> Callable[..., Any]:
    module_name, _, factory_name = path.partition(":")
    if not module_name or not factory_name:
        raise UsageError(f"Model `{path}` is not of the form `package.module:factory`.")
    module = _import(module_name)
    found: Any = module
    for part in factory_name.split("."):
        found = getattr(found, part, None)
    if callable(found) and not isinstance(found, nn.Module):
        return found  # type: ignore[no-any-return]
    if found is not None:
        raise UsageError(
            f"`{path}` is a {type(found).__name__}, not a factory. "
            f"Name a class or a function without arguments that returns the model."
        )
    public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    near = difflib.get_close_matches(factory_name, public, n=1)
    hint = f"Did you mean `{module_name}:{near[0]}`?" if near else "Check the name after the colon."
    raise UsageError(f"Module `{module_name}` ({module.__file__}) has no `{factory_name}`. {hint}")


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:  # a console script's path starts with the folder of the script, not with ours
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(
                f"No module `{name}`: `{missing}` is neither in {here} nor installed. "
                "Check the spelling, or run from the folder that holds it."
            ) from error
        raise UsageError(f"Module `{name}` imports `{missing}`, which is not installed.") from error
    except Exception as error:  # the user's module may raise anything
        raise UsageError(f"Importing `{name}` raised {type(error).__name__}: {error}") from error
