"""How far the studies of a store are: what is done, running, failed and left. Reads only."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blueberry.study.database import EndedRun
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


def num_of_other_builds(ended: Iterable[EndedRun], build: str | None) -> int:
    """How many of the runs another build of the trainer than this one computed. None: no build is known."""
    return sum(build is not None and one.code_digest not in (None, build) for one in ended)


def _label(study: Registration, fingerprint: str) -> str:
    return study.runs[fingerprint] or fingerprint
