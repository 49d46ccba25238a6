"""A run replayed from its log has the bits of the run; a log that is unsound or of another run is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Captured
from edgewise.errors import CorruptArtifact, UsageError
from edgewise.methods import Backprop, Elastic, ForwardGradient, Method, Spsa, Svrg, TopShare
from edgewise.methods.replay import LogWriter, State, read_log, replay
from edgewise.plan import plain_plan
from edgewise.run import Executor
from tests.methods.steps import captured_by, network
from tests.support import DEVICE

SGD_, MOMENTUM = SGD(0.05), SGD(0.05, momentum=0.9, weight_decay=1e-2)
RUNS = [
    (Spsa(), SGD_),
    (Spsa(directions=3), MOMENTUM),
    (Spsa(directions=2, sign=True, law="normal"), AdamW()),
    (Spsa(directions=2, in_place=True), MOMENTUM),
    (Spsa(svrg=Svrg(4, 2)), AdamW()),
    (Spsa(top=TopShare(0.2, 2)), MOMENTUM),
    (ForwardGradient(), AdamW()),
    (ForwardGradient(directions=2, law="rademacher"), SGD_),
]


def small() -> nn.Sequential:
    return network(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 3))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, generator=generator), torch.arange(4) % 3


def logged_run(path: Path, captured: Captured, steps: int) -> tuple[State, State]:
    """The states before and after."""
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        begin = executor.state()
        with LogWriter(path, captured, begin) as log:
            for step in range(steps):
                log.append(executor.step(batch(step), step).notes)
        return begin, executor.state()


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("method", "optimizer"), RUNS, ids=str)
def test_a_replay_has_the_bits_of_the_run(method: Method, optimizer: SGD | AdamW, tmp_path: Path) -> None:
    captured = captured_by(method, small(), batch(0), optimizer=optimizer)
    begin, end = logged_run(tmp_path / "run.log", captured, 6)
    assert not same(begin, end)
    assert same(replay(captured, read_log(tmp_path / "run.log"), begin), end)


def test_a_replay_after_a_resume(tmp_path: Path) -> None:
    """The second half ran from a checkpoint; the first had gone on beyond it, and was cut in a record."""
    path = tmp_path / "run.log"
    captured = captured_by(Spsa(), small(), batch(0), optimizer=AdamW())
    with Executor(captured, plain_plan(captured.graph, DEVICE), DEVICE) as executor:
        begin = executor.state()
        with LogWriter(path, captured, begin) as log:
            for step in range(5):
                if step == 3:
                    checkpoint = executor.state()
                log.append(executor.step(batch(step), step).notes)
        path.write_bytes(path.read_bytes()[:-3])
        executor.load_state(checkpoint)
        with LogWriter.resume(path, captured, 3) as log:
            for step in range(3, 7):
                log.append(executor.step(batch(step), step).notes)
        end = executor.state()
    assert len(read_log(path).records) == 7
    assert same(replay(captured, read_log(path), begin), end)


def test_a_step_takes_eight_bytes(tmp_path: Path) -> None:
    """One coefficient and its check sum, however large the model."""
    captured = captured_by(Spsa(), small(), batch(0))
    logged_run(tmp_path / "short.log", captured, 1)
    short = (tmp_path / "short.log").stat().st_size
    logged_run(tmp_path / "long.log", captured, 11)
    assert (tmp_path / "long.log").stat().st_size == short + 80


def test_running_statistics_must_be_given(tmp_path: Path) -> None:
    """What a log does not hold is asked for, never guessed; the count of batches follows from the steps."""
    model = network(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    captured = captured_by(Spsa(), model, batch(0))
    begin, end = logged_run(tmp_path / "run.log", captured, 3)
    log = read_log(tmp_path / "run.log")
    with pytest.raises(UsageError, match=r"not in the log: `1.running_mean`, `1.running_var`"):
        replay(captured, log, begin)
    given = {name: end[name] for name in ("1.running_mean", "1.running_var")}
    assert same(replay(captured, log, begin, given), end)


@pytest.mark.parametrize("method", [Backprop(), Elastic()], ids=str)
def test_what_the_notes_do_not_tell_is_refused(method: Method, tmp_path: Path) -> None:
    captured = captured_by(method, small(), batch(0))
    with pytest.raises(UsageError, match="changes by more than the notes of a step tell"):
        LogWriter(tmp_path / "run.log", captured, {})


def test_a_log_belongs_to_one_run(tmp_path: Path) -> None:
    captured = captured_by(Spsa(), small(), batch(0))
    begin, end = logged_run(tmp_path / "run.log", captured, 2)
    log = read_log(tmp_path / "run.log")
    with pytest.raises(UsageError, match="begins at another state"):
        replay(captured, log, end)
    with pytest.raises(UsageError, match="its graph_sha256 is"):
        replay(captured_by(Spsa(directions=2), small(), batch(0)), log, begin)
    with pytest.raises(UsageError, match=r"its optimizer is SGD\(lr=1.0"):
        replay(captured_by(Spsa(), small(), batch(0), optimizer=SGD(0.5)), log, begin)
    with pytest.raises(UsageError, match=r"exists\. Go on with it"):
        LogWriter(tmp_path / "run.log", captured, begin)
    with pytest.raises(UsageError, match="holds steps 0 to 1; it cannot go on from step 4"):
        LogWriter.resume(tmp_path / "run.log", captured, 4)
    with pytest.raises(UsageError, match="Cannot read the log"):
        read_log(tmp_path / "none.log")


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("attack", "text"),
    [
        (lambda data: b"", "is no log of a run"),
        (lambda data: b"\x00" * 200, "is no log of a run"),
        (lambda data: data.replace(b"replay/1", b"replay/9"), "is not `edgewise.replay/1`"),
        (lambda data: data.replace(b'"record_bytes":4', b'"record_bytes":0'), "are no log"),
        (lambda data: data.replace(b'"seed":0', b'"seed":0,"more":1'), "is no log of a run"),
        (lambda data: data[:-1], "7 bytes follow step 1, less than a record"),
        (lambda data: _flip(data, len(data) - 6), "the record of step 2 is damaged"),
        (lambda data: _flip(data, len(data) - 1), "the record of step 2 is damaged"),
        (lambda data: data[:-16] + data[-8:] + data[-16:-8], "the record of step 1 is damaged"),
    ],
)
def test_a_log_that_is_not_sound(attack: object, text: str, tmp_path: Path) -> None:
    """Cut, changed, exchanged or invented: each is named."""
    path = tmp_path / "run.log"
    logged_run(path, captured_by(Spsa(), small(), batch(0)), 3)
    path.write_bytes(attack(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(CorruptArtifact, match=text):
        read_log(path)
