"""Audits of a design: what a study could not answer, however its runs end; and of raw results of others, by the rates
that they list, against the schedules that the same results declare.

An audit is a function of a study that returns its findings; to add one, write it and enter it in DESIGN_AUDITS.

On budgets: what a study varies may differ, and nothing else. An axis of a length (train.updates, train.tokens) asks
about it; so does an arm that changes nothing but its length. Other settings move a budget on the way, and then how bad
that is depends on what moved:
- tokens, the data and most of the compute: block. Whoever varies the batch must say that tokens are what is equal
  (train.tokens in place of train.updates).
- FLOPs at equal tokens, because the model varies; updates at equal tokens, because the batch does; the sum of
  rates, because the schedule does: one cannot vary the one and keep the other, so this is said and no more.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blueberry.architecture import cost
from blueberry.judge import words
from blueberry.judge.audits.comparisons import EQUAL, LEAST_AXIS_VALUES, unequal
from blueberry.judge.judgement import LEAST_BLOCKS, Audit, block, blocking_first, warn
from blueberry.recipe import LENGTHS, Recipe, common_updates, course, trunk_key
from blueberry.records import is_number, is_usable_number
from blueberry.schedules import horizon_updates, multiplier, num_warmup, sketch
from blueberry.stats.factorial import LEAST_POOLED
from blueberry.study.spec import Arm, Study

WIDEST_GAP = 2.0
"""Between neighbouring rates. The valley of a learning rate is about a factor of 3 wide."""
LEAST_WARMUP_UPDATES = 5
REACHED = 0.01
"""Of the peak: how near its floor a schedule must end."""
HARDLY = 0.02
"""Of a run's updates: arms that differ in no more of them."""
MOST_COURSES, LONGEST_COURSE = 64, 100_000
"""Arms whose schedules are held against each other, and their updates: a plan is made at once."""


def objections(study: Study) -> tuple[Audit, ...]:
    """Every finding of every audit of the design and of its parts', blocking ones first; none for a sound one."""
    ours = study.trainer is None  # of another program's schedule and budget nothing is known
    found = [
        finding
        for name, look in DESIGN_AUDITS.items()
        if ours or name in ("seeds", "edge", "curse")
        for finding in look(study)
    ]
    return blocking_first([*found, *(finding for part in study.parts for finding in objections(part))])


def seeds(study: Study) -> list[Audit]:
    """Too few blocks to tell anything from chance."""
    if study.seeds.search >= LEAST_BLOCKS or study.method == "locate":
        return []
    what = f"every arm is to run on {words.count(study.seeds.search, 'seed')}"
    remedy = f"set [seeds] search = {LEAST_BLOCKS} or more"
    design = study.design
    pooled = (
        0 if design is None or design.mode not in ("full", "fraction") else len(design.arms) - len(design.changes) - 1
    )
    if pooled >= LEAST_POOLED:
        message = f"{what}: no arm is told from another, and main effects only with the interactions as noise"
        return [warn("seeds", message, remedy)]
    message = f"{what}, and with fewer than {LEAST_BLOCKS} no difference can be told from chance"
    return [block("seeds", message, remedy)]


def edge(study: Study) -> list[Audit]:
    """A range of rates with gaps in which the best could hide."""
    found = []
    for setting in study.varied if study.method != "locate" else ():  # which goes where the gaps matter
        values = sorted({arm.settings[setting] for arm in study.arms if is_usable_number(arm.settings.get(setting))})
        if not words.is_rate(setting) or len(values) < LEAST_AXIS_VALUES or values[0] <= 0:
            continue
        gap, low, high = max((high / low, low, high) for low, high in itertools.pairwise(values))
        if gap > WIDEST_GAP * (1 + 1e-3):
            points = math.ceil(math.log(values[-1] / values[0]) / math.log(math.sqrt(2))) + 1
            ends = f"{words.setting_value(low)} and {words.setting_value(high)}"
            message = f"{setting}: a factor of {gap:.3g} between {ends}, wide enough to step over the best rate"
            remedy = f"leave no gap above a factor of 2, near the best 1.4 ({points} points for the whole range)"
            found.append(warn("edge", message, remedy))
    return found


def budget(study: Study) -> list[Audit]:
    """What differs between arms although the study does not vary it."""
    if study.joined == "across" or any(axis.setting in LENGTHS for axis in study.axes) or not study.arms:
        return []  # conditions are not compared; length is the question; nothing is proposed yet
    tokens = _spread(study.arms, lambda recipe: recipe.num_updates * recipe.update_tokens, "tokens")
    if tokens:
        equal = study.base.num_updates * study.base.update_tokens
        remedy = f'state what is equal: [set] "train.tokens" = {equal} for every arm'
        return [block("budget", f"{_because(study, 'train.')}arms train on {tokens}", remedy)]
    found = []
    updates = _spread(study.arms, lambda recipe: recipe.num_updates, "updates")
    if updates and not any(name in LENGTHS for name in study.varied):  # else somebody has stated what is equal
        message = f"{_because(study, 'train.')}arms make {updates} of the same text; both differ at once"
        found.append(warn("budget", message, "compare the arms each at its own best learning rate"))
    flops = _spread(study.arms, lambda recipe: cost(recipe).num_flops, "FLOP")
    if flops:
        message = f"{_because(study, 'model.')}arms compute {flops}; a lower loss may be more compute"
        found.append(
            warn("budget", message, "read the loss beside the FLOPs, or give each arm the tokens that equal them")
        )
    return found + ([] if updates else _rates(study))


def _rates(study: Study) -> list[Audit]:
    """The multipliers of the peak rate, whose sum is how far a run can go."""
    asks_about_schedule = any(name.startswith("schedule.") for name in study.varied)
    summed = _spread(study.arms, _sum_of_heights, "times the peak")
    lasts = [(arm.recipe.schedule, arm.recipe.num_updates) for arm in study.arms]
    ends = [multiplier(schedule, num - 1, num) for schedule, num in lasts]
    if not asks_about_schedule:
        if not summed and max(ends) - min(ends) <= EQUAL:
            return []
        message = f"arms end between {min(ends):.3g} and {max(ends):.3g} of the peak rate, though no schedule varies"
        return [block("budget", message, "give every arm one schedule that fits its length")]
    tuned = {name for part in study.parts for name in part.varied}
    if not summed or any(words.is_rate(name) for name in (*study.varied, *tuned)):
        return []
    message = f"at one peak rate, the rates of all updates add up to {summed}; the best schedule may be the best sum"
    return [warn("budget", message, "vary the peak rate too, and compare each schedule at its own best")]


def _sum_of_heights(recipe: Recipe) -> float:
    seen = sketch(recipe.schedule, recipe.num_updates)
    return sum(seen) * (recipe.num_updates / len(seen))


def _spread(arms: Iterable[Arm], amount: Callable[[Recipe], float], unit: str) -> str:
    """e.g. "1.2 M to 2.4 M tokens (a factor of 2)" where the arms do not share an amount, else empty."""
    amounts = [(arm, amount(arm.recipe)) for arm in arms]
    found = unequal((_rest(arm), (one, one)) for arm, one in amounts)
    if not found:
        return ""
    return f"{words.quantity(found[0])} to {words.quantity(found[1], unit)} (a factor of {found[1] / found[0]:.3g})"


def _rest(arm: Arm) -> str:
    """What tells an arm from others beside its length."""
    return repr(sorted((name, value) for name, value in arm.settings.items() if name not in LENGTHS))


def _because(study: Study, prefix: str) -> str:
    names = [name for name in study.varied if name.startswith(prefix)]
    vary = "varies, and with it" if len(names) == 1 else "vary, and with them"
    return f"{words.listing(names)} {vary} " if names else ""


def dead_knob(study: Study) -> list[Audit]:
    """Arms that differ in their schedules on paper, and hardly in the rates that they use."""
    found = []
    alike: dict[tuple[str, int], list[Arm]] = {}
    for arm in study.arms[:MOST_COURSES]:
        if arm.recipe.num_updates <= LONGEST_COURSE:
            alike.setdefault((trunk_key(arm.recipe, ""), arm.recipe.num_updates), []).append(arm)
    pairs = [pair for some in alike.values() for pair in itertools.combinations(some, 2)]
    courses = {arm.name: course(arm.recipe) for pair in pairs for arm in pair}
    for one, other in pairs:
        mine, its, num_updates = courses[one.name], courses[other.name], one.recipe.num_updates
        same = common_updates(mine, its)
        names = words.listing([one.name, other.name])
        if mine == its:
            message = f"{names} use the same rate at every update: one run under several names"
            found.append(block("dead-knob", message, "keep one of them, or make their schedules differ"))
        elif num_updates - same <= HARDLY * num_updates:
            message = f"{names} are one and the same run for {same} of {num_updates} updates, so they can hardly differ"
            found.append(warn("dead-knob", message, "make their schedules differ earlier, or keep one of them"))
    return found


def schedule(study: Study) -> list[Audit]:
    """A rate of 0, a warmup of hardly any update, or a decay that the run does not live to see."""
    found = []
    for reason, remedy, broken in (
        ("the first update has rate 0, so it changes nothing", "leave out first_update_zero", _begins_at_zero),
        (
            f"a warmup of fewer than {LEAST_WARMUP_UPDATES} updates, which is a jump",
            "train longer, give schedule.warmup_updates = 5 or more, or no warmup (0)",
            _jumps,
        ),
        (
            "the rate does not come down to the floor that the schedule declares",
            "leave out schedule.horizon_updates, so that the schedule fits the run",
            _stays_up,
        ),
    ):
        names = [arm.name for arm in study.arms or _proposed(study) if broken(arm)]
        if names:
            who = "every arm" if len(names) == len(study.arms) else words.listing(names)
            found.append(block("schedule", f"{who}: {reason}", remedy))
    return found


def evaluation_set(study: Study) -> list[Audit]:
    """Settings that change what the loss is measured on."""
    changing = [name for name in study.varied if name in ("evaluate.tokens", "model.context_tokens")]
    if not changing:
        return []
    vary = "varies" if len(changing) == 1 else "vary"
    message = f"{words.listing(changing)} {vary}, so arms are measured on different windows of the text"
    return [block("eval-set", message, "keep it fixed, and compare the arms in a study for each value")]


def early_stop(study: Study) -> list[Audit]:
    """Arms that are looked at unequally often."""
    counts = {-(-arm.recipe.num_updates // arm.recipe.evaluate.every_updates) for arm in study.arms}
    if len(counts) <= 1 or "evaluate.every_updates" not in study.varied:
        return []
    message = f"arms are evaluated {min(counts)} to {max(counts)} times; the more looks, the better the best of them"
    return [warn("early-stop", message, "keep evaluate.every_updates fixed")]


def curse(study: Study) -> list[Audit]:
    """No fresh seeds for the arm that will be chosen."""
    if study.seeds.confirm:
        return []
    message = "no seeds confirm, so the best arm's number will be from the seeds that chose it, and flatter itself"
    return [warn("curse", message, "set [seeds] confirm = 5")]


DESIGN_AUDITS: dict[str, Callable[[Study], list[Audit]]] = {
    "seeds": seeds,
    "budget": budget,
    "schedule": schedule,
    "dead-knob": dead_knob,
    "eval-set": evaluation_set,
    "edge": edge,
    "early-stop": early_stop,
    "curse": curse,
}


def _begins_at_zero(arm: Arm) -> bool:
    return multiplier(arm.recipe.schedule, 0, arm.recipe.num_updates) == 0


def _jumps(arm: Arm) -> bool:
    """Whether a warmup was asked for and has fewer updates than make one."""
    kind = arm.recipe.schedule
    num = num_warmup(kind, horizon_updates(kind, arm.recipe.num_updates))
    return num < LEAST_WARMUP_UPDATES and bool(kind.warmup_fraction or kind.warmup_updates)


def _stays_up(arm: Arm) -> bool:
    floor = getattr(arm.recipe.schedule, "floor_fraction", None)
    if floor is None or arm.recipe.schedule.kind == "plateau" or arm.recipe.num_updates == 1:
        return False
    heights = sketch(arm.recipe.schedule, arm.recipe.num_updates)
    return heights[-1] > (floor + REACHED) * max(heights)


def _proposed(study: Study) -> tuple[Arm, ...]:
    """What proposals start from, while there are none: what the study does not vary is the same in all of them."""
    if any(name.startswith(("schedule.", "train.")) for name in study.varied):
        return ()
    return (Arm("every proposal", {}, study.base),)


# --- Raw results of others: rates as they were really used ---

SHORTEST_DECAY = 0.1
"""Of a run, in which a rate comes down from its peak: what comes after the last rate listed may have been that."""
_RATES = re.compile(r"(^|_)(lr|learning_rate)s?(_history|_schedule|_curve|s)$|^learning_rates$", re.IGNORECASE)
_RATE = re.compile(r"(^|_)(lr|learning_rate|rate)$", re.IGNORECASE)
_STEPS = re.compile(r"^(global_|train_|training_|optimizer_)?(step|update|iteration|iter)s?$", re.IGNORECASE)
_LENGTH = re.compile(
    r"^(num|max|total|train|training|optimizer)_?(train_|training_)?(step|update|iteration|iter)s$|^updates$|^steps$",
    re.IGNORECASE,
)
_LOOKS = re.compile(r"^(eval_metrics|evaluations|val_losses|eval_losses|evals)$", re.IGNORECASE)
_FLOOR = re.compile(r"(min|floor|final|end)_?(lr|learning_rate)?_?(ratio|fraction)$", re.IGNORECASE)
_WARMUP = re.compile(r"warmup", re.IGNORECASE)


@dataclass(frozen=True)
class History:
    """One run of a raw result file."""

    name: str
    settings: Mapping[str, Any]
    """Plain values by dotted name, numbers of results included."""
    rates: tuple[float, ...]
    updates: tuple[int, ...] | None
    """Of each rate, the update it was used in, counted from 1; None where a list of rates alone does not say."""
    num_updates: int | None
    """Of the run; None where it does not say."""
    num_looks: int | None
    """Evaluations listed; None where none are."""

    @property
    def is_whole(self) -> bool:
        """Whether every update's rate is listed, from the first."""
        return self.updates is not None and self.updates == tuple(range(1, len(self.rates) + 1))

    @property
    def unseen(self) -> float:
        """How much of the run may come after the last rate that is listed, as a share of the run, at most."""
        if self.updates is None:
            return 1 / len(self.rates)
        last = self.updates[-1]
        whole = max(
            self.num_updates or last - 1 + max(after - before for before, after in itertools.pairwise(self.updates)),
            last,
        )
        return (whole - last) / whole


def histories(document: Any) -> list[History]:
    """The runs of a JSON document: a list of objects, {"runs": [...]}, or {name: {...}}."""
    if isinstance(document, Mapping):
        listed = next((value for value in document.values() if isinstance(value, list) and _are_runs(value)), None)
        if listed is None and all(isinstance(value, Mapping) for value in document.values()):
            return [_history(str(name), run) for name, run in document.items()]
        document = listed or []
    if not isinstance(document, list) or not _are_runs(document):
        return []
    return [_history(_name(run, number), run) for number, run in enumerate(document, 1)]


def audit_histories(runs: Sequence[History], place: str) -> list[Audit]:
    """`place`: the file they are from."""
    return [*_floors(runs, place), *_warmups(runs, place), *_one_schedule(runs, place), *_unequal_looks(runs, place)]


def _floors(runs: Sequence[History], place: str) -> list[Audit]:
    """Schedules that do not come down, and first updates without a rate."""
    up = []
    for run in runs:
        floor = next((v for name, v in run.settings.items() if _FLOOR.search(name) and is_number(v)), None)
        if floor is None or len(run.rates) < 2:
            continue
        if run.rates[-1] > (floor + REACHED + run.unseen / SHORTEST_DECAY) * max(run.rates):
            up.append((run.name, run.rates[-1] / max(run.rates), floor))
    found = []
    if up:
        _, end, floor = up[0]
        message = (
            f"{place}: {words.listing([name for name, _, _ in up])} do not come down: {end:.3f} of the peak at the end"
        )
        remedy = "count the schedule and its clock in one unit, updates"
        found.append(block("schedule", f"{message}, floor {floor:g} declared ({up[0][0]})", remedy))
    zero = [run.name for run in runs if run.updates and run.updates[:2] == (1, 2) and run.rates[0] == 0]
    if zero:
        message = f"{place}: {words.listing(zero)} begin at rate 0, so the first update changes nothing"
        found.append(block("schedule", message, "begin the warmup at 1 / its length"))
    return found


def _warmups(runs: Sequence[History], place: str) -> list[Audit]:
    short = []
    for run in runs:
        asked = next((v for name, v in run.settings.items() if _WARMUP.search(name) and is_number(v)), None)
        if asked and run.updates and len(run.rates) > 1:
            updates = run.updates[run.rates.index(max(run.rates))]  # or before, where not every update is listed
            if updates < LEAST_WARMUP_UPDATES:
                short.append((updates, run.name, run.updates[-1]))
    if not short:
        return []
    updates, name, of = min(short)
    message = (
        f"{place}: {words.listing([each for _, each, _ in short])} warm up for fewer than {LEAST_WARMUP_UPDATES} "
        f"updates ({name}: at the peak in update {updates} of {of}), which is a jump, no warmup"
    )
    return [block("schedule", message, "compare warmups in runs long enough for them to differ")]


def _one_schedule(runs: Sequence[History], place: str) -> list[Audit]:
    """Schedules that are declared to differ and were one. Between rates that are listed now and then a warmup hides."""
    seen: dict[tuple[Any, ...], History] = {}
    for run in runs:
        twin = seen.setdefault((run.updates, run.rates), run) if len(run.rates) > 1 else run
        declared = [_declared(one) for one in (run, twin)]
        if twin is not run and declared[0] != declared[1]:
            message = f"{place}: {twin.name} and {run.name} declare different schedules and used the same rates"
            return [block("dead-knob", message, "make the trainer read the schedule; these are repeats of one run")]
    return []


def _declared(run: History) -> dict[str, Any]:
    what = r"schedule|warmup|decay|min_lr|floor" if run.is_whole else r"schedule(?!.*warmup)|decay|min_lr|floor"
    return {n: v for n, v in run.settings.items() if re.search(what, n, re.IGNORECASE)}


def _unequal_looks(runs: Sequence[History], place: str) -> list[Audit]:
    looks = sorted({run.num_looks for run in runs if run.num_looks is not None})
    if len(looks) < 2:
        return []
    message = (
        f"{place}: runs were evaluated {looks[0]} to {looks[-1]} times; the more looks, the better the best of them"
    )
    return [warn("early-stop", message, "compare final losses, or evaluate all runs equally often")]


def _history(name: str, run: Mapping[str, Any]) -> History:
    lists = {key: value for key, value in _leaves(run) if isinstance(value, list)}
    settings = {key: value for key, value in _leaves(run) if not isinstance(value, list)}
    where = next((key for key in lists if _RATES.search(_last(key))), None)
    looks = next((value for key, value in lists.items() if _LOOKS.search(_last(key))), None)
    listed = [] if where is None else [one for one in map(_step_and_rate, lists[where]) if one is not None]
    rates = tuple(rate for _, rate in listed)
    num_updates = next(
        (int(v) for n, v in settings.items() if is_number(v) and v >= 1 and _LENGTH.search(_last(n))), None
    )
    steps = [step for step, _ in listed]
    if where is not None and steps.count(None) == len(steps):
        beside = {
            n: v for n, v in lists.items() if n.rpartition(".")[0] == where.rpartition(".")[0] and len(v) == len(rates)
        }
        steps = next((v for n, v in beside.items() if _STEPS.search(_last(n))), steps)
    return History(
        name=name,
        settings=settings,
        rates=rates,
        updates=_updates(steps) or (tuple(range(1, len(rates) + 1)) if num_updates == len(rates) > 0 else None),
        num_updates=num_updates,
        num_looks=None if looks is None else len(looks),
    )


def _step_and_rate(one: Any) -> tuple[Any, float] | None:
    """Of a rate alone, of (step, ..., rate), or of {"step": ..., "lr": ...}; None where there is no rate."""
    step, rate = None, one
    if isinstance(one, list) and one:
        step, rate = one[0] if len(one) > 1 else None, one[-1]
    elif isinstance(one, Mapping):
        step = next((value for key, value in one.items() if _STEPS.search(key)), None)
        rate = next((value for key, value in one.items() if _RATE.search(key)), None)
    return (step, float(rate)) if is_number(rate) else None


def _updates(steps: Sequence[Any]) -> tuple[int, ...] | None:
    """Steps as updates counted from 1; those that begin with 0 count what was done before. None where they are none."""
    if not steps or not all(is_number(step) and step >= 0 and float(step).is_integer() for step in steps):
        return None
    if any(after <= before for before, after in itertools.pairwise(steps)):
        return None
    return tuple(int(step) + (steps[0] == 0) for step in steps)


def _leaves(run: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in run.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(run: Mapping[str, Any], number: int) -> str:
    return next((str(run[key]) for key in ("name", "experiment_name", "arm", "run") if key in run), f"run {number}")


def _are_runs(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Mapping) for value in values)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
