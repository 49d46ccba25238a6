"""Figures put into words, the same in every command."""

from collections.abc import Callable

from edgewise.plan import Budget, Certificate, Compute, PageIn, PageOut, Plan
from edgewise.report.units import bytes_text, exact_bytes, joules_text, percent, plural, seconds_text


def against(amount: float, plain: float, text: Callable[[float], str]) -> str:
    """`12.3 mJ, +4.1% of plain training's 11.8 mJ`."""
    if plain <= 0:
        return text(amount)
    share = amount / plain - 1
    change = (
        "the same as plain training" if abs(share) < 1e-9 else f"{percent(share, signed=True)} against plain"
    )
    return f"{text(amount)}, {change}"


def count_words(plan: Plan) -> str:
    """How many values are kept from their making to their last use, and what happens to the others."""
    computed = [step.op for step in plan.steps if isinstance(step, Compute)]
    again = len(computed) - len(set(computed))
    written = len({step.value for step in plan.steps if isinstance(step, PageOut)})
    read = sum(isinstance(step, PageIn) for step in plan.steps)
    paged = {step.value for step in plan.steps if isinstance(step, PageOut | PageIn)}
    loops = [step for step in plan.steps if isinstance(step, Compute) and step.streamed]
    streamed = {name for step in loops for name in step.streamed}
    kept = sum(
        len(stays) == 1 and name not in paged and name not in streamed
        for name, stays in plan.addresses.items()
    )
    values = plural(len(streamed.union(plan.addresses)), "value")
    words = [f"{kept:,} of {values} kept", f"{plural(again, 'op')} recomputed"]
    words += [f"{plural(written, 'value')} paged out", plural(read, "page-in")]
    if loops:
        words.append(f"{plural(len({step.op for step in loops}), 'op')} streamed")
    return ", ".join(words)


def limit_words(budget: Budget) -> str:
    """The limits of `budget` beside RAM, each behind a comma."""
    limits = [
        f"{seconds_text(budget.seconds)} a step" if budget.seconds is not None else "",
        f"{joules_text(budget.joules)} a step" if budget.joules is not None else "",
        f"{bytes_text(budget.written_bytes)} written" if budget.written_bytes is not None else "",
    ]
    return "".join(f", {limit}" for limit in limits if limit)


def arena_words(plan: Plan, certificate: Certificate) -> str:
    """The end of the highest address. The budget bounds bytes in use; gaps between values come on top."""
    text = exact_bytes(certificate.arena_bytes)
    return text if certificate.arena_bytes <= plan.budget.ram_bytes else f"{text}, above the budget"


def gap_words(status: str, gap: float) -> str:
    """How good the plan is: `optimal to 1% of the overhead`."""
    if gap <= 0:
        return status
    return f"{status}; a better plan saves at most {percent(gap)} of the overhead"
