"""`compare_methods`: one model, one budget, many methods, each trained by a plan of its own.

Every contender gets the same model, data, batches, bytes and number of steps (or seconds on the device), and
a learning rate by the same search (`rate_search.py`). Contenders of one method that differ in their plan only
compute the same bits, so one of them is run and the others are priced. Each run is a run directory like any
other; `comparison.json` is written after each contender, so that a second call goes on where the first ended.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgewise.capture import Captured
from edgewise.devices import Device, load_device
from edgewise.errors import BudgetInfeasible, ModelUnsupported, UsageError
from edgewise.graph import Graph
from edgewise.methods.settings import Backprop, Method
from edgewise.plan import Certificate, check, plain_plan
from edgewise.run import Executor
from edgewise.train.bare import DATA
from edgewise.train.comparison import (
    FILE,
    FORMAT,
    Comparison,
    Cost,
    Row,
    Search,
    Setting,
    encode_comparison,
    load_comparison,
)
from edgewise.train.comparison_rows import cost_of, like, refused, too_slow, with_plan, with_run
from edgewise.train.contenders import Contender
from edgewise.train.data import Dataset, check_enough, load_data
from edgewise.train.files import write_whole
from edgewise.train.loop import capture_task, make_optimizer, train_run
from edgewise.train.method_names import method_text
from edgewise.train.planning import Planned, budget_of, earlier_plan, plan_run
from edgewise.train.rate_search import Adjustable, search_rate
from edgewise.train.recipe import Recipe, check_recipe
from edgewise.train.run_dir import OWN_FILES, RECIPE
from edgewise.train.units import Amount
from edgewise.train.watch import CompareWatch

POINTS = 10
"""Evaluations of a run after its first, roughly: what its curve is drawn through."""


def compare_methods(
    recipe: Recipe,
    contenders: Sequence[Contender],
    folder: Path,
    *,
    steps: int | None = None,
    seconds: Amount | None = None,
    lr: Mapping[str, float] | None = None,
    watch: CompareWatch | None = None,
) -> Comparison:
    """Train the model of `recipe` by each of `contenders`, and leave everything about it in `folder`.

    Ctrl-C ends it after the current training step; the last row is then `unfinished`.

    Args:
        recipe: model, data, training and budget; its method is not looked at.
        contenders: what to compare.
        folder: a new one, or that of a comparison of the same setting: what is done in it is not done again.
        steps: of each contender; rounded up to whole evaluations. By default those of the recipe.
        seconds: on the device, for each contender, in place of `steps`; or a multiple of what the recipe's
            steps would take by plain backprop.
        lr: learning rates by name of contender, `""` for all others; what has none is searched for.
        watch: hears of the comparison as it goes.

    Raises:
        UsageError: the recipe, data, model and folder do not fit together.
        CorruptArtifact: a file in `folder`, or of the data, is damaged.
        DeviceError: the disk is full or failed.
    """
    work = _Work(recipe, folder, dict(lr or {}), watch or CompareWatch())
    work.open(steps, seconds)
    for place, contender in enumerate(contenders, start=1):
        work.watch.contender(contender.name, place, len(contenders))
        row = work.rows.get(contender.name)
        if row is None or row.outcome == "unfinished":
            row = work.row(contender, row)
            work.put(row)
        work.watch.row(row)
        if row.outcome == "unfinished":
            break
    return work.comparison


class _Work:
    def __init__(self, recipe: Recipe, folder: Path, lr: dict[str, float], watch: CompareWatch) -> None:
        self.recipe = check_recipe(msgspec.structs.replace(recipe, method=Backprop()))
        self.folder, self.lr, self.watch = folder, lr, watch
        self.device: Device = load_device(recipe.device.name)
        self.dataset: Dataset = load_data(recipe.data)
        check_enough(self.dataset, recipe.train.batch)
        self.rows: dict[str, Row] = {}
        self._captured: dict[str, tuple[Captured, Adjustable]] = {}

    def open(self, steps: int | None, seconds: Amount | None) -> None:
        """Find what all contenders share, and what was done in the folder before."""
        plain = self._plain()
        usual = self.recipe.train.epochs * self.recipe.steps_of_epoch(len(self.dataset.train))
        if seconds is not None and seconds.relative and plain is None:
            raise UsageError("This model cannot be trained by backprop: give `--seconds` as a time.")
        limit = None if seconds is None else seconds.of(plain[0].seconds * usual if plain else 0.0)
        setting = Setting(
            recipe=self.recipe.digest,
            device=msgspec.json.decode(msgspec.json.encode(self.device)),
            ram_bytes=self._ram_bytes(plain[1] if plain else None),
            minimize=self.recipe.device.minimize,
            steps=None if limit is not None else steps or usual,
            seconds=limit,
            lr=self.lr,
        )
        self.comparison = Comparison(
            format=FORMAT,
            model=self.recipe.model.name,
            data=self._data,
            optimizer=str(self.recipe.train.optimizer.__struct_config__.tag),
            batch=self.recipe.train.batch,
            test_samples=len(self.dataset.test),
            setting=setting,
            plain=plain[0] if plain else None,
            plain_peak_bytes=plain[1].peak_bytes if plain else None,
        )
        self.rows = {row.name: row for row in _earlier(self.folder, setting)}
        self.comparison = msgspec.structs.replace(self.comparison, rows=tuple(self.rows.values()))

    @property
    def _data(self) -> str:
        """What is learnt, in words."""
        by_heart = Path(self.dataset.name) == self.folder / DATA
        return "random samples, to be learnt by heart" if by_heart else self.dataset.name

    def put(self, row: Row) -> None:
        """Write `row` into `comparison.json`."""
        self.rows[row.name] = row
        self.comparison = msgspec.structs.replace(self.comparison, rows=tuple(self.rows.values()))
        write_whole(self.folder / FILE, encode_comparison(self.comparison))

    def row(self, contender: Contender, past: Row | None) -> Row:
        """Capture, plan and train; or why not."""
        begin = time.perf_counter()
        row = Row(contender.name, method_text(contender.method), contender.solver, "unfinished")
        graph = None
        try:
            captured, optimizer = self._capture(contender.method)
            graph = captured.graph
            planned = self._plan(contender, graph)
        except (ModelUnsupported, BudgetInfeasible, UsageError) as error:
            return refused(row, error, graph)  # model and data were tried before: it is the method
        row = with_plan(row, planned, graph)
        steps = self._steps(planned.certificate)
        twin = self._twin(row, steps)
        if steps < 1 or twin is not None:
            return too_slow(row, self._limit) if twin is None else like(row, twin, self._last(twin, steps))
        row = msgspec.structs.replace(row, run=contender.folder)
        if past is None or past.search is None:
            search = self._search(row, contender, captured, optimizer, planned, steps)
        else:
            search = past.search
        row = msgspec.structs.replace(row, search=search)
        self.put(row)  # so that the search is not done again
        row = self._train(row, contender, planned, steps)
        wall = time.perf_counter() - begin + (past.wall_seconds if past else 0.0)
        return msgspec.structs.replace(row, wall_seconds=wall)

    def _train(self, row: Row, contender: Contender, planned: Planned, steps: int) -> Row:
        run_dir = self.folder / contender.folder
        recipe = self._timed(self._recipe(contender), row.search.lr if row.search else 0.0, steps)
        started = (run_dir / RECIPE).exists()
        summary = train_run(recipe, run_dir, resume=started, watch=self.watch, plan=planned.plan)
        return with_run(row, summary, recipe, recipe.steps_of_epoch(len(self.dataset.train)), run_dir)

    def _plan(self, contender: Contender, graph: Graph) -> Planned:
        config = self._recipe(contender).device
        earlier = earlier_plan(self.folder / contender.folder, self.device)
        return plan_run(config, graph, self.device, earlier=earlier, progress=self.watch.progress)

    # -- what all share ------------------------------------------------------------------------------------

    def _plain(self) -> tuple[Cost, Certificate] | None:
        """One step of plain backprop; `None` if backprop cannot serve the model."""
        try:
            graph = self._capture(Backprop())[0].graph
        except ModelUnsupported:
            return None
        plan = plain_plan(graph, self.device, minimize=self.recipe.device.minimize)
        found = check(plan, graph, self.device)
        return cost_of(Planned(plan, found, found), graph), found

    def _ram_bytes(self, plain: Certificate | None) -> int:
        amount = self.recipe.device.ram_amount
        if plain is None and amount is not None and amount.relative:
            raise UsageError("This model cannot be trained by backprop: give `--ram` in bytes.")
        if plain is None:
            return self.device.memory.ram.bytes if amount is None else int(amount.number)
        return budget_of(self.recipe.device, self.device, plain).ram_bytes

    def _capture(self, method: Method) -> tuple[Captured, Adjustable]:
        """The step of `method` with a learning rate that can be changed; that of the last method is kept."""
        key = method_text(method)
        if key not in self._captured:
            self._captured.clear()
            optimizer = Adjustable(make_optimizer(self.recipe.train.optimizer))
            recipe = msgspec.structs.replace(self.recipe, method=method)
            self._captured[key] = capture_task(recipe, self.dataset, optimizer), optimizer
        return self._captured[key]

    # -- what one contender needs --------------------------------------------------------------------------

    def _recipe(self, contender: Contender) -> Recipe:
        ram = str(self.comparison.setting.ram_bytes)
        device = msgspec.structs.replace(self.recipe.device, ram=ram, solver=contender.solver)
        return msgspec.structs.replace(self.recipe, device=device, method=contender.method)

    @property
    def _limit(self) -> float:
        return self.comparison.setting.seconds or 0.0

    def _steps(self, certificate: Certificate) -> int:
        steps = self.comparison.setting.steps
        if steps is not None:
            return steps
        return int(self._limit / certificate.seconds) if certificate.seconds > 0 else 1

    def _timed(self, recipe: Recipe, lr: float, steps: int) -> Recipe:
        """`recipe` at rate `lr`, in about `POINTS` epochs that together are `steps` steps, or a few more."""
        most = self.recipe.steps_of_epoch(len(self.dataset.train))
        per_epoch = math.ceil(steps / max(POINTS, math.ceil(steps / most)))
        optimizer = msgspec.structs.replace(recipe.train.optimizer, lr=lr)
        train = msgspec.structs.replace(
            recipe.train,
            optimizer=optimizer,
            epoch_steps=per_epoch,
            epochs=math.ceil(steps / per_epoch),
        )
        return msgspec.structs.replace(recipe, train=train)

    def _twin(self, row: Row, steps: int) -> Row | None:
        """A trained row of the same method whose run has the same bits, and is long enough."""
        for other in self.rows.values():
            if other.method != row.method or other.outcome != "trained" or other.same_bits:
                continue
            rates = [self.lr.get(name, self.lr.get("")) for name in (row.name, other.name)]
            exact = rates[0] == rates[1] and not (row.reordered or other.reordered)
            if exact and other.steps >= steps and len(other.marks) > 1 and other.marks[1].step <= steps:
                return other
        return None

    def _last(self, twin: Row, steps: int) -> int:
        """The step up to which `steps` steps of the twin's run count."""
        return twin.steps if self.comparison.setting.steps is not None else steps

    def _search(
        self,
        row: Row,
        contender: Contender,
        captured: Captured,
        optimizer: Adjustable,
        planned: Planned,
        steps: int,
    ) -> Search:
        """The rate that was given; or that was found for another row of the method; or a search."""
        given = self.lr.get(contender.name, self.lr.get(""))
        if given is not None:
            return Search(given)
        for other in self.rows.values():
            if other.method == row.method and other.search is not None and other.search.trials:
                return other.search
        recipe = msgspec.structs.replace(self.recipe, method=contender.method)
        with Executor(captured, planned.plan, self.device, paging_dir=self.folder) as executor:
            return search_rate(recipe, self.dataset, steps, executor, optimizer, self.watch.trial)


def _earlier(folder: Path, setting: Setting) -> tuple[Row, ...]:
    """The rows of an earlier comparison of `setting` in `folder`.

    Raises:
        UsageError: it holds something else.
        CorruptArtifact: its `comparison.json` is damaged.
    """
    path = folder / FILE
    try:
        if path.exists():
            found = load_comparison(path)
            different = [
                field.name
                for field in msgspec.structs.fields(Setting)
                if getattr(found.setting, field.name) != getattr(setting, field.name)
            ]
            if different:
                raise UsageError(
                    f"{folder} holds a comparison of another setting: another "
                    f"{', another '.join(different)}. Name another folder. Nothing was changed."
                )
            return found.rows
        if any((folder / name).exists() for name in OWN_FILES):
            raise UsageError(f"{folder} holds a run, no comparison. Name another folder.")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Cannot use the folder {folder}: {error.strerror}. Choose another place."
        ) from error
    return ()
