"""Contenders: what `edgewise compare` sets against one another, each a method and the solver of its plan."""

from typing import NamedTuple

from edgewise.errors import UsageError
from edgewise.methods.settings import Backprop, Method
from edgewise.plan import SOLVERS
from edgewise.train.method_names import ALIASES, is_complete, method_kinds, method_text, parse_method

BASELINES = ("every-block", "square-root")
"""Backprop as it is planned elsewhere: by these solvers, none of whose plans pages."""

OWN_SOLVERS = ("auto", "time-indexed", "search")


class Contender(NamedTuple):
    """`name` is also its folder's, so it holds letters, digits and dashes only where it is a usual one."""

    name: str
    method: Method
    solver: str = "auto"

    @property
    def folder(self) -> str:
        """Its name, made fit for every file system."""
        return "".join(letter if letter.isalnum() or letter in "-_=." else "_" for letter in self.name)


def parse_contender(text: str) -> Contender:
    """The contender that `text` names: a method, or a solver that plans backprop.

    Raises:
        UsageError: there is none of that name, or a setting is wrong.
    """
    name = text.strip()
    if name in SOLVERS and name not in OWN_SOLVERS:
        return Contender(name, Backprop(), name)
    return Contender(name, parse_method(name))


def parse_contenders(text: str) -> tuple[Contender, ...]:
    """The contenders in a list with commas (not those in brackets), each once.

    Raises:
        UsageError: it is empty, or as in `parse_contender`.
    """
    names = [part.strip() for part in _parts(text) if part.strip()]
    if not names:
        raise UsageError("`--methods` names none. Write some, as in `--methods backprop,spsa`.")
    found = {contender.name: contender for contender in map(parse_contender, names)}
    return tuple(found.values())


def usual_contenders(own: Method) -> tuple[Contender, ...]:
    """Backprop, its baselines, every method as it comes, and `own`, the recipe's, if it is none of these."""
    kinds = [kind for kind in method_kinds() if kind != "backprop" and is_complete(kind)]
    usual = [parse_contender(name) for name in ("backprop", *BASELINES)]
    usual += [Contender(name, parse_method(name)) for name in _by_kind(kinds)]
    if all(own != contender.method for contender in usual):
        usual.append(Contender(method_text(own), own))
    return tuple(usual)


def _by_kind(kinds: list[str]) -> list[str]:
    """Each kind, followed by the names of its variants."""
    names = []
    for kind in kinds:
        variants = [name for name, method in ALIASES.items() if method_text(method).partition(":")[0] == kind]
        names += [kind, *variants]
    return names


def _parts(text: str) -> list[str]:
    """`text` at its commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
