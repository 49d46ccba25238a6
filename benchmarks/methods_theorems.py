"""What is proved of the methods and what they refuse, by tests: `python benchmarks/methods_theorems.py`.

Runs those tests, and writes docs/benchmarks/methods_theorems.md: how many cases hold, and what some of them
measured (`record_property`).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from _command import command
from _figures import Figure, Found, save

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "methods_theorems.md"
TESTS = "tests/methods"


class Statement(NamedTuple):
    """What some tests show; `tests` are `file::name`, or files."""

    claim: int
    words: str
    tests: tuple[str, ...]


STATEMENTS = (
    Statement(
        1,
        "forward gradients, SPSA and their hybrid are unbiased",
        ("test_estimators.py::test_estimates_are_unbiased",),
    ),
    Statement(
        1,
        "so are they with SVRG, where the snapshot is and away from it, and on the largest weights",
        (
            "test_variants.py::test_where_the_weights_stand_every_step_is_the_mean_of_the_first",
            "test_variants.py::test_svrg_is_unbiased_away_from_its_snapshot_and_varies_less",
            "test_variants.py::test_only_the_largest_weights_move_and_without_bias",
        ),
    ),
    Statement(
        1,
        "their second moment is (d + m + 1) / m times the gradient's",
        (
            "test_estimators.py::test_the_second_moment_is_that_of_the_analysis",
            "test_estimators.py::test_signs_have_less_variance_than_normal_numbers",
        ),
    ),
    Statement(
        1,
        "activity perturbation is unbiased, with local losses too",
        (
            "test_activity_perturbation.py::test_estimates_are_unbiased",
            "test_activity_perturbation.py::test_estimates_of_local_losses_are_unbiased",
        ),
    ),
    Statement(
        1,
        "its variance is that of the theorem",
        ("test_activity_perturbation.py::test_the_variance_is_that_of_the_theorem",),
    ),
    Statement(
        1,
        "winner-take-all column-row sampling is unbiased",
        (
            "test_wta_crs.py::test_the_gradient_is_unbiased",
            "test_wta_crs.py::test_each_row_has_a_mean_factor_of_one",
        ),
    ),
    Statement(1, "a log of (seed, scalar) replays to the same weights, bit for bit", ("test_replay.py",)),
    Statement(
        1,
        "fixed point 16w8a is the float run with the same seeds, within 1% accuracy",
        ("test_fixed_point.py::test_16w8a_is_the_float_run_with_the_same_seeds",),
    ),
    Statement(
        1,
        "a step of zero leaves every bit of its weights, and its rounding is unbiased",
        (
            "test_fixed_point.py::test_a_step_of_zero_leaves_every_bit",
            "test_fixed_point.py::test_rounding_is_unbiased",
        ),
    ),
    Statement(
        1,
        "8-bit weights fail just where a perturbation is below half a unit, and are refused there",
        (
            "test_fixed_point.py::test_a_perturbation_below_half_a_unit_is_refused",
            "test_fixed_point.py::test_8_bits_learn_at_an_epsilon_of_a_few_units",
        ),
    ),
    Statement(
        7,
        "norms over the batch, recurrent layers and the like under per-example noise",
        ("test_activity_perturbation.py::test_models_that_cannot_be_served",),
    ),
    Statement(
        7,
        "blocks that cannot stand on their own",
        ("test_local_losses.py::test_blocks_that_cannot_be",),
    ),
    Statement(
        7,
        "dropout that cannot be left out",
        ("test_estimators.py::test_dropout_that_cannot_be_left_out_is_refused",),
    ),
    Statement(
        7,
        "sums that would overflow, and layers, losses and targets without integers, in fixed point",
        (
            "test_fixed_point_network.py::test_sums_that_overflow_are_refused_with_the_layer",
            "test_fixed_point_network.py::test_all_that_has_no_operator_is_listed_with_its_path",
            "test_fixed_point_network.py::test_what_is_refused",
            "test_fixed_point.py::test_other_losses_optimizers_and_targets_are_refused",
            "test_fixed_point.py::test_steps_that_integers_cannot_represent",
        ),
    ),
    Statement(
        7,
        "models that are no chain of layers, and other losses, under forward-forward",
        (
            "test_forward_forward.py::test_models_that_cannot_be_trained_layer_by_layer",
            "test_forward_forward.py::test_a_readout_must_read_the_layer_before",
            "test_forward_forward.py::test_convolutions_that_do_not_run_on_int8",
            "test_forward_forward.py::test_its_losses_are_its_own",
        ),
    ),
    Statement(
        7,
        "channels that do not stand alone, and layers without any, under sparse update",
        (
            "test_sparse_update.py::test_channels_that_do_not_stand_alone_are_refused",
            "test_sparse_update.py::test_an_embedding_has_no_channels",
            "test_sparse_update.py::test_settings_that_do_not_fit_the_model",
        ),
    ),
    Statement(
        7,
        "what cannot be quantized",
        ("test_quantization_aware.py::test_what_cannot_be_quantized_is_named",),
    ),
    Statement(
        7,
        "a layer under two names where layers train on their own",
        ("test_modules_of_two_names.py::test_methods_that_train_a_layer_on_its_own_refuse_it_with_its_path",),
    ),
    Statement(
        7,
        "a loss that is not one number",
        ("../capture/test_refusals.py::test_a_loss_that_is_no_number_is_refused",),
    ),
)
HEADINGS = {1: "Theorems", 7: "What is refused before training starts, with the layer's path"}
TEXT = """# Theorems, and what is refused

Each line is shown by tests, which `{command}` has run. Standard errors are
those of the mean of 100 to 300 estimates, in the element of the gradient, of dozens, that is farthest off.

{sections}
"""


class Case(NamedTuple):
    """One case of a test: whether it passed, and what it recorded."""

    test: str
    passed: bool
    recorded: dict[str, float]


def cases_of(statements: tuple[Statement, ...]) -> list[Case]:
    """Run the tests of these statements."""
    wanted = [f"{TESTS}/{test}" for statement in statements for test in statement.tests]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ran = [sys.executable, "-m", "pytest", *wanted, f"--junitxml={report}"]
        subprocess.run([*ran, "-o", "junit_family=xunit1", "-p", "no:randomly"], cwd=ROOT, check=False)
        return [case_of(found) for found in ET.parse(report).iter("testcase")]  # our own report


def case_of(found: ET.Element) -> Case:
    """What the report says of a case."""
    test = f"{found.get('file')}::{(found.get('name') or '').partition('[')[0]}"
    recorded = {str(p.get("name")): float(p.get("value") or "nan") for p in found.iter("property")}
    return Case(test, not [*found.iter("failure"), *found.iter("error"), *found.iter("skipped")], recorded)


def cases_for(statement: Statement, cases: list[Case]) -> list[Case]:
    """Those that speak for the statement."""
    wanted = [str((Path(TESTS) / test).as_posix()).replace("methods/../", "") for test in statement.tests]
    return [case for case in cases if case.test in wanted or case.test.partition("::")[0] in wanted]


def line(statement: Statement, own: list[Case]) -> str:
    """A row of the page."""
    most: dict[str, float] = {}
    for case in own:
        most |= {name: max(value, most.get(name, value)) for name, value in case.recorded.items()}
    measured = "".join(f"; at most {value:.2f} {name}" for name, value in most.items())
    tests = ", ".join(f"`{test}`" for test in statement.tests)
    return f"| {statement.words} | {sum(c.passed for c in own)} of {len(own)}{measured} | {tests} |"


def section(claim: int, cases: list[Case]) -> str:
    """A table."""
    rows = [line(s, cases_for(s, cases)) for s in STATEMENTS if s.claim == claim]
    head = f"## {HEADINGS[claim]}\n\n| what | cases that hold | tests in `{TESTS}` |\n|---|---|---|\n"
    return head + "\n".join(rows)


def main() -> None:
    """Run, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--page", type=Path, default=PAGE)
    page = parser.parse_args().page
    cases, called = cases_of(STATEMENTS), command(__file__, "--page")
    page.write_text(TEXT.format(command=called, sections="\n\n".join(section(c, cases) for c in HEADINGS)))
    figures = []
    for statement in STATEMENTS:
        own = cases_for(statement, cases)
        holds = sum(case.passed for case in own)
        what = statement.words if statement.claim == 1 else f"refused: {statement.words}"
        aim = max(1, len(own))
        figures.append(Figure(statement.claim, f"{what}: cases", holds, aim, at_least=True, digits=0))
    save(page, Found("Theorems, and what is refused", called, 0, tuple(figures)))


if __name__ == "__main__":
    main()
