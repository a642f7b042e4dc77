"""Which runs a study needs, which of them are missing, and which are trained side by side. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise

from blueberry.architecture import cost
from blueberry.errors import StudyError
from blueberry.recipe import Recipe, fingerprints, shape_key
from blueberry.records import RunResult, Stage, StudyRun
from blueberry.stats.locate import Search, expected_runs, most_runs, search
from blueberry.study.arms import Arm, Run, content
from blueberry.study.database import EndedRun
from blueberry.study.placement import Lanes
from blueberry.study.proposals import ASKED_BY_EFFECTS, Proposer, along, arm_at, space_of
from blueberry.study.sections import Method
from blueberry.study.spec import Study

LOOKS = (3, 5, 8, 12, 16)
"""Seeds at each look of a study that grows by what it sees; beyond, half as many again each time."""
STAGES: tuple[Stage, ...] = ("search", "compare", "confirm")
Values = Mapping[str, Mapping[int, float]]
"""The metric by arm and seed, turned so that lower is better; infinite where the run diverged."""
Ended = RunResult | EndedRun
"""A run that has ended, with its curves or without."""
DataDigest = Callable[[Recipe], str]
"""Names by content what a trainer reads beside the recipe: its text, or a command and its files."""


def looks_of(search: int, maximum: int) -> tuple[int, ...]:
    """Numbers of seeds at which a design is judged: from `search` (three at least) to `maximum`, ascending.

    A design that may not grow, or not beyond three seeds, has one look.
    """
    first = max(search, LOOKS[0])
    looks = [first] if first < maximum else []
    ahead: list[int] = [*LOOKS]
    while ahead[-1] < maximum:
        ahead.append(ahead[-1] + ahead[-1] // 2)
    return (*looks, *(n for n in ahead if first < n < maximum), maximum)


@dataclass(frozen=True)
class Referee:
    """Whoever judges a race, look by look, from what all its arms have measured so far."""

    open_arms: Callable[[Study, Values], Sequence[str]]
    """The arms that need more seeds: none when every question is settled, or no seeds are left."""
    leading_arm: Callable[[Study, Values], str | None]
    """The arm to confirm once none is open; None if every one diverged."""


@dataclass(frozen=True)
class Totals:
    """What some runs cost, evaluations excluded."""

    num_updates: int
    num_tokens: int
    num_flops: float


@dataclass(frozen=True)
class Plan:
    """The runs of a study, as far as the results so far decide them."""

    runs: tuple[Run, ...]
    """Search seed by seed, all arms of one before the next, look by look; then the confirming runs, once their arm is
    known."""
    ended: frozenset[str]
    """Fingerprints of the runs with a result, diverged ones included."""
    leader: str | None
    """The arm with the least mean over the searching seeds, of a race one that was there to the end; None until the
    search is over, or if none is finite."""
    num_undecided: int
    """Runs that may still come but have no arm yet: confirming ones, and of a race or of proposals the most that
    there can be."""
    proposed: tuple[Arm, ...] = ()
    """The arms so far, where they are proposed from results."""
    search: Search | None = None
    """How the search along the axis ended, of the method "locate"; None until it has."""
    num_expected: int = 0
    """Of the undecided runs, those that come if the curve along the axis is a smooth valley and the noise small; all
    of them where nothing is searched along an axis."""
    parts: Mapping[str, "Plan"] = field(default_factory=dict)
    """By name, of a study made of parts; `runs` are then theirs, and the leaders are theirs too."""

    @cached_property
    def done(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.fingerprint in self.ended)

    @cached_property
    def todo(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.fingerprint not in self.ended)

    @cached_property
    def total(self) -> Totals:
        """Of all the runs that are decided; the undecided ones are not in it."""
        return totals(self.runs)

    @cached_property
    def left(self) -> Totals:
        """Of the runs still to do."""
        return totals(self.todo)

    def groups(self, lanes: int | Lanes) -> tuple[tuple[Run, ...], ...]:
        """The missing runs, in groups of at most `lanes` that are trained side by side.

        Who trains with whom is decided by all runs of one look of one part, not by which are missing or what other
        parts have come to, so that an interrupted study goes on in the groups it began with. Their sizes differ by one.
        """
        found: list[tuple[Run, ...]] = []
        together = Counter((run.stage, run.part, run.look) for run in self.runs)
        alike: dict[tuple[Stage, str, int, str], list[Run]] = {}
        for run in self.runs:
            alike.setdefault((run.stage, run.part, run.look, run.shape_key), []).append(run)
        for key, runs in sorted(alike.items(), key=lambda item: STAGES.index(item[0][0])):
            found += _chunks(runs, lanes if isinstance(lanes, int) else lanes(runs[0].recipe, together[key[:3]]))
        missing = (tuple(run for run in group if run.fingerprint not in self.ended) for group in found)
        return tuple(filter(None, missing))


def plan(study: Study, data_digest: DataDigest, results: Mapping[str, Ended], referee: Referee | None = None) -> Plan:
    """The runs of a study given how those so far have ended, by fingerprint. Reads nothing else.

    The confirming runs of the leading arm join once every searching run has ended. A result that says "failed"
    (the program crashed, not the training) has not ended its run. A race needs a referee.
    Raises: StudyError if two arms are one run because their texts are the same; if proposals are asked for and
    Optuna is missing.
    """
    if study.parts:
        parts = {part.name: plan(part, data_digest, results, referee) for part in study.parts}
        return _join(_Known(study, data_digest, results, referee), parts)
    known = _Known(study, data_digest, results, referee)
    is_fraction = study.method == "grid" and study.design is not None and study.design.mode == "fraction"
    found = _fraction(known) if is_fraction else _SEARCHES[study.method](known)
    most, expected = found.most_to_come, found.num_expected
    if most is None:
        runs, most = found.runs + _confirm(known, found.arms, found.leader), 0
    else:
        runs, most = found.runs, most + study.seeds.confirm
        expected = None if expected is None else expected + study.seeds.confirm
    return Plan(
        runs=runs,
        ended=known.ended & {run.fingerprint for run in runs},
        leader=found.leader,
        num_undecided=most,
        num_expected=most if expected is None else expected,
        proposed=() if found.arms == study.arms else found.arms,
        search=found.located,
    )


def plan_from(
    study: Study,
    data_digest: DataDigest,
    ended: Callable[[Iterable[str]], Mapping[str, EndedRun]],
    referee: Referee | None = None,
    known: dict[str, EndedRun] | None = None,
) -> Plan:
    """`plan` by what `ended` says of runs, asked of those that are missing until none of them has ended.

    What it has said joins `known`. Raises as `plan`, and as `ended`.
    """
    known = {} if known is None else known
    while True:
        planned = plan(study, data_digest, known, referee)
        found = ended(run.fingerprint for run in planned.todo)
        if not found:
            return planned
        known |= found


def as_planned(study: Study, planned: Plan) -> Study:
    """The study with the arms that its plan has proposed; the study itself where none are."""
    parts = tuple(as_planned(part, planned.parts[part.name]) for part in study.parts)
    return replace(study, arms=planned.proposed or study.arms, parts=parts)


def study_runs(study: Study, planned: Plan, results: Mapping[str, RunResult]) -> Iterator[StudyRun]:
    """The runs of a plan that are in `results`, part by part and arm by arm, in the plan's order within each.

    Each result is asked for once, when its turn comes, so whoever goes through them holds one arm's curves at a time.
    """
    study = as_planned(study, planned)
    settings = {("", arm.name): arm.settings for arm in study.arms}
    settings |= {(part.name, arm.name): arm.settings for part in study.parts for arm in part.arms}
    by_arm: dict[tuple[str, str], list[Run]] = {key: [] for key in settings}
    for run in planned.runs:
        by_arm[run.part, run.arm].append(run)
    for key, runs in by_arm.items():
        for run in runs:
            if (result := results.get(run.fingerprint)) is not None:
                yield StudyRun(run.arm, run.seed, run.stage, result, settings[key], run.part, study.name)


@dataclass(frozen=True)
class _Search:
    """The searching runs as far as results decide them."""

    runs: tuple[Run, ...]
    arms: tuple[Arm, ...]
    leader: str | None = None
    """Known once it is over, unless every arm diverged."""
    most_to_come: int | None = None
    """Searching runs beside these, at most; None when it is over."""
    located: Search | None = None
    num_expected: int | None = None
    """Of those to come; None: all of them."""


@dataclass(frozen=True)
class _Known:
    """A study and how its runs so far have ended."""

    study: Study
    data_digest: DataDigest
    results: Mapping[str, Ended]
    referee: Referee | None

    @cached_property
    def ended(self) -> frozenset[str]:
        return frozenset(name for name, result in self.results.items() if result.status != "failed")

    def has(self, runs: Sequence[Run]) -> bool:
        """Whether all of them have ended."""
        return all(run.fingerprint in self.ended for run in runs)

    def values(self, runs: Sequence[Run]) -> dict[str, dict[int, float]]:
        """The only place where planning turns the metric: what should be large is negated, so lower is better after it.
        A run that diverged, or has not the metric, is infinite."""
        sign = -1.0 if self.study.goal == "maximize" else 1.0
        values: dict[str, dict[int, float]] = {}
        for run in runs:
            result = self.results[run.fingerprint]
            value = result.metric(self.study.metric) if result.status == "completed" else None
            values.setdefault(run.arm, {})[run.seed] = math.inf if value is None else sign * value
        return values

    def least(self, runs: Sequence[Run]) -> str | None:
        """The arm of least mean, the first of equals; None if none is finite."""
        means = _means(self.values(runs))
        best = min(means, key=lambda arm: means[arm], default=None)
        return best if best is not None and math.isfinite(means[best]) else None


def _grid(known: _Known) -> _Search:
    """Every arm on every searching seed."""
    runs = _block(known.study, known.data_digest, None, 0, known.study.seeds.search)
    if not known.has(runs):
        return _Search(runs, known.study.arms, most_to_come=0)
    return _Search(runs, known.study.arms, known.least(runs))


def _fraction(known: _Known) -> _Search:
    """A fraction of all combinations, then what its effects ask for (`ASKED_BY_EFFECTS`), on the same seeds."""
    study = known.study
    arms, seeds = study.arms, range(study.base.seed, study.base.seed + study.seeds.search)
    runs, most = _block(study, known.data_digest, None, 0, len(seeds)), len(arms) + 1
    for look, ask in enumerate(ASKED_BY_EFFECTS, start=1):
        if not known.has(runs):
            return _Search(runs, arms, most_to_come=most * len(seeds), num_expected=len(seeds))
        more, most = ask(study, arms, known.values(runs)), 1
        arms += more
        runs += _seed_by_seed(study, more, seeds, known.data_digest, look)
    if not known.has(runs):
        return _Search(runs, arms, most_to_come=0)
    return _Search(runs, arms, known.least(runs))


def _race(known: _Known) -> _Search:
    """Look by look, more seeds for the arms that were open at the look before."""
    study, referee = known.study, known.referee
    assert referee is not None, "a race is decided by whoever judges"
    looks = looks_of(study.seeds.search, study.seeds.max)
    names, runs, first = tuple(arm.name for arm in study.arms), list[Run](), 0
    for look, num_seeds in enumerate(looks):
        block = _block(study, known.data_digest, None if not look else names, first, num_seeds)
        runs += [replace(run, look=look) for run in block]
        if not known.has(runs):
            return _Search(tuple(runs), study.arms, most_to_come=len(names) * (looks[-1] - num_seeds))
        still_open = referee.open_arms(study, known.values(runs))
        names, first = tuple(name for name in names if name in still_open), num_seeds
        if not names:
            break
    return _Search(tuple(runs), study.arms, referee.leading_arm(study, known.values(runs)))


def _propose(known: _Known) -> _Search:
    """Batch by batch, each proposed from the means of those before."""
    study, proposer = known.study, Proposer.begin(known.study)
    arms, runs = dict[str, Arm](), list[Run]()
    for look in range(proposer.num_batches):
        asked = proposer.ask(look)
        keys = [content(arm.recipe) for arm in asked]
        new = {key: arm for key, arm in zip(keys, asked, strict=True) if key not in arms}
        arms |= new
        seeds = range(study.base.seed, study.base.seed + study.seeds.search)
        runs += _seed_by_seed(study, new.values(), seeds, known.data_digest, look)
        if not known.has(runs):
            asked_for = min((look + 1) * study.strategy.batch, study.strategy.trials)
            most = (study.strategy.trials - asked_for) * study.seeds.search
            return _Search(tuple(runs), tuple(arms.values()), most_to_come=most)
        means = _means(known.values(runs))
        proposer.tell([means[arms[key].name] for key in keys])
    return _Search(tuple(runs), tuple(arms.values()), known.least(runs))


def _locate(known: _Known) -> _Search:
    """Along one axis, coarse to fine, see `stats.locate`; where that breaks down, a race of the values that it trained
    without a run that diverged."""
    study, seeds = known.study, known.study.seeds
    space, bounds = space_of(study), {"max_seeds": seeds.max, "max_runs": study.strategy.runs}
    ask = search(space, alpha=study.alpha, min_effect=study.min_effect, only_trained=not seeds.confirm, **bounds)
    arms, runs, batch, found = dict[float, Arm](), list[Run](), next(ask), None
    while found is None:
        arms |= {value: arm_at(study, value) for value, _ in batch if value not in arms}
        look = runs[-1].look + 1 if runs else 0
        for value, seed in batch:
            first = study.base.seed + seed
            runs += _on_seeds(study, arms[value], range(first, first + 1), known.data_digest, "search", look)
        if not known.has(runs):
            most = (study.strategy.runs or most_runs(space, max_seeds=seeds.max)) - len(runs)
            expected = expected_runs(space, **bounds) - len(runs)
            return _Search(tuple(runs), along(arms), most_to_come=max(most, 0), num_expected=max(expected, 0))
        values = known.values(runs)
        try:
            batch = ask.send([values[arms[value].name][study.base.seed + seed] for value, seed in batch])
        except StopIteration as over:
            found = over.value
    _refuse_twins(study, ((run.fingerprint, run.arm) for run in runs))
    if not found.is_broken:
        if found.recommended is not None:
            arms.setdefault(found.recommended, arm_at(study, found.recommended))
        leader = None if found.recommended is None else arms[found.recommended].name
        return _Search(tuple(runs), along(arms), leader, located=found)
    if study.strategy.runs is not None:  # they are spent
        return _Search(tuple(runs), along(arms), known.least(runs), located=found)
    values = known.values(runs)
    racing = tuple(arm for arm in along(arms) if math.inf not in values[arm.name].values())
    raced = _race(replace(known, study=replace(study, arms=racing)))
    before, look = {run.fingerprint for run in runs}, runs[-1].look + 1
    runs += [replace(run, look=run.look + look) for run in raced.runs if run.fingerprint not in before]
    return replace(raced, runs=tuple(runs), arms=along(arms), located=found)


_SEARCHES: dict[Method, Callable[[_Known], _Search]] = {
    "grid": _grid, "race": _race, "optuna": _propose, "locate": _locate,
}  # fmt: skip


def _join(known: _Known, parts: dict[str, Plan]) -> Plan:
    """One plan of several: all searching runs, seed by seed, before those on fresh seeds.

    What confirms an arm of [tune] compares it with the others; then the best of them is confirmed on fresher seeds.
    """
    study = known.study
    stages: dict[Stage, Stage] = {"confirm": "compare"} if study.joined == "tune" else {}
    runs = [
        replace(run, part=name, stage=stages.get(run.stage, run.stage)) for name, p in parts.items() for run in p.runs
    ]
    runs.sort(key=lambda run: (STAGES.index(run.stage), run.seed))
    _refuse_twins(study, ((run.fingerprint, run.part) for run in runs))
    ended = frozenset[str]().union(*(part.ended for part in parts.values()))
    num_undecided = sum(part.num_undecided for part in parts.values())
    expected = sum(part.num_expected for part in parts.values())
    if study.joined != "tune":
        return Plan(tuple(runs), ended, None, num_undecided, parts=parts, num_expected=expected)
    compared = [replace(run, arm=run.part) for run in runs if run.stage == "compare"]
    if num_undecided or not known.has(compared):
        expected += study.seeds.confirm
        return Plan(tuple(runs), ended, None, num_undecided + study.seeds.confirm, parts=parts, num_expected=expected)
    leader = known.least(compared)
    winner = next((part for part in study.parts if part.name == leader), None)
    if winner is not None:
        after = replace(winner, seeds=winner.seeds.model_copy(update={"max": winner.seeds.max + winner.seeds.confirm}))
        arms = parts[winner.name].proposed or winner.arms
        fresh = _confirm(replace(known, study=after), arms, parts[winner.name].leader)
        runs += [replace(run, part=winner.name) for run in fresh]
    return Plan(tuple(runs), known.ended & {run.fingerprint for run in runs}, leader, 0, parts=parts)


@lru_cache(maxsize=256)  # planning is repeated after every stage, and naming runs is nearly all its cost
def _block(
    study: Study, data_digest: DataDigest, names: tuple[str, ...] | None, first: int, stop: int
) -> tuple[Run, ...]:
    """The arms of these names, or all, on these seeds counted from the study's first."""
    arms = [arm for arm in study.arms if names is None or arm.name in names]
    runs = _seed_by_seed(study, arms, range(study.base.seed + first, study.base.seed + stop), data_digest)
    _refuse_twins(study, ((run.fingerprint, run.arm) for run in runs[: len(arms)]))
    return runs


def _refuse_twins(study: Study, named: Iterable[tuple[str, str]]) -> None:
    """No run belongs to two arms or parts; `named` are fingerprints and whose they are. Raises: StudyError."""
    whose: dict[str, str] = {}
    for fingerprint, name in named:
        if (other := whose.setdefault(fingerprint, name)) != name:
            raise StudyError(
                f'{study.path}: "{other}" and "{name}" have the same runs, because what they train on has the same '
                "content; each must be something else; remove one"
            )


def _confirm(known: _Known, arms: Sequence[Arm], leader: str | None) -> tuple[Run, ...]:
    study, first = known.study, known.study.base.seed + known.study.seeds.max
    seeds = range(first, first + study.seeds.confirm)
    confirmed = (arm for arm in arms if arm.name == leader)
    return tuple(run for arm in confirmed for run in _on_seeds(study, arm, seeds, known.data_digest, "confirm"))


def _seed_by_seed(
    study: Study, arms: Iterable[Arm], seeds: range, data_digest: DataDigest, look: int = 0
) -> tuple[Run, ...]:
    """Searching runs: all arms on one seed before the next."""
    of_arms = [_on_seeds(study, arm, seeds, data_digest, "search", look) for arm in arms]
    return tuple(run for on_one_seed in zip(*of_arms, strict=True) for run in on_one_seed)


def _on_seeds(
    study: Study, arm: Arm, seeds: range, data_digest: DataDigest, stage: Stage, look: int = 0
) -> tuple[Run, ...]:
    recipe, data = arm.recipe, data_digest(arm.recipe)
    shape, names = shape_key(recipe, data), fingerprints(recipe, data, seeds)
    if stage == "search" and study.searches_without_weights:  # which decides no number, and so no name
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"keep_weights": False})})
    # The seeds' bounds were checked with the study: copying saves checking every setting once a run.
    return tuple(
        Run(arm.name, seed, recipe.model_copy(update={"seed": seed}), name, shape, stage, data, look=look)
        for seed, name in zip(seeds, names, strict=True)
    )


def totals(runs: Sequence[Run]) -> Totals:
    """Summed over the runs."""
    costs = {(run.part, run.arm): cost(run.recipe) for run in {(run.part, run.arm): run for run in runs}.values()}
    each = [costs[run.part, run.arm] for run in runs]
    return Totals(
        num_updates=sum(one.num_updates for one in each),
        num_tokens=sum(one.num_tokens for one in each),
        num_flops=sum((one.num_flops for one in each), 0.0),
    )


def _means(values: Values) -> dict[str, float]:
    """Infinite where one value is."""
    return {
        arm: math.inf if math.inf in by_seed.values() else math.fsum(by_seed.values()) / len(by_seed)
        for arm, by_seed in values.items()
    }


def _chunks(runs: Sequence[Run], lanes: int) -> list[tuple[Run, ...]]:
    """Consecutive runs in as few chunks of at most `lanes` as there can be, the longer ones first."""
    num_chunks = -(-len(runs) // lanes)
    size, num_longer = divmod(len(runs), num_chunks)
    ends = [number * size + min(number, num_longer) for number in range(num_chunks + 1)]
    return [tuple(runs[start:end]) for start, end in pairwise(ends)]
