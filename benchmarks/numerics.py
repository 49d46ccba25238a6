"""Planned against unplanned and against eager PyTorch training, family by family.

    python benchmarks/numerics.py [--families NAME ...] [--plans N] [--page PATH]

For every family of tests/numerics: the largest difference of any tensor after three steps of AdamW from eager
PyTorch (relative, by norm), how many of some random plans (values forgotten, recomputed and paged at random)
gave the bits of the plain plan, and the largest difference between planned and measured peak of them all.
Writes docs/benchmarks/numerics.md; takes about two minutes.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from _command import machine

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from edgewise.capture import AdamW, capture  # noqa: E402
from edgewise.plan import Plan  # noqa: E402
from tests.numerics.eager import relative_difference, train_eagerly  # noqa: E402
from tests.numerics.families import FAMILIES, Family  # noqa: E402
from tests.run.training import Trained, assert_same_bits, plain, start_of, train  # noqa: E402
from tests.support import plan_of, random_order  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "numerics.md"
STEPS = 3
TEXT = """# The same numbers

Three steps of AdamW, each family trained in four ways: eager PyTorch, the plain plan, and random plans.

| family | what it has | ops | from eager | bits of the plain plan | least peak | measured off planned |
|---|---|---:|---:|---:|---:|---:|
{rows}

- From eager: the largest relative difference (by the norm) of any parameter, buffer or optimizer state from
  PyTorch's own AdamW, `foreach=False`, with attention by its parts and the same dropout masks.
- Random plans forget each value with probability 0.3 after each op, and page half of what they forget. Their
  least peak is given as a share of the plain plan's.
- Measured: the executor's own count of live bytes, against what the plan says.
- Measured with `python benchmarks/numerics.py` on {machine}, one thread.
"""


class Row(NamedTuple):
    family: Family
    ops: int
    difference: float
    same: int
    plans: int
    least_share: float
    off: float

    def line(self) -> str:
        return (
            f"| {self.family.name} | {self.family.layers} | {self.ops} | {self.difference:.1e} "
            f"| {self.same} of {self.plans} | {self.least_share:.0%} | {self.off:.2%} |"
        )


def off_by(plan: Plan, trained: Trained) -> float:
    return max(abs(result.peak_bytes - plan.peak_bytes) / plan.peak_bytes for result in trained.results)


def has_same_bits(ours: Trained, theirs: Trained) -> bool:
    try:
        assert_same_bits(ours, theirs)
    except AssertionError:
        return False
    return True


def measure(family: Family, plans: int) -> Row:
    model, loss, batch = family.make()
    batches = [batch(step) for step in range(STEPS)]
    eager = train_eagerly(model, loss, AdamW(), batches)[1]
    captured = capture(model, loss, AdamW(), batches[0], name=family.name)
    start, whole = start_of(captured), plain(captured)
    theirs = train(captured, whole, batches, start=start)
    same, shares, off = 0, [1.0], [off_by(whole, theirs)]
    for seed in range(plans):
        order, homes = random_order(captured.graph, random.Random(seed), forget=0.3, page=0.5)
        plan = plan_of(order, captured.graph, homes=homes)
        ours = train(captured, plan, batches, start=start)
        same += has_same_bits(ours, theirs)
        shares.append(plan.peak_bytes / whole.peak_bytes)
        off.append(off_by(plan, ours))
    difference = max(relative_difference(theirs.state[name], eager[name]) for name in eager)
    return Row(family, len(captured.graph.ops), difference, same, plans, min(shares), max(off))


def main() -> None:
    parser = argparse.ArgumentParser(description="Planned against unplanned and eager training.")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--plans", type=int, default=5)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.families:
        rows.append(measure(FAMILIES[name], options.plans).line())
        print(rows[-1], flush=True)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(TEXT.format(rows="\n".join(rows), machine=machine()))


if __name__ == "__main__":
    main()
