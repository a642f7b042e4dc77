"""The floors wired together: what the command line and a notebook call.

Nothing here trains or judges; it hands the built-in trainer to the engine, the results to the judge and the
judgement to the report.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from blueberry.errors import DataError, StoreError, StudyError, TrainerError
from blueberry.files import begun_by, is_missing, write_whole
from blueberry.judge.audits.design import objections
from blueberry.judge.forecast import Forecast, forecast
from blueberry.judge.gather import WINDOW_TOKENS, Text, Texts, no_texts
from blueberry.judge.judgement import Audit, Judgement
from blueberry.judge.ledger import reserved_seeds
from blueberry.judge.studies import REFEREE, judge
from blueberry.lm.trainer import Trainer, code_digest, has_weights, rank
from blueberry.recipe import Recipe, fingerprint, read_overrides
from blueberry.records import Progress, RunResult, StudyRun
from blueberry.settings import Data
from blueberry.study import engine
from blueberry.study.command import CommandTrainer, command_trainer, require_program
from blueberry.study.database import EndedRun, num_of_other_builds
from blueberry.study.engine import Snapshot
from blueberry.study.placement import MOST_TIMED, Placement, lanes_for, placement, speed_of_runs, timed
from blueberry.study.plan import DataDigest, Plan, as_planned, plan, plan_from
from blueberry.study.sections import LEDGER
from blueberry.study.spec import Study, default_store, load_baseline
from blueberry.study.status import change, drop_weights
from blueberry.study.store import BasedOn, DamagedResults, Results, Store
from blueberry.text.dataset import data_digest, load
from blueberry.text.windows import overlap, require_fit

if TYPE_CHECKING:
    from blueberry.lm.trained import Sample

T = TypeVar("T")


def load_recipe(given: str | Path, overrides: Sequence[str] = (), *, store: str | Path | None = None) -> Recipe:
    """A recipe file, one that comes with Blueberry, "ledger:NAME", the newest baseline of a line of the store, or the
    fingerprint of a run of the store or its beginning: the recipe of that run, keeping weights.

    Raises: RecipeError, StudyError, StoreError.
    """
    name, folder = str(given), Path(store or default_store())
    if name.startswith(LEDGER):
        found = load_baseline(name, "recipe", folder).recipe
    elif _RUN.fullmatch(name) and is_missing(Path(name)) and (known := _run_of(name, folder)) is not None:
        found = Recipe.of({**known.recipe, "train.keep_weights": True}, place=f"run {name}")
    else:
        return Recipe.load(given, overrides)
    return found.with_(read_overrides(overrides), place=name) if overrides else found


_RUN = re.compile(r"[0-9a-f]{4,64}")


def _run_of(beginning: str, store: Path) -> RunResult | None:
    """The run of a store whose fingerprint begins so; None unless there is exactly one."""
    if not (store / "store.sqlite").is_file():
        return None
    with Store.open(store, create=False) as opened:
        names = begun_by(beginning, opened.fingerprints())
        return opened.results(names)[names[0]] if len(names) == 1 else None


def train(
    recipe: Recipe, *, store: str | Path | None = None, on_progress: Callable[[Progress], None] | None = None
) -> RunResult:
    """Train one recipe in this process, or give its result if the store has it already.

    A known run whose weights should be kept and are not there, or damaged, is trained again for them; its result stays.
    Of several processes that `torchrun` has started for it, the first alone writes to the store.
    Raises: DataError if the corpus does not fit the recipe, StoreError if the store does not work.
    """
    folder = Path(store or default_store())
    with Store.open(folder) as opened:
        name = fingerprint(recipe, data_digest(recipe.data, opened.data))
        known = opened.results([name]).get(name)
        if known is not None and not _lacks_weights(recipe, known, folder):
            return known
        for event in Trainer(folder)([recipe]):
            if isinstance(event, RunResult):
                if rank()[0] == 0:
                    opened.commit(event)
                return known or event
            if on_progress is not None and rank()[0] == 0:
                on_progress(event)
    raise TrainerError(f"trainer: gave no result for run {name}; it must give one; report this")


def _lacks_weights(recipe: Recipe, known: RunResult, store: Path) -> bool:
    path = store / "weights" / f"{known.fingerprint}.safetensors"
    return known.status == "completed" and recipe.train.keep_weights and not has_weights(path)


def sample(
    run: str,
    prompt: str = "",
    *,
    num_tokens: int = 100,
    temperature: float = 0.8,
    seed: int = 0,
    store: str | Path | None = None,
) -> "Sample":
    """Continue a prompt with a trained run: its fingerprint, the beginning of one, or the path of its result.json.

    Raises: StoreError if the store has no weights of it.
    """
    from blueberry.lm.trained import load_weights, sample

    trained = load_weights(_weights_of(run, Path(store or default_store())))
    return sample(trained, prompt, num_tokens=num_tokens, temperature=temperature, seed=seed)


def _weights_of(run: str, store: Path) -> Path:
    """Raises: StoreError if there are none, saying how to have them where the run is known."""
    from blueberry.lm.trained import find_weights

    name = _fingerprint_of(run)
    try:
        return find_weights(store / "weights", name)
    except StoreError:
        known = _run_of(name, store) if _RUN.fullmatch(name) else None
        if known is None or known.status != "completed" or known.provenance is None:
            raise
    raise StoreError(
        f"run {name}: its weights were not kept; a study keeps those of its best arm's fresh runs; "
        f"blueberry train {name} trains it again and keeps them"
    )


def _fingerprint_of(run: str) -> str:
    """What a run is called, given that or its result file or the folder of it."""
    path = Path(run) / "result.json" if run and Path(run).is_dir() else Path(run)
    if path.suffix != ".json":
        return run
    try:
        return RunResult.model_validate_json(path.read_bytes()).fingerprint
    except (OSError, ValueError):
        raise StoreError(
            f"{path}: not the result of a run; sample needs a fingerprint or a result.json of blueberry train; mend it"
        ) from None


def export(run: str, folder: Path, *, store: str | Path | None = None) -> str:
    """Write a finished run's model for others to load; returns what was written, in one line.

    `run` is its fingerprint, the beginning of one, or the path of its result.json.
    Raises: StoreError if the store has no weights of it, ReportError if the folder cannot be written.
    """
    from blueberry.lm.export import export  # torch is slow to load, and only this needs it here
    from blueberry.lm.trained import load_weights

    trained = load_weights(_weights_of(run, Path(store or default_store())))
    form = export(trained.tensors, trained.recipe, trained.tokenizer, folder)
    written = form if isinstance(form, str) else f"{folder / 'transformers'} is the same as a {form.architecture}"
    return f"wrote {folder}; {written}"


@dataclass(frozen=True)
class Judged:
    """A study as far as it has come."""

    study: Study
    plan: Plan
    judgement: Judgement
    store: Path
    crashed: Mapping[str, RunResult]
    """By fingerprint, how those of its runs crashed that have no result."""
    failures: tuple[RunResult, ...] = ()
    """Runs given up by this call."""
    num_trained: int = 0
    """Runs trained by this call."""
    other_builds: int = 0
    """Results by another build of the built-in trainer than this one."""

    @contextmanager
    def results(self) -> Iterator[Results]:
        """What it was judged by, as long as the store is open: each result is read when it is asked for."""
        with Store.open(self.store, create=False) as opened:
            yield Results(opened, self.plan.ended, self.crashed)

    @cached_property
    def runs(self) -> tuple[StudyRun, ...]:
        """Every run that has ended, with its curves: what a report shows. Read when first asked for, and then held."""
        with self.results() as results:
            return tuple(
                StudyRun(run.arm, run.seed, run.stage, results[run.fingerprint], part=run.part)
                for run in self.plan.runs
                if run.fingerprint in results
            )

    def report(self, folder: Path) -> Path:
        """Write the report; returns its `index.html`. Raises: ReportError if the folder cannot be written."""
        from blueberry.report import write  # drawing is slow to load, and only this needs it

        return write(self.judgement, self.runs, folder, self.study)


def conduct(
    study: Study,
    *,
    store: str | Path | None = None,
    trainer: engine.Trainer | None = None,
    workers: int | None = None,
    share: bool = True,
    on: str | None = None,
    on_forecast: Callable[[Forecast], None] | None = None,
    on_event: Callable[[Snapshot], None] | None = None,
    on_result: Callable[[StudyRun], None] | None = None,
) -> Judged:
    """Train what is missing of a study and judge all of it. See `engine.run` for `share`, `on` and what it raises.

    `on_forecast` is told what it will cost before it begins; some updates may be timed for that.
    """
    if (size := rank()[1]) > 1:
        raise TrainerError(f"torchrun: started {size} processes; a study hands its runs out itself; start it without")
    folder = Path(store or default_store())
    placed = placement(_trained_recipes(study), workers)
    trainer = trainer or _program(study, folder)
    build = code_digest() if trainer is None else None
    if trainer is None:
        _require_texts(study, folder / "data")
    with Store.open(folder) as opened:
        if study.entry is not None:
            opened.remember_base(study.path, BasedOn(study.entry, *reserved_seeds(study)))
        names, notes, known = _data_digest(trainer, opened.data), list[str](), dict[str, EndedRun]()

        while True:
            try:
                planned = plan_from(study, names, partial(engine.ended_runs, opened, notes), REFEREE, known)
                if planned.todo and isinstance(trainer, CommandTrainer) and on in (None, "ray"):
                    require_program(study, (run.recipe for run in planned.todo))
                if on_forecast is not None:
                    on_forecast(_forecast(study, planned, opened, folder, placed, timing=True))
                    on_forecast = None
                outcome = engine.run(
                    study,
                    data_digest=names,
                    store=opened,
                    trainer=trainer or Trainer(folder.absolute() if on else folder),
                    workers=_num_workers(placed, workers, on),
                    lanes=None if study.trainer is None else 1,
                    gpus=placed.gpus,
                    on=on,
                    referee=REFEREE,
                    share=share,
                    build=build,
                    known=known,
                    notes=notes,
                    on_event=on_event,
                    on_result=on_result,
                )
                crashed = {failure.fingerprint: failure for failure in outcome.failures}
                judgement = _judge(study, outcome.plan, crashed, opened, own_text=trainer is None)
                break
            except DamagedResults as damaged:  # found only now, as planning reads no curves
                notes.append(str(damaged))
                opened.discard(damaged.fingerprints)
                known.clear()
        others = num_of_other_builds(opened.ended(outcome.plan.ended).values(), build)
        if study.keep_weights == "best" and not outcome.plan.todo:
            drop_weights(opened, study.path, _unwanted(study, outcome.plan, judgement))
    return Judged(study, outcome.plan, judgement, folder, crashed, outcome.failures, outcome.num_trained, others)


def _unwanted(study: Study, planned: Plan, judgement: Judgement) -> list[str]:
    """The runs of arms that are not, and may not be, the best: of parts that are compared, of all of them."""
    wanted = {(part.name, arm) for part in judgement.parts for arm in part.judgement.unresolved}
    if study.joined == "tune":
        wanted = {(part, arm) for part, arm in wanted if part in judgement.unresolved}
    wanted |= {("", arm) for arm in judgement.unresolved}
    return [run.fingerprint for run in planned.runs if (run.part, run.arm) not in wanted]


def _num_workers(placed: Placement, workers: int | None, on: str | None) -> int:
    """As asked; else what this machine holds, or (0) what a cluster does."""
    if workers is not None:
        return workers
    return placed.workers if on in (None, "ray") else 0


def run(
    study: Study,
    *,
    store: str | Path | None = None,
    trainer: engine.Trainer | None = None,
    workers: int | None = None,
    on: str | None = None,
) -> Judgement:
    """Train what is missing of a study, judge it, and return what its runs support.

    `trainer` is any callable that yields one RunResult for each recipe it is handed; by default the built-in
    one. What it trains on is the recipe's text; one that reads something else names that by content in a method
    `data_digest(recipe)`, so that its runs are not taken for others. `workers=0` trains in this process,
    `on="ray"` on Ray (see `engine.run`).
    """
    return conduct(study, store=store, trainer=trainer, workers=workers, on=on).judgement


def look(study: Study, store: Path) -> Judged:
    """Judge the runs of a study that have ended so far; train nothing.

    Raises: StudyError if none has; StoreError if there is no store.
    """
    with Store.open(store, create=False) as opened:
        planned = _planned(study, opened)
        if planned.ended:
            return _judged_so_far(study, planned, opened)
    raise StudyError(
        f"{study.path}: none of the runs it asks for is in {store}; blueberry run {study.path} trains them, "
        "blueberry plan says what has changed since it ran"
    )


def _judged_so_far(study: Study, planned: Plan, store: Store) -> Judged:
    crashed = store.failures(run.fingerprint for run in planned.todo)
    judgement = _judge(study, planned, crashed, store, own_text=study.trainer is None)
    return Judged(study, planned, judgement, store.folder, crashed)


def audits(study: Study, store: Path) -> tuple[Audit, ...]:
    """What the doctor finds in a study's design and, where the store has runs that it made, in those and their text."""
    if (store / "store.sqlite").is_file():
        with Store.open(store, create=False) as opened:
            planned, path = _planned(study, opened), str(study.path.absolute())
            # Of a study that has not begun, others have made what is there of its runs.
            if planned.ended and (not planned.todo or path in {one.path for one in opened.studies()}):
                return _judged_so_far(study, planned, opened).judgement.audits
    return objections(study)


def _trained_recipes(study: Study) -> list[Recipe]:
    """Of every arm; the base recipe while all arms are still to be proposed."""
    return [arm.recipe for arm in study.trained_arms] or [study.base]


def foresee(study: Study, store: Path, workers: int | None = None, *, timing: bool = False) -> Forecast:
    """What a study would run and could detect, given the results in a store, which need not exist yet.

    Prepares its text as a run would, so that what a run refuses before it trains is refused here. With `timing`, some
    updates are timed where no run of the store tells the speed: that takes some seconds.
    Raises: DataError if that text is missing, or does not fit an arm that trains on it.
    """
    if study.trainer is None:
        _require_texts(study, store / "data")
    placed = placement(_trained_recipes(study), workers)
    exists = (store / "store.sqlite").is_file()
    with Store.open(store, create=False) if exists else nullcontext() as opened:
        names = _data_digest(_program(study, store), store / "data")
        planned = plan_from(study, names, opened.ended, REFEREE) if opened else plan(study, names, {}, REFEREE)
        if planned.todo and study.trainer is not None:
            require_program(study, (run.recipe for run in planned.todo))
        return _forecast(study, planned, opened, store, placed, timing=timing)


def _forecast(
    study: Study, planned: Plan, opened: Store | None, folder: Path, placed: Placement, *, timing: bool
) -> Forecast:
    """Of a plan, by what the store in `folder` has, if it is there and `opened`."""
    own, data = study.trainer is None, folder / "data"
    lanes = partial(lanes_for, gpus=placed.gpus, workers=placed.workers) if own else 1
    past = opened.past_runs() if opened and own else ()
    speed = speed_of_runs(_trained_recipes(study), past) if own else None
    if speed is None and own and timing and planned.todo:
        groups = planned.groups(lanes)
        recipe = groups[0][0].recipe
        at_once = replace(placed, workers=min(placed.workers, len(groups), MOST_TIMED))
        speed = timed(Trainer, recipe, data, data_digest(recipe.data, data), at_once, len(groups[0]))
    path, build = str(study.path.absolute()), code_digest() if own else None
    before = next((one.runs for one in opened.studies() if one.path == path), ()) if opened else ()
    return forecast(
        study,
        planned,
        Results(opened, planned.ended) if opened else {},
        workers=placed.workers,
        lanes=lanes,
        speed=speed,
        changed=change(study, planned, before, opened.ended) if opened and before else None,
        other_builds=num_of_other_builds(opened.ended(planned.ended).values(), build) if opened else 0,
        past_runs=past,
        data_digest=data_digest(study.base.data, data) if own else None,
        shares=own,
    )


def _require_texts(study: Study, folder: Path) -> None:
    """Prepare every text of a study, once and here: workers would wait for each other.

    Raises: DataError if one is missing, or does not fit an arm that trains on it.
    """
    text_of = _once_a_text(lambda data: load(data, folder))
    for recipe in _trained_recipes(study):
        require_fit(text_of(recipe), recipe)


def _data_digest(trainer: engine.Trainer | None, folder: Path) -> DataDigest:
    """How a trainer names what it reads; where it does not say, it reads the recipe's text."""
    return getattr(trainer, "data_digest", _once_a_text(lambda data: data_digest(data, folder)))


def _texts(folder: Path) -> Texts:
    """What is known of the text that a recipe trains on."""

    def text_of(data: Data) -> Text:
        loaded = load(data, folder)
        shared = partial(_shared_windows, data, folder)
        return Text(loaded.entropy_bits_per_byte, loaded.train_tokens, shared)

    return _once_a_text(text_of)


def _shared_windows(data: Data, folder: Path) -> float:
    """The share of held-out windows that training has word for word; looked for once for a text, by its content."""
    known = folder / "overlap" / f"{data_digest(data, folder)}.{WINDOW_TOKENS}.json"
    try:
        return float(known.read_text(encoding="ascii"))
    except (OSError, ValueError):
        text = load(data, folder)
    try:
        share = overlap(text.train, text.validation, context_tokens=WINDOW_TOKENS).windows
    except DataError:
        return 0.0  # a split that is shorter than a window
    with suppress(OSError):  # a disk that is full or may not be written has it looked for again
        known.parent.mkdir(exist_ok=True)
        write_whole(known, f"{share!r}".encode("ascii"))
    return share


def _once_a_text(read: Callable[[Data], T]) -> Callable[[Recipe], T]:
    """Reads each text once, for one call of ours: arms often share one, and files may change before the next call."""
    known: dict[str, T] = {}

    def of(recipe: Recipe) -> T:
        key = recipe.data.model_dump_json()
        if key not in known:
            known[key] = read(recipe.data)
        return known[key]

    return of


def _program(study: Study, folder: Path) -> CommandTrainer | None:
    """The trainer that a study file names, for the store in `folder`; None: the built-in one."""
    return None if study.trainer is None else command_trainer(study, folder)


def _planned(study: Study, store: Store) -> Plan:
    return plan_from(study, _data_digest(_program(study, store.folder), store.data), store.ended, REFEREE)


def _judge(study: Study, planned: Plan, crashed: Mapping[str, RunResult], store: Store, *, own_text: bool) -> Judgement:
    texts = _texts(store.data) if own_text else no_texts
    return judge(as_planned(study, planned), Results(store, planned.ended, crashed), planned, texts=texts)
