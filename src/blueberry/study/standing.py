"""How far the studies of a store are: what is done, running, failed and left. Reads only."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blueberry.study.store import Store


@dataclass(frozen=True)
class Running:
    """A run that a living process is training."""

    fingerprint: str
    update: int | None
    num_updates: int | None
    tokens_per_second: float | None
    """Of the group it is trained in; None until it is measured."""


@dataclass(frozen=True)
class Standing:
    """One study. Every decided run is in exactly one of done, running, failed and left."""

    name: str
    path: str
    question: str
    done: int
    diverged: int
    """Of those done."""
    running: tuple[Running, ...]
    failed: int
    """Crashed three times; the next `run` tries them again."""
    left: int
    abandoned: int
    """Of those left: begun by a process that is gone. They go on from their checkpoints."""
    last_failure: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def standings(store: Store, study: Path | None = None) -> tuple[Standing, ...]:
    """Every registered study of a store, or those of one file; the oldest first."""
    claims = store.claims()
    return tuple(
        _standing(store, found.name, found.path, found.question, found.fingerprints, claims)
        for found in store.studies()
        if study is None or Path(found.path) == study.absolute()
    )


def _standing(
    store: Store, name: str, path: str | Path, question: str, fingerprints: tuple[str, ...], claims: Iterable[Any]
) -> Standing:
    statuses = store.statuses(fingerprints)
    missing = set(fingerprints) - set(statuses)
    claimed = [claim for claim in claims if claim.fingerprint in missing]
    alive = {claim.fingerprint for claim in claimed if claim.alive}
    failures = store.failures(sorted(missing - alive))
    reasons = [failure.failure.message for failure in failures.values() if failure.failure is not None]
    return Standing(
        name=name,
        path=str(path),
        question=question,
        done=len(statuses),
        diverged=sum(status == "diverged" for status in statuses.values()),
        running=tuple(
            Running(claim.fingerprint, claim.update, claim.num_updates, claim.tokens_per_second)
            for claim in claimed
            if claim.alive
        ),
        failed=len(failures),
        left=len(missing) - len(alive) - len(failures),
        abandoned=sum(not claim.alive and claim.fingerprint not in failures for claim in claimed),
        last_failure=reasons[-1] if reasons else None,
    )
