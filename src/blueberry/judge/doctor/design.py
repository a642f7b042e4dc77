"""Audits of a study before it runs: what its design could not answer, however its runs end. Pure.

An audit is a function of a study that returns its findings; to add one, write it and enter it in DESIGN_AUDITS.
"""

import itertools
import math
from collections.abc import Callable, Iterable

from blueberry.judge import words
from blueberry.judge.doctor.budget import budget
from blueberry.judge.doctor.findings import block, blocking_first, warn
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import LEAST_BLOCKS
from blueberry.schedules import horizon_updates, multiplier, num_warmup, sketch
from blueberry.study.arms import is_number
from blueberry.study.spec import Arm, Study

LEAST_AXIS_VALUES = 3
"""Fewer values of a setting are a comparison, not a range with ends and gaps."""
WIDEST_GAP = 2.0
"""Between neighbouring rates. The valley of a learning rate is about a factor of 3 wide."""
LEAST_WARMUP_UPDATES = 5
REACHED = 0.01
"""Of the peak: how near its floor a schedule must end."""


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
    if study.seeds.search >= LEAST_BLOCKS:
        return []
    what = f"every arm is to run on {words.count(study.seeds.search, 'seed')}"
    message = f"{what}, and with fewer than {LEAST_BLOCKS} no difference can be told from chance"
    return [block("seeds", message, f"set [seeds] search = {LEAST_BLOCKS} or more")]


def edge(study: Study) -> list[Audit]:
    """A range of rates with gaps in which the best could hide."""
    found = []
    for setting in study.varied:
        values = sorted({arm.settings[setting] for arm in study.arms if is_number(arm.settings.get(setting))})
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


def schedule(study: Study) -> list[Audit]:
    """A rate of 0, a warmup of hardly any update, or a decay that the run does not live to see."""
    found = []
    for reason, remedy, broken in (
        ("begins at rate 0, so its first update changes nothing", "leave out first_update_zero", _begins_at_zero),
        (
            f"warms up for fewer than {LEAST_WARMUP_UPDATES} updates, which is a jump, not a warmup",
            "train longer, give schedule.warmup_updates = 5 or more, or no warmup (0)",
            _jumps,
        ),
        (
            "does not come down to the floor that its schedule declares",
            "leave out schedule.horizon_updates, so that the schedule fits the run",
            _stays_up,
        ),
    ):
        names = [arm.name for arm in study.arms or _proposed(study) if broken(arm)]
        if names:
            message = f"{_whose(names, study)} {reason}"
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
