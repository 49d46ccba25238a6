"""The page of `methods_forward_forward.py`: its tables, and its figures against what was aimed at."""

import argparse
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from _command import command, machine
from _energy import DEVICES, energy_table
from _figures import Figure, Found, save, table

TITLE = "Forward-forward and FF-INT8"
LEFT_OUT = "(left out of this run)"
TEXT = """# {title}

Fashion-MNIST, less the mean image and over the deviation of all pixels, for every method; batches of
64, plain SGD whose rate falls to zero in a straight line, {task.samples:,} training samples,
{task.epochs} epochs, all {task.tests:,} test samples, {seeds} seeds. *INT8 backprop* is backpropagation with
all products of int8 operands and stochastically rounded gradients, everything else float32: the same products
as FF-INT8. Both classify on int8, too.

{figures}

Forward-forward here learns from pairs (`pairs`: softplus of the goodness of a wrong label less that of the
right one), and in linear layers from the wrong label in which the first layer finds most goodness, of three
that are drawn (`candidates`). It is the more tuned of the two
([decision 0013](../decisions/0013-settings-before-tests.md)). Less the mean image, both are better.

## Accuracy: two hidden layers of 1,000

{accuracy}

Rates are those of most accuracy on 5,000 training samples that are held out, in a run with seed 0; INT8 has
the rate of its float twin:

{held}

## Accuracy: three convolutions, labels as waves

{few.samples:,} training samples, {few.epochs} epochs, {few.tests:,} test samples, rates found likewise.

{convolutions}

{convolutions_held}

## Peak memory

Of the plain plan: weights and all else that is held at once. *Least* is the smallest plan that was found for
the same step, from recomputation to loops. Weights are float32 for every method, so small batches are mostly
weights. FF-INT8 makes the gradient of a linear layer piece by piece within the update, so it is never whole;
that is no privilege of forward-forward, but the simple INT8 backprop here does not.

{memory}

## Energy of a step

In batches of 64, by plain plans and the profiles of three devices, whatever RAM they have. A profile has one
price for an operation, of whatever width: what int8 would save is not in it.

{energy}

## Time of a step

Milliseconds of processor time of one thread, median of {repeats} steps, in turn. Forward-forward makes two
passes, of right and wrong labels, which int8 has to make up for first.

{times}

An executor hands every tensor of 64 KiB and more back to the system at once, and new pages cost time: in
float32 backpropagation those of the gradients of weights, in FF-INT8 those of what is rounded. A step of
FF-INT8 reads each weight once to round it and once to change it, and makes two passes; int8 products are
several times faster than float32's, but they are the smaller part of the step. On the convolutional network
forward-forward holds more, not less: the first layer's activations, of right and wrong labels at once, are
larger than all that backpropagation keeps. And where memory is what matters, planned backpropagation needs
less than either (*least*): forward-forward holds samples with right and with wrong labels.

Measured with `{command}` on {machine}, a core shared with other work.
Memory and accuracy do not depend on the machine but for rounding; times do.
"""


@dataclass
class Rows:
    """What was measured so far, by network, method and batch."""

    accuracy: dict[tuple[str, str], tuple[float, list[float]]] = field(default_factory=dict)
    """Rate, and percent right by seed."""
    held: dict[tuple[str, str], dict[float, float]] = field(default_factory=dict)
    """Percent right of held-out samples by rate."""
    memory: dict[tuple[str, int, str], dict[str, int]] = field(default_factory=dict)
    energy: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    time: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)

    def mean(self, shape: str, method: str) -> float:
        """Accuracy over the seeds."""
        return statistics.mean(self.accuracy[shape, method][1])

    def below(self, shape: str, method: str, other: str) -> float:
        """By how many points the method is less accurate than the other."""
        return self.mean(shape, other) - self.mean(shape, method)


def write(rows: Rows, task: Any, few: Any, options: argparse.Namespace) -> None:
    """The page, with what was measured so far, and its figures beside it."""
    listed, called = figures(rows, task.shape, few.shape), command("methods_forward_forward.py", "--page")
    text = TEXT.format(
        title=TITLE,
        task=task,
        few=few,
        seeds=options.seeds,
        repeats=options.repeats,
        figures=table(listed),
        accuracy=accuracy_table(rows, task.shape),
        held=held_table(rows, task.shape),
        convolutions=accuracy_table(rows, few.shape),
        convolutions_held=held_table(rows, few.shape),
        memory=memory_table(rows),
        energy=energy_table("network | method", ((f"{s} | {m}", of) for (s, m), of in rows.energy.items())),
        times=time_table(rows),
        command=called,
        machine=machine(),
    )
    options.page.write_text(text)
    save(options.page, Found(TITLE, called, options.seeds, listed))


def figures(rows: Rows, shape: str, few: str) -> tuple[Figure, ...]:
    """What was aimed at, as far as it was measured."""
    found = []
    for network, words in ((shape, ""), (few, f", {few}")):
        if (network, "FF-INT8") in rows.accuracy:
            below = rows.below(network, "forward-forward", "backprop")
            rounding = rows.below(network, "FF-INT8", "forward-forward")
            found.append(
                Figure(
                    4, f"forward-forward below backprop in float32, points{words}", below, 2.0, is_mean=True
                )
            )
            found.append(
                Figure(
                    4, f"FF-INT8 below forward-forward in float32, points{words}", rounding, 0.5, is_mean=True
                )
            )
    if (shape, 64, "FF-INT8") in rows.memory:
        backprop, int8, ours = (
            rows.memory[shape, 64, n]["plain"] for n in ("backprop", "INT8 backprop", "FF-INT8")
        )
        found.append(Figure(4, "peak memory of FF-INT8 by backprop's, batch 64", ours / backprop, 0.7))
        found.append(Figure(4, "peak memory of FF-INT8 by INT8 backprop's, batch 64", ours / int8, 0.75))
    for (network, batch), of in rows.time.items():
        if network == shape:
            ratio = of["FF-INT8"] / of["backprop"]
            found.append(Figure(4, f"time of a step of FF-INT8 by backprop's, batch {batch}", ratio, 1.0))
    if rows.energy:
        found.append(Figure(6, "devices with energy of every row", len(DEVICES), 3, at_least=True, digits=0))
    return tuple(found)


def lines(head: str, aligned: str, body: Iterable[str]) -> str:
    """A table, or a note that it was left out."""
    body = tuple(body)
    return "\n".join((head, aligned, *body)) if body else LEFT_OUT


def accuracy_table(rows: Rows, shape: str) -> str:
    """A line for each method."""
    body = []
    for (network, name), (lr, each) in rows.accuracy.items():
        if network == shape:
            by_seed = ", ".join(f"{percent:.2f}" for percent in each)
            below = rows.below(shape, name, "backprop")
            body.append(f"| {name} | {lr:g} | {by_seed} | {statistics.mean(each):.2f} | {below:+.2f} |")
    head = "| method | rate | test accuracy by seed, % | mean | below backprop |"
    return lines(head, "|---|---:|---|---:|---:|", body)


def held_table(rows: Rows, shape: str) -> str:
    """A line for each method that has rates of its own."""
    body = [
        f"| {name} | {', '.join(f'{percent:.2f} at {lr:g}' for lr, percent in of.items())} |"
        for (network, name), of in rows.held.items()
        if network == shape
    ]
    return lines("| method | accuracy on held-out samples, % |", "|---|---|", body)


def memory_table(rows: Rows) -> str:
    """A line for each network and batch."""
    names = list(dict.fromkeys(name for _, _, name in rows.memory))
    body = []
    for shape, batch in dict.fromkeys((shape, batch) for shape, batch, _ in rows.memory):
        found = {name: rows.memory[shape, batch, name] for name in names}
        ours = found["FF-INT8"]["plain"]
        cells = [size(of["plain"]) for of in found.values()]
        less = [f"{1 - ours / found[name]['plain']:.0%}" for name in ("backprop", "INT8 backprop")]
        floors = [size(of["least"]) if "least" in of else "" for of in found.values()]
        cells = [shape, str(batch), size(found["backprop"]["weights"]), *cells, *less, *floors]
        body.append("| " + " | ".join(cells) + " |")
    head = (
        f"| network | batch | weights | {' | '.join(names)} | FF-INT8 below backprop | below INT8 backprop "
        f"| {' | '.join(f'least, {name}' for name in names)} |"
    )
    return lines(head, f"|---|{'---:|' * (4 + 2 * len(names))}", body)


def time_table(rows: Rows) -> str:
    """A line for each network and batch."""
    body, names = [], list(next(iter(rows.time.values()), {}))
    for (shape, batch), of in rows.time.items():
        cells = " | ".join(f"{1e3 * seconds:.1f}" for seconds in of.values())
        body.append(f"| {shape} | {batch} | {cells} | {of['FF-INT8'] / of['backprop']:.2f} |")
    head = f"| network | batch | {' | '.join(names)} | FF-INT8 / backprop |"
    return lines(head, f"|---|{'---:|' * (2 + len(names))}", body)


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**20:.2f} MiB"
