"""Audits of a study: what its design could not answer, however its runs end; and whether its runs were what was
declared, and held-out text was kept apart.

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from blueberry.architecture import cost
from blueberry.judge import words
from blueberry.judge.audits import BELOW_TRAINING
from blueberry.judge.audits.comparisons import EQUAL, LEAST_AXIS_VALUES, unequal
from blueberry.judge.judgement import LEAST_BLOCKS, Audit, block, blocking_first, warn
from blueberry.recipe import LENGTHS, Recipe, common_updates, course, trunk_key
from blueberry.records import RunResult, StudyRun, is_usable_number
from blueberry.schedules import horizon_updates, multiplier, multipliers, num_warmup, sketch
from blueberry.settings import peak_rates
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
        return [block("budget", f"{_because(study, 'train.')}arms train on {tokens}", _same_tokens(study))]
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


def _same_tokens(study: Study) -> str:
    recipe = study.base
    return f'state what is equal: [set] "train.tokens" = {recipe.num_updates * recipe.update_tokens} for every arm'


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
            message = f"{_whose(names, study)}: {reason}"
            found.append(block("schedule", message, remedy))
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


def _whose(names: Iterable[str], study: Study) -> str:
    names = list(names)
    return "every arm" if len(names) == len(study.arms) else words.listing(names)


# --- Runs, held against their study ---

RATE_TOLERANCE = 1e-6
"""Relative: a rate that passed through 32 bits is still the declared one."""
SEVERAL_PASSES = 3.0
WINDOW_TOKENS = 256
"""Of the held-out windows that are looked for in training. Clean text shares much: of held-out runs of 13 tokens 3 to
33% occur in training too (licences, imports, idioms), so a limit of 1% on those accuses everybody. Whole windows of 256
tokens are shared by nature in 0 to 0.8% of cases, and a leak of a share of the documents shares that share of windows
(docs/doctor.md has the measurement)."""
MOST_SHARED_WINDOWS = 0.02


@dataclass(frozen=True)
class Text:
    """What is known of the text that a recipe trains on; None where it is not."""

    entropy_bits_per_byte: float | None = None
    train_tokens: int | None = None
    """Unique training tokens."""
    shared_windows: Callable[[], float] | None = None
    """The share of held-out windows of WINDOW_TOKENS that stand in the training text word for word; slow when first
    asked for."""


Texts = Callable[[Recipe], Text]


def no_texts(recipe: Recipe) -> Text:
    """Nothing is known: the audits that need it stay silent."""
    return Text()


@dataclass(frozen=True, slots=True)
class Done:
    """Of a run, what all runs together are judged by: its numbers and what its curves say of how it was made."""

    part: str
    arm: str
    num_tokens: int | None
    num_flops: float | None
    train_seconds: float | None
    """None where it ended and nobody said."""
    shared: float
    """Of the updates, those taken over from another run, as a share."""
    shared_seconds: float
    train_loss: float | None
    val_loss: float | None
    bits_per_byte: float | None
    wrong_rate: str | None
    """The first rate that was not the planned one, in words."""
    skipped_updates: int
    """Of a completed run, those that it has not made."""

    @classmethod
    def of(cls, run: StudyRun, recipe: Recipe | None) -> "Done":
        """`recipe`: what it was to be, where that is known."""
        result = run.result
        shared = result.shared_updates / result.num_updates if result.shared_updates and result.num_updates else 0.0
        return cls(
            run.part,
            run.arm,
            result.num_tokens,
            result.num_flops,
            0.0 if result.train_seconds is None and result.status == "failed" else result.train_seconds,
            shared,
            result.shared_seconds,
            _late_loss(result),
            result.metric("val_loss"),
            None if result.final is None else result.final.bits_per_byte,
            *((None, 0) if recipe is None else departure(recipe, result)),
        )


def departure(recipe: Recipe, result: RunResult) -> tuple[str | None, int]:
    """Where a run left its recipe: the first rate that was not the planned one, in words, and the updates that a
    completed run has not made. A result without a count of updates is of a trainer that does not say."""
    used, planned = result.curve.learning_rate, planned_rates(recipe, result)
    pairs = enumerate(zip(used, planned, strict=False))
    place = next((at for at, (was, right) in pairs if abs(was - right) > RATE_TOLERANCE * abs(right)), None)
    rate = None if place is None else f"{used[place]:.4g} for {planned[place]:.4g} at update {place + 1}"
    if result.status != "completed":
        return rate, 0
    missing = max(recipe.num_updates - result.num_updates, 0) if result.num_updates else 0
    return rate, missing + sum(loss is None for loss in result.curve.train_loss)


def _late_loss(result: RunResult) -> float | None:
    """The training loss over the last tenth of a curve: that of one update is as noisy as its batch is small."""
    late = result.curve.train_loss[-max(1, len(result.curve.train_loss) // 10) :]
    finite = [loss for loss in late if loss is not None]
    return fmean(finite) if finite else result.metric("train_loss")


def planned_rates(recipe: Recipe, result: RunResult) -> list[float]:
    """The matrices' rate at each update, with the cuts that the evaluations make an adaptive schedule decide."""
    seen = [(one.update, one.validation.loss) for one in result.evaluations]
    peak = peak_rates(recipe.optimizer)["matrices"]
    return [peak * height for height in multipliers(recipe.schedule, recipe.num_updates, seen)]


def departures(done: Sequence[Done]) -> list[Audit]:
    """Rates that were not planned, and updates that were not made: a completed run must have made all of its."""
    found = []
    rates = {one.arm: one.wrong_rate for one in reversed(done) if one.wrong_rate is not None}
    if rates:
        names = list(reversed(rates))
        message = (
            f"{words.listing(names)}: the rate really used is not the declared one ({names[0]}: {rates[names[0]]})"
        )
        remedy = "make the trainer use the recipe's rate at every update, and run again"
        found.append(block("schedule", message, remedy))
    skipped = [one for one in done if one.skipped_updates]
    if skipped:
        names = list(dict.fromkeys(one.arm for one in skipped))
        most = words.count(max(one.skipped_updates for one in skipped), "update")
        message = f"{words.listing(names)} skipped up to {most} and count as success; a step not made is no training"
        remedy = "count the runs as diverged, or lower the rate until none is skipped"
        found.append(block("diverged", message, remedy))
    return found


def known_too_well(done: Sequence[Done], passes: float) -> list[Audit]:
    """Of runs that saw their text `passes` times: held-out text that they know better."""
    suspects = [
        one.arm
        for one in done
        if one.train_loss is not None
        and one.val_loss is not None
        and one.val_loss < (1 - BELOW_TRAINING) * one.train_loss
    ]
    if passes < SEVERAL_PASSES or not suspects:
        return []
    message = (
        f"{words.listing(list(dict.fromkeys(suspects)))}: validation loss below training loss after "
        f"{passes:.1f} passes; text seen so often should be known better than text never seen"
    )
    return [block("leak", message, "split documents, not windows, and look for validation text in training")]


def shared_text(recipes: Iterable[Recipe], texts: Texts) -> list[Audit]:
    """Held-out text that was trained on, word for word, in any of the texts of a study's recipes."""
    longest: dict[str, Recipe] = {}
    for recipe in recipes:  # of beginnings of one text the longest holds the others
        whole = recipe.data.model_copy(update={"max_train_tokens": None}).model_dump_json()
        before = longest.setdefault(whole, recipe)
        if (recipe.data.max_train_tokens or math.inf) > (before.data.max_train_tokens or math.inf):
            longest[whole] = recipe
    found = []
    for shared in (texts(recipe).shared_windows for recipe in longest.values()):
        if shared is not None and (share := shared()) > MOST_SHARED_WINDOWS:
            windows = f"validation windows of {WINDOW_TOKENS} tokens"
            message = f"{share:.1%} of the {windows} are in the training text word for word"
            remedy = "split documents, not windows, and leave out documents that stand twice"
            found.append(block("leak", message, remedy))
    return found
