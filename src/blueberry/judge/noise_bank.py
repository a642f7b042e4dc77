"""The noise that a store has measured, by recipe family and horizon: a bank that others may borrow from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from blueberry.errors import RecipeError, TableError, did_you_mean
from blueberry.identity import canonical_json, digest
from blueberry.judge.forecast import family_of, noise_by_horizon
from blueberry.judge.words import count, interval, number, settings_text, unit
from blueberry.recipe import Recipe
from blueberry.stats.noise import Borrowed, read_sigma
from blueberry.study.database import EndedRun
from blueberry.study.store import Store

PREFIX = "bank:"
"""Of a sigma that is borrowed from the bank."""
PLACES = 4
SHOWN = ("model.width", "model.num_layers", "model.feed_forward.kind", "train.batch_sequences", "data.corpus")
MOST_SHOWN = 5
"""Settings in which families differ that a line has."""


@dataclass(frozen=True)
class Banked:
    """Noise of one recipe family at one length, in the metric."""

    name: str
    """By which it is borrowed: a digest of the family, and the updates."""
    metric: str
    num_updates: int
    sd: float
    """Of one run around its arm's mean."""
    interval: tuple[float, float]
    """Of the sd, at 95%."""
    df: float
    num_runs: int
    rho: float | None
    """Correlation of two arms' results on one seed."""
    family: Mapping[str, Any]
    """What its runs share: dotted setting to value."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown number is null."""
        return {**asdict(self), "interval": list(self.interval), "family": dict(self.family)}


def noise_bank(runs: Iterable[EndedRun], metric: str = "val_loss") -> tuple[Banked, ...]:
    """Every family and length with a repeated arm, most runs first. Runs of other programs are in no family.

    Source of the intervals: chi-squared of the sum of squares within arms.
    """
    from scipy.special import chdtri

    families: dict[str, tuple[dict[str, Any], list[EndedRun]]] = {}
    known: dict[str, str | None] = {}
    for run in runs:
        flat = {name: value for name, value in (run.recipe or {}).items() if name != "seed"}
        key = canonical_json(flat)
        if key not in known:
            family = _family(run.recipe or {})
            known[key] = None if family is None else canonical_json([family, run.data_digest])
            if family is not None:
                families.setdefault(str(known[key]), (family, []))
        if (group := known[key]) is not None:
            families[group][1].append(run)
    banked = []
    for group, (family, own) in families.items():
        for noise in noise_by_horizon(own, family, metric):
            ends = tuple(noise.sd * sqrt(noise.df / float(chdtri(noise.df, tail))) for tail in (0.025, 0.975))
            name = f"{digest('blueberry/family/1', group)[:6]}-{noise.num_updates}"
            banked.append(
                Banked(
                    name, metric, noise.num_updates, noise.sd, (ends[0], ends[1]), noise.df, noise.n, noise.rho, family
                )
            )
    return tuple(sorted(banked, key=lambda one: (-one.num_runs, one.name)))


def _family(flat: Mapping[str, Any]) -> dict[str, Any] | None:
    """None of a recipe that is not the built-in trainer's."""
    try:
        return family_of(Recipe.of(flat))
    except RecipeError:
        return None


def stored_noise(store: Path, metric: str = "val_loss") -> tuple[Banked, ...]:
    """Of the store's latest runs. Raises: StoreError if there is none."""
    with Store.open(store, create=False) as opened:
        return noise_bank(opened.past_runs(), metric)


def sigma_of(text: str, store: Path, metric: str = "val_loss") -> Borrowed:
    """What `--sigma` says: a number, or bank:NAME of what the store has measured.

    Raises: TableError for a name that the bank has not; StoreError if there is no store.
    """
    if not text.startswith(PREFIX):
        return read_sigma(text)
    name, banked = text.removeprefix(PREFIX), {one.name: one for one in stored_noise(store, metric)}
    if name not in banked:
        raise TableError(f'sigma: "{text}"; the store has measured no such {metric}{did_you_mean(name, banked)}')
    found = banked[name]
    return Borrowed(found.sd, found.df, text)


def told(banked: Sequence[Banked]) -> str:
    """For a terminal: families by what most people ask of one, and by the settings in which they differ."""
    names = dict.fromkeys(name for one in banked for name in one.family)
    differing = [name for name in names if len({str(one.family.get(name)) for one in banked}) > 1]
    shown = list(dict.fromkeys((*SHOWN, *differing[:MOST_SHOWN])))
    lines = []
    for one in banked:
        ends, rho = interval(one.interval, PLACES), "" if one.rho is None else f", rho {one.rho:.2f}"
        found = f"sd {number(one.sd, PLACES)}{unit(one.metric)} {ends}, {count(one.num_runs, 'run')}{rho}"
        family = {name: one.family[name] for name in shown if name in one.family}
        lines.append(f"{PREFIX}{one.name}  {found}: {count(one.num_updates, 'update')}, {settings_text(family)}")
    return "\n".join(lines) or "no noise measured yet: no arm of the store's runs was repeated on another seed"
