"""What a store holds, for a person: how far its studies are, which runs it keeps, and how to be rid of some."""

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from blueberry.errors import StoreError
from blueberry.files import begun_by, refused_as
from blueberry.recipe import fingerprints
from blueberry.study.arms import Run
from blueberry.study.database import num_of_other_builds
from blueberry.study.plan import Plan
from blueberry.study.sections import PROPOSING
from blueberry.study.spec import Study
from blueberry.study.store import Claim, Registration, Store


@dataclass(frozen=True)
class Running:
    """A run that a living process is training."""

    fingerprint: str
    run: str
    """Arm and seed in words; its fingerprint where the store does not know them."""
    update: int | None
    num_updates: int | None
    tokens_per_second: float | None
    """Of the group it is trained in; None until it is measured."""


@dataclass(frozen=True)
class StudyStatus:
    """One study. Every decided run is in exactly one of done, running, failed and left."""

    name: str
    path: str
    question: str
    done: int
    diverged: int
    """Of those done."""
    other_builds: int
    """Of those done, by another build of the built-in trainer than this one."""
    running: tuple[Running, ...]
    failed: int
    """Crashed three times; the next `run` tries them again."""
    left: int
    abandoned: int
    """Of those left: begun by a process that is gone. They go on from their checkpoints."""
    last_failure: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def study_statuses(store: Store, study: Path | None = None, build: str | None = None) -> tuple[StudyStatus, ...]:
    """Every registered study of a store, or those of one file; the oldest first.

    `build` is the digest of the built-in trainer as it is now.
    """
    claims = store.claims()
    return tuple(
        _status(store, found, claims, build)
        for found in store.studies()
        if study is None or Path(found.path) == study.absolute()
    )


def _status(store: Store, study: Registration, claims: Sequence[Claim], build: str | None) -> StudyStatus:
    ended = store.ended(study.runs)
    missing = set(study.runs) - set(ended)
    claimed = [claim for claim in claims if claim.fingerprint in missing]
    alive = {claim.fingerprint for claim in claimed if claim.alive}
    failures = store.failures(sorted(missing - alive))
    name, failure = next(reversed(failures.items()), (None, None))
    last = failure.failure.message if failure is not None and failure.failure is not None else None
    return StudyStatus(
        name=study.name,
        path=study.path,
        question=study.question,
        done=len(ended),
        diverged=sum(one.status == "diverged" for one in ended.values()),
        other_builds=num_of_other_builds(ended.values(), build) if study.build is not None else 0,
        running=tuple(
            Running(one.fingerprint, _label(study, one.fingerprint), one.update, one.num_updates, one.tokens_per_second)
            for one in claimed
            if one.alive
        ),
        failed=len(failures),
        left=len(missing) - len(alive) - len(failures),
        abandoned=sum(not claim.alive and claim.fingerprint not in failures for claim in claimed),
        last_failure=f"{_label(study, name)}: {last}" if name is not None and last is not None else None,
    )


def _label(study: Registration, fingerprint: str) -> str:
    return study.runs[fingerprint] or fingerprint


Prunable = Literal["weights", "checkpoints", "runs"]
"""Final weights, without which nothing is left to sample or export; the states of interrupted runs, which then begin at
the start; or runs, results and all, which the next `blueberry run` trains again."""


@dataclass(frozen=True)
class KeptRun:
    """One run of a store."""

    fingerprint: str
    studies: tuple[str, ...]
    """Names of the studies that ask for it; none for one of `blueberry train`."""
    run: str
    """Arm and seed in words, as the first of these studies calls it; else its fingerprint."""
    status: str
    """completed, diverged, failed, running or interrupted."""
    val_loss: float | None
    weights_bytes: int
    checkpoint_bytes: int


@dataclass(frozen=True)
class Upkeep:
    """The runs asked about, and what was removed of them."""

    runs: tuple[KeptRun, ...]
    pruned: Prunable | None = None
    pruned_runs: int = 0
    freed_bytes: int = 0
    spared: int = 0
    """Runs that were left as they are: a living process trains them, or another study asks for them too."""
    asked_by: tuple[str, ...] = ()
    """Studies that asked for a run whose result was removed by name: their next run trains it again."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def kept_runs(store: Store, study: Path | None = None, beginning: str = "") -> tuple[KeptRun, ...]:
    """Every run that a store knows anything of, or those of one study file, in the order they ended; then the others.

    `beginning`: of the fingerprint of the one run that is asked about.
    Raises: StoreError if no study of that file has run here, or not one run begins so.
    """
    asked = _asked(store, study)
    weights, checkpoints = _sizes(store.folder / "weights"), _sizes(store.checkpoints)
    claims = {claim.fingerprint: claim.alive for claim in store.claims()}
    failed, names = store.failures(asked), store.fingerprints()
    known = dict.fromkeys([*names, *weights, *claims, *failed, *checkpoints])
    wanted = [name for name in known if (study is None or name in asked) and name != "shared"]
    if beginning:
        wanted = begun_by(beginning, wanted)
        if len(wanted) != 1:
            found = f'{len(wanted)} runs of it begin with "{beginning}"; it must name one'
            raise StoreError(f"{store.folder}: {found}; blueberry runs lists them")
    ended = store.ended(wanted)
    return tuple(
        KeptRun(
            fingerprint=name,
            studies=tuple(study for study, _ in asked.get(name, ())),
            run=asked[name][0][1] or name if name in asked else name,
            status=ended[name].status
            if name in ended
            else "running"
            if claims.get(name)
            else "failed"
            if name in failed
            else "interrupted",
            val_loss=ended[name].metric("val_loss") if name in ended else None,
            weights_bytes=weights.get(name, 0),
            checkpoint_bytes=checkpoints.get(name, 0),
        )
        for name in wanted
    )


def prune(store: Store, what: Prunable, study: Path | None = None, beginning: str = "") -> Upkeep:
    """Remove something of every run, of those of one study, or of one run (see `kept_runs`); what is not named stays.

    Runs that a living process trains are spared; "runs" spares those that another study asks for too, unless one run
    is named: then it says which studies asked for it.
    Raises: StoreError if no study of that file has run here, not one run begins so, or the disk refuses.
    """
    runs = kept_runs(store, study, beginning)
    living = {claim.fingerprint for claim in store.claims() if claim.alive}
    spares_shared = what == "runs" and study is not None and not beginning
    chosen = [run for run in runs if run.fingerprint not in living and not (spares_shared and len(run.studies) > 1)]
    freed = sum(_bytes_of(run, what) for run in chosen)
    with refused_as(StoreError, store.folder, "runs cannot be removed", "make it writable; what remained stays"):
        for run in chosen:
            if what in ("weights", "runs"):
                (store.folder / "weights" / f"{run.fingerprint}.safetensors").unlink(missing_ok=True)
            if what in ("checkpoints", "runs"):
                shutil.rmtree(store.checkpoints / run.fingerprint, ignore_errors=True)
    if what == "runs":
        store.discard([run.fingerprint for run in chosen])
    touched = [run for run in chosen if what == "runs" or _bytes_of(run, what)]
    asked_by = tuple(study for run in chosen for study in run.studies) if what == "runs" and beginning else ()
    return Upkeep(kept_runs(store, study), what, len(touched), freed, len(runs) - len(chosen), asked_by)


def drop_weights(store: Store, study: Path, unwanted: Iterable[str]) -> None:
    """Remove the final weights of runs that a study does not want, once it has ended.

    Those that another study asks for stay, and those that somebody trained by hand: with no driver to time them, or
    after their result was there. Raises: StoreError if the disk refuses.
    """
    path = str(study.absolute())
    asked = {name for one in store.studies() if one.path != path for name in one.runs}
    with refused_as(StoreError, store.folder, "weights cannot be removed", "make it writable; what remained stays"):
        for name, run in store.ended(set(unwanted) - asked).items():
            weights = store.folder / "weights" / f"{name}.safetensors"
            is_by_a_driver, committed_at = run.wall_seconds is not None, run.committed_at or 0.0
            if is_by_a_driver and weights.is_file() and weights.stat().st_mtime <= committed_at:
                weights.unlink(missing_ok=True)


def _bytes_of(run: KeptRun, what: Prunable) -> int:
    return (what != "checkpoints") * run.weights_bytes + (what != "weights") * run.checkpoint_bytes


def _asked(store: Store, study: Path | None) -> dict[str, list[tuple[str, str]]]:
    """Which studies ask for each run, and what each calls it; of one study's runs, that one first."""
    path = None if study is None else str(study.absolute())
    registered = sorted(store.studies(), key=lambda one: one.path != path)
    if path is not None and all(one.path != path for one in registered):
        raise StoreError(f"{study}: no study of this file has run in {store.folder}; blueberry status names those")
    found: dict[str, list[tuple[str, str]]] = {}
    own = set(registered[0].runs) if path is not None else None
    for one in registered:
        for name, label in one.runs.items():
            if own is None or name in own:
                found.setdefault(name, []).append((one.name, label))
    return found


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes by run: of its file or of all files in its folder."""
    if not folder.is_dir():
        return {}
    return {
        path.name.removesuffix(".safetensors"): _size(path) for path in sorted(folder.iterdir()) if path.name[0] != "."
    }


def _size(path: Path) -> int:
    files: Sequence[Path] = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


@dataclass(frozen=True)
class Change:
    """How a study differs from what its file last ran as."""

    reused: int
    """Runs of the new plan that have a result already."""
    set_aside: int
    """Runs with a result that the study does not ask for any more; they stay in the store."""
    new_arms: tuple[str, ...]
    """Without a run that was planned before, "part: arm" where there are parts."""


def change(
    study: Study, planned: Plan, before: Iterable[str], ended: Callable[[Iterable[str]], Collection[str]]
) -> Change | None:
    """None if the study still asks for all that it asked for before, and for no arm more.

    `before` are the fingerprints that were registered for its file when it last ran; `ended` picks those with a result
    out of some. A study that has only grown on its way (further looks, fresh seeds) has not changed.
    """
    asked = frozenset(before)
    of_arms: dict[tuple[str, str], list[Run]] = {}
    for run in planned.runs:
        of_arms.setdefault((run.part, run.arm), []).append(run)
    lost = asked.difference(run.fingerprint for run in planned.runs)
    if lost and planned.num_undecided:  # runs that results will decide may come back
        last = study.base.seed + study.seeds.max + 2 * study.seeds.confirm
        for run, *_ in of_arms.values():
            lost = lost.difference(fingerprints(run.recipe, run.data_digest, range(study.base.seed, last)))
    new = [key for key, runs in of_arms.items() if asked.isdisjoint(run.fingerprint for run in runs)]
    if study.method in PROPOSING or planned.proposed:  # proposals come and go
        new = []
    if not lost and not new:
        return None
    arms = tuple(f"{part}: {arm}" if part else arm for part, arm in new)
    return Change(reused=len(planned.done), set_aside=len(ended(lost)), new_arms=arms)
