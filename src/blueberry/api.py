"""The floors wired together: what the command line and a notebook call.

Nothing here trains or judges; it hands the built-in trainer to the engine, the results to the judge and the
judgement to the report.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blueberry.cost import num_threads
from blueberry.errors import StoreError, StudyError, TrainerError
from blueberry.identity import fingerprint
from blueberry.judge import judge
from blueberry.judge.forecast import Forecast, forecast
from blueberry.judge.judgement import Judgement
from blueberry.lm.trainer import Trainer
from blueberry.recipe import Recipe
from blueberry.records import Progress, RunResult
from blueberry.report.runs import LabelledRun
from blueberry.study import engine
from blueberry.study.backlog import Snapshot
from blueberry.study.plan import Plan, plan
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.text import data_digest, load, require_a_batch

if TYPE_CHECKING:
    from blueberry.lm.sampling import Sample

LANES_ON_A_GPU = 8


def default_store() -> Path:
    """`BLUEBERRY_STORE`, else `.blueberry` in the current folder."""
    return Path(os.environ.get("BLUEBERRY_STORE") or ".blueberry")


@dataclass(frozen=True)
class Placement:
    """How runs are laid on this machine. It decides speed and, on one build and device, no number."""

    workers: int
    lanes: int
    """Runs trained side by side in one worker: 1 on a CPU, where a process a core does as much."""


def placement(recipe: Recipe, workers: int | None = None) -> Placement:
    """As many single-threaded workers as there are cores; for large recipes, or on a GPU, one."""
    if shutil.which("nvidia-smi"):
        return Placement(workers or 1, LANES_ON_A_GPU)
    cores = os.cpu_count() or 1
    return Placement(workers or max(1, cores // num_threads(recipe, cores)), 1)


def train(
    recipe: Recipe, *, store: str | Path | None = None, on_progress: Callable[[Progress], None] | None = None
) -> RunResult:
    """Train one recipe in this process, or give its result if the store has it already.

    A known run whose weights should be kept and are not there is trained again for them; its result stays.
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
                opened.commit(event)
                return known or event
            if on_progress is not None:
                on_progress(event)
    raise TrainerError(f"trainer: gave no result for run {name}; it must give one; report this")


def _lacks_weights(recipe: Recipe, known: RunResult, store: Path) -> bool:
    path = store / "weights" / f"{known.fingerprint}.safetensors"
    return known.status == "completed" and recipe.train.keep_weights and not path.is_file()


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
    from blueberry.lm.sampling import sample
    from blueberry.lm.trained import find_weights, load_weights

    path = find_weights(Path(store or default_store()) / "weights", _fingerprint_of(run))
    return sample(load_weights(path), prompt, num_tokens=num_tokens, temperature=temperature, seed=seed)


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


def write_run(result: RunResult, folder: Path) -> Path:
    """Write a run's `result.json` and `curves.png`. Raises: ReportError if the folder cannot be written."""
    from blueberry.report.single_run import write_run  # see Judged.report

    return write_run(result, folder)


def export(run: str, folder: Path, *, store: str | Path | None = None) -> str:
    """Write a finished run's model for others to load; returns what was written, in one line.

    `run` is its fingerprint, the beginning of one, or the path of its result.json.
    Raises: StoreError if the store has no weights of it, ReportError if the folder cannot be written.
    """
    from blueberry.lm.export import export  # torch is slow to load, and only this needs it here
    from blueberry.lm.trained import find_weights, load_weights

    trained = load_weights(find_weights(Path(store or default_store()) / "weights", _fingerprint_of(run)))
    form = export(trained.tensors, trained.recipe, trained.tokenizer, folder)
    written = form if isinstance(form, str) else f"{folder / 'transformers'} is the same as a {form.architecture}"
    return f"wrote {folder}; {written}"


@dataclass(frozen=True)
class Judged:
    """A study as far as it has come."""

    plan: Plan
    judgement: Judgement
    runs: tuple[LabelledRun, ...]
    failures: tuple[RunResult, ...] = ()
    num_trained: int = 0
    """Runs trained by this call."""

    def report(self, folder: Path) -> Path:
        """Write the report; returns its `index.html`. Raises: ReportError if the folder cannot be written."""
        from blueberry.report import write  # drawing is slow to load, and only this needs it

        return write(self.judgement, self.runs, folder)


def conduct(
    study: Study,
    *,
    store: str | Path | None = None,
    trainer: engine.Trainer | None = None,
    workers: int | None = None,
    on_event: Callable[[Snapshot], None] | None = None,
) -> Judged:
    """Train what is missing of a study and judge all of it. See `engine.run` for what it raises."""
    folder = Path(store or default_store())
    placed = placement(study.base, workers)
    with Store.open(folder) as opened:
        if trainer is None:
            text = load(study.base.data, opened.data)  # once and here: workers would wait for each other
            for arm in study.arms:
                shape = {"context_tokens": arm.recipe.model.context_tokens}
                require_a_batch(text.train, batch_sequences=arm.recipe.train.batch_sequences, **shape)
        outcome = engine.run(
            study,
            data_digest=data_digest(study.base.data, opened.data),
            store=opened,
            trainer=trainer or Trainer(folder),
            workers=placed.workers if workers is None else workers,
            lanes=placed.lanes,
            on_event=on_event,
        )
    failed = {failure.fingerprint: failure for failure in outcome.failures}
    judged = _judge(study, outcome.plan, outcome.results | failed, folder, own_text=trainer is None)
    return Judged(judged.plan, judged.judgement, judged.runs, outcome.failures, outcome.num_trained)


def run(
    study: Study,
    *,
    store: str | Path | None = None,
    trainer: engine.Trainer | None = None,
    workers: int | None = None,
) -> Judgement:
    """Train what is missing of a study, judge it, and return what its runs support.

    `trainer` is any callable that yields one RunResult for each recipe it is handed; by default the built-in
    one. `workers=0` trains in this process.
    """
    return conduct(study, store=store, trainer=trainer, workers=workers).judgement


def look(study: Study, store: Path) -> Judged:
    """Judge the runs of a study that have ended so far; train nothing.

    Raises: StudyError if none has; StoreError if there is no store.
    """
    with Store.open(store, create=False) as opened:
        planned, results = _planned(study, opened)
        results |= opened.failures(made.fingerprint for made in planned.runs if made.fingerprint not in results)
    if not any(result.status != "failed" for result in results.values()):
        raise StudyError(f"{study.path}: none of its runs is in {store}; blueberry run {study.path} trains them")
    return _judge(study, planned, results, store, own_text=True)


def foresee(study: Study, store: Path, workers: int | None = None) -> Forecast:
    """What a study would run and could detect, given the results in a store, which need not exist yet."""
    placed = placement(study.base, workers)
    if (store / "store.sqlite").is_file():
        with Store.open(store, create=False) as opened:
            made, results = _planned(study, opened)
            speed, past_runs = opened.flops_per_second(), opened.past_runs()
    else:
        made, results, speed = plan(study, data_digest(study.base.data, store / "data"), {}), {}, None
        past_runs = ()
    return forecast(
        study,
        made,
        results,
        workers=placed.workers,
        lanes=placed.lanes,
        flops_per_second=speed,
        past_runs=past_runs,
        data_digest=data_digest(study.base.data, store / "data"),
    )


def _planned(study: Study, store: Store) -> tuple[Plan, dict[str, RunResult]]:
    make = partial(plan, study, data_digest(study.base.data, store.data))
    results: dict[str, RunResult] = {}
    while True:
        made = make(results)
        found = store.results(run.fingerprint for run in made.todo)
        if not found:
            return made, results
        results |= found


def _judge(study: Study, planned: Plan, results: dict[str, RunResult], store: Path, *, own_text: bool) -> Judged:
    text = load(study.base.data, store / "data") if own_text else None
    judgement = judge(
        study,
        results,
        planned,
        entropy_bits_per_byte=text.entropy_bits_per_byte if text else None,
        train_tokens=text.train_tokens if text else None,
    )
    runs = tuple(
        LabelledRun(made.arm, made.seed, made.stage, results[made.fingerprint])
        for made in planned.runs
        if made.fingerprint in results
    )
    return Judged(planned, judgement, runs)
