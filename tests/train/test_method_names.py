import subprocess
import sys

import pytest

from edgewise.errors import UsageError
from edgewise.methods.settings import Backprop, Elastic, ForwardGradient, Spsa
from edgewise.train.contenders import (
    BASELINES,
    Contender,
    parse_contender,
    parse_contenders,
    usual_contenders,
)
from edgewise.train.method_names import ALIASES, is_complete, method_kinds, method_text, parse_method


@pytest.mark.parametrize(
    ("text", "method", "again"),
    [
        ("backprop", Backprop(), "backprop"),
        ("spsa", Spsa(), "spsa"),
        ("sign-spsa", Spsa(sign=True), "spsa:sign=true"),
        ("sign-spsa:directions=4", Spsa(sign=True, directions=4), "spsa:directions=4:sign=true"),
        (" forward-gradient:law=rademacher", ForwardGradient(law="rademacher"), None),
        ('elastic:head=["a", "b.c"]', Elastic(head=("a", "b.c")), 'elastic:head=["a","b.c"]'),
        ("spsa:epsilon = 0.01", Spsa(epsilon=0.01), "spsa:epsilon=0.01"),
    ],
)
def test_methods_in_words(text: str, method: object, again: str | None) -> None:
    found = parse_method(text)
    assert found == method
    assert parse_method(method_text(found)) == found
    assert again is None or method_text(found) == again


@pytest.mark.parametrize("kind", method_kinds())
def test_every_kind_has_a_name_and_usual_settings(kind: str) -> None:
    assert not is_complete(kind) or method_text(parse_method(kind)) == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spas", "No method `spas`. Did you mean `spsa`?"),
        ("zzz", "No method `zzz`. There are: backprop, "),
        ("", "No method ``. There are: "),
        ("spsa:4", "Method `spsa:4`: `4` is no setting. Write `spsa:KEY=VALUE`."),
        ("spsa:=4", "Method `spsa:=4`: `=4` is no setting."),
        (
            "spsa:direction=4",
            "Method `spsa:direction=4`: unknown key `direction`; did you mean `directions`?",
        ),
        ("spsa:directions=x", "Method `spsa:directions=x`: `directions`: Expected `int`, got `str`."),
        (
            "spsa:directions=0",
            "Method `spsa:directions=0`: Method: `directions` is 0; it must be at least 1.",
        ),
        ("backprop:lr=1", "Method `backprop:lr=1`: unknown key `lr`; there are: kind."),
    ],
)
def test_what_is_no_method(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_method(text)
    assert str(caught.value).startswith(message)


def test_names_and_settings_need_no_torch() -> None:
    code = "import sys, edgewise.methods, edgewise.train.contenders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_capture_with_comes_when_it_is_asked_for() -> None:
    import edgewise.methods  # noqa: PLC0415
    from edgewise.methods.capture import capture_with  # noqa: PLC0415

    assert edgewise.methods.capture_with is capture_with
    with pytest.raises(AttributeError, match="has no attribute `capture_without`"):
        edgewise.methods.capture_without  # noqa: B018


def test_a_solver_is_a_contender() -> None:
    assert parse_contender("every-block") == Contender("every-block", Backprop(), "every-block")
    assert parse_contender("spsa:directions=2") == Contender("spsa:directions=2", Spsa(directions=2), "auto")
    with pytest.raises(UsageError, match="No method `time-indexed`"):
        parse_contender("time-indexed")


def test_a_list_of_contenders() -> None:
    names = [c.name for c in parse_contenders('backprop, elastic:head=["a","b"],spsa, backprop,')]
    assert names == ["backprop", 'elastic:head=["a","b"]', "spsa"]
    with pytest.raises(UsageError, match="`--methods` names none"):
        parse_contenders(" , ")


def test_the_folder_of_a_contender_is_a_name_everywhere() -> None:
    assert parse_contender('elastic:head=["a/b"]').folder == "elastic_head=__a_b__"


def test_usually_all_are_compared() -> None:
    found = usual_contenders(Backprop())
    names = [contender.name for contender in found]
    assert names[:3] == ["backprop", *BASELINES]
    assert set(names) == {*BASELINES, *ALIASES, *(kind for kind in method_kinds() if is_complete(kind))}
    assert usual_contenders(Spsa(sign=True)) == found
    assert usual_contenders(Spsa(directions=3))[-1].name == "spsa:directions=3"
