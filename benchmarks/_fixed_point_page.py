"""The page of `methods_fixed_point.py`: its tables, and its figures against what was aimed at."""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import msgspec
import torch
from _energy import energy_table
from _figures import Figure, Found, save, table


class Result(msgspec.Struct, frozen=True):
    """One case: accuracies on the test samples of the domain."""

    seed: int
    domain: str
    scope: str
    steps: int
    before: float
    integer_before: float
    fixed_point: float
    backprop: float
    seconds_a_step: float
    settings: str = ""


class Costs(NamedTuple):
    """Rows of memory and of energy, and how far a step on integer units is at most above inference."""

    memory: list[str]
    energy: list[tuple[str, dict[str, float]]]
    most_above_inference: float


def rows(found: list[Result]) -> Iterator[tuple[bool, str]]:
    """A row for each case, over all seeds, and whether fixed point is within 5 points."""
    for key in dict.fromkeys((r.scope, r.domain) for r in found):
        mine = [r for r in found if (r.scope, r.domain) == key]
        before, integer, fixed, exact = (
            100 * mean(getattr(r, field) for r in mine)
            for field in ("before", "integer_before", "fixed_point", "backprop")
        )
        near = fixed >= exact - 5
        yield (
            near,
            (
                f"| {key[0]} | {key[1]} | {before:.1f} | {integer:.1f} | {fixed:.1f} | {exact:.1f} "
                f"| {fixed - exact:+.1f} "
                f"| {'yes' if near else 'no'} |"
            ),
        )


def near_cases(found: list[Result]) -> int:
    """In how many cases fixed point is within 5 points of backprop, in the mean of the seeds."""
    return sum(within for within, _ in rows(found))


def by_seed(found: list[Result]) -> str:
    """The count of each seed on its own."""
    counts = []
    for seed in sorted({result.seed for result in found}):
        own = [result for result in found if result.seed == seed]
        counts.append(f"{near_cases(own)} of {len(own)} with seed {seed}")
    return ", ".join(counts)


def figures(found: list[Result], spent: Costs, cases: int) -> tuple[Figure, ...]:
    """What was aimed at. Seed 0 had been looked at when steps were chosen, so the others count again."""
    within = "within 5 points of backprop, of 30 cases"
    unseen = [result for result in found if result.seed]
    made = [
        Figure(
            3, f"{within}, mean of the seeds", near_cases(found), 26, at_least=True, digits=0, is_mean=True
        ),
        Figure(3, "step above inference on integer units, %", 100 * spent.most_above_inference, 10),
        Figure(6, "devices with energy of every row", len(spent.energy[0][1]), 3, at_least=True, digits=0),
    ]
    if len(list(rows(unseen))) == cases:
        made.insert(
            1,
            Figure(
                3,
                f"{within}, seeds not seen before",
                near_cases(unseen),
                26,
                at_least=True,
                digits=0,
                is_mean=True,
            ),
        )
    return tuple(made)


def write(path: Path, found: list[Result], spent: Costs, cases: int, **words: Any) -> None:
    """The page, and its figures beside it; `cases` are those of one seed, `words` what else the text says."""
    listed, seeds = figures(found, spent, cases), len({result.seed for result in found})
    worst = min(found, key=lambda r: r.fixed_point - r.backprop)
    text = PAGE_TEXT.format(
        part="" if len(found) == cases * seeds else PART.format(len(found), cases * seeds),
        torch=torch.__version__,
        figures=table(listed),
        by_seed=by_seed(found),
        near=near_cases(found),
        cases=len(list(rows(found))),
        seeds=f"{seeds} seed{'s' * (seeds > 1)}",
        worst=f"{worst.scope}, {worst.domain}, {100 * (worst.fixed_point - worst.backprop):+.1f} points",
        rows="\n".join(row for _, row in rows(found)),
        memory="\n".join(spent.memory),
        energy=energy_table("trained | way | steps", spent.energy),
        **words,
    )
    path.write_text(text)
    save(path, Found("Fixed point on the last mile", words["command"], seeds, listed))


PART = "\n**The run is not complete: {} of {} are here.** The command goes on from what is kept."
PAGE_TEXT = """\
# Fixed point on the last mile

Written by `{command}` with torch {torch}.

**Fixed point comes within 5 points of backpropagation in {near} of {cases} cases** ({seeds}; the paper,
arXiv 2411.04036, counts 26 of 30 on other tasks): {by_seed}.{part}

{figures}

A network of 4,218 weights and biases (three convolutions with batch norms, a linear head) is pretrained in
float32 on 30,000 samples of Fashion-MNIST, or on 2,000 recordings of digits by four speakers, and adapted
to shifted data: {args.samples} training samples, 2,000 for the test; of the two unseen speakers 500 and
500. Rotation is in degrees, noise in standard deviations of a pixel in [0, 1], contrast a factor. Layers
outside the scope stay as they were; batch norms are as in evaluation for both.

Fixed point has 16-bit weights, 8-bit activations and perturbations, and integer losses; epsilon is {epsilon}.
A step perturbs the blocks of the first table one after another, each in so many directions, and updates all
of them. Backpropagation takes {args.backprop_steps} steps of SGD in float32 from the same weights. Both have
batches of {batch} of the same samples, and rates that fall to nothing on a straight line. Rates of both,
blocks and steps were chosen in float32 on data that is not measured here (rotation by 25 degrees, noise of
0.35, contrast of 0.2; a network of another seed): for each scope, one choice for all domains. But the steps
of the head were doubled after seed 0 had been seen on the test samples
([decision 0013](../decisions/0013-settings-before-tests.md)); no other seed had been.

| trained | block | directions a step | lr | steps | lr, backprop |
|---|---|---|---|---|---|
{settings}

## Accuracy on the shifted test samples, %

| trained | domain | before | the same in integers | fixed point | backprop | difference | within 5 |
|---|---|---|---|---|---|---|---|
{rows}

The furthest off of single runs is {worst}. Integers are not what costs: untrained, the integer network has
the accuracy of the float one (two columns side by side), and a run in integers is within a point of the float
run with the same seeds (`test_16w8a_is_the_float_run_with_the_same_seeds`). What costs is zeroth order: in d
numbers, a step in m directions makes about m / d of the way of an exact one. So blocks are small, and many
directions go where one is cheap: those of the head are one op, and the layers before it run once a step.

## Memory, bytes by plan

Plain plans, with one direction a step for all that is trained, and with the blocks above. *On integer units*
counts weights, activations, batch and losses. *In PyTorch* also counts the room in which kernels emulate
products of 8 by 16 bits in float64, and in which directions are drawn.
PyTorch has no integer kernels for such products, so at these sizes the step saves nothing there beside
float32 backpropagation (last column).

| batch | trained | directions | inference, on integer units | step | in PyTorch | step | backprop |
|---|---|---|---|---|---|---|---|
{memory}

## Energy

Of one step, and of all steps, in batches of {batch}, by plain plans and the profiles of three devices. A
profile has one price for an operation, of whatever width: what integer units would save is not in it.

{energy}
"""
