"""The runs that a store keeps: how each ended, what it takes on disk, and how to be rid of it."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from blueberry.errors import StoreError
from blueberry.files import refused_as
from blueberry.study.store import Store

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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def kept_runs(store: Store, study: Path | None = None) -> tuple[KeptRun, ...]:
    """Every run that a store knows anything of, or those of one study file, in the order they ended; then the others.

    Raises: StoreError if no study of that file has run here.
    """
    asked = _asked(store, study)
    weights, checkpoints = _sizes(store.folder / "weights"), _sizes(store.checkpoints)
    claims = {claim.fingerprint: claim.alive for claim in store.claims()}
    failed, names = store.failures(asked), store.fingerprints()
    known = dict.fromkeys([*names, *weights, *claims, *failed, *checkpoints])
    wanted = [name for name in known if (study is None or name in asked) and name != "shared"]
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


def prune(store: Store, what: Prunable, study: Path | None = None) -> Upkeep:
    """Remove something of every run, or of those of one study; what it does not name stays.

    Runs that a living process trains are spared; "runs" spares those that another study asks for too.
    Raises: StoreError if no study of that file has run here, or the disk refuses.
    """
    runs = kept_runs(store, study)
    living = {claim.fingerprint for claim in store.claims() if claim.alive}
    chosen = [
        run for run in runs if run.fingerprint not in living and not (what == "runs" and study and len(run.studies) > 1)
    ]
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
    return Upkeep(kept_runs(store, study), what, len(touched), freed, len(runs) - len(chosen))


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
