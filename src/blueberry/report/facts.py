"""Labels with what stands beside them; and those of the noise and of the confirmation."""

from collections.abc import Sequence
from dataclasses import dataclass

from blueberry.judge.judgement import Best, Judgement
from blueberry.records import RunResult, StudyRun
from blueberry.report.learning_curves import by_seed
from blueberry.report.wording import MISSING, decimals, interval, metric_unit, number, plural
from blueberry.stats.decide import POWER, smallest_difference


@dataclass(frozen=True)
class Fact:
    """A label, what stands beside it, and a remark or ""."""

    label: str
    value: str
    remark: str = ""


def noise_facts(judgement: Judgement) -> tuple[Fact, ...]:
    """Of conditions one each: they are judged by their own noise."""
    if judgement.conditions:
        return tuple(_noise_there(part.name, part.judgement) for part in judgement.parts)
    noise, unit, places = judgement.noise, _unit(judgement), decimals(judgement) + 1
    facts = [
        Fact("One run around its arm's mean (sd)", MISSING if noise.sd is None else number(noise.sd, places) + unit),
        Fact(
            "Two arms on one seed go together (rho)",
            MISSING if noise.rho is None else f"{noise.rho:.2f}",
            "1: seeds move all arms alike; 0: not at all",
        ),
        Fact("Measured on", "no arm on two seeds" if noise.sd is None else plural(noise.n, "run")),
    ]
    if noise.paired_sd is not None:
        facts.insert(2, Fact("Difference of two arms on one seed (sd)", number(noise.paired_sd, places) + unit))
    seeds, least = _smallest(judgement)
    remark = "needs at least two seeds"
    if least is not None:
        than = "larger" if least > judgement.min_effect else "no larger"
        remark = (
            f"between two arms, found with probability {POWER:g}; "
            f"{than} than the {judgement.min_effect:g}{unit} said to matter"
        )
    value = MISSING if least is None else number(least, places - 1) + unit
    return (*facts, Fact(f"Smallest difference that {plural(seeds, 'seed')} can show", value, remark))


def _noise_there(name: str, judgement: Judgement) -> Fact:
    noise, unit, places = judgement.noise, _unit(judgement), decimals(judgement) + 1
    label = f"{name}: one run around its arm's mean (sd)"
    if noise.sd is None:
        return Fact(label, MISSING, "no arm on two seeds")
    said = [f"from {plural(noise.n, 'run')}"]
    if noise.paired_sd is not None:
        said.append(f"difference of two arms on one seed {number(noise.paired_sd, places)}")
    seeds, least = _smallest(judgement)
    if least is not None:
        said.append(f"the smallest that {plural(seeds, 'seed')} can show is {number(least, places - 1)}")
    return Fact(label, number(noise.sd, places) + unit, "; ".join(said))


def _unit(judgement: Judgement) -> str:
    unit = metric_unit(judgement.metric)
    return f" {unit}" if unit else ""


def _smallest(judgement: Judgement) -> tuple[int, float | None]:
    """Seeds of the arm that has most, and the difference of two arms that so many can show."""
    seeds, sd = max((arm.n for arm in judgement.arms), default=0), judgement.noise.paired_sd
    return seeds, None if sd is None else smallest_difference(seeds, sd, alpha=judgement.alpha)


def is_confirmed(judgement: Judgement) -> bool:
    """Whether the best arm has fresh seeds; of conditions, whether the best of each has."""
    bests = [part.judgement.best for part in judgement.parts] if judgement.conditions else [judgement.best]
    return all(best is not None and best.confirmed for best in bests)


def confirmation_facts(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Fact, ...]:
    """The best arm on the seeds that chose it, on fresh ones and on the test set; of conditions each one's own best."""
    best, places = judgement.best, decimals(judgement)
    if judgement.conditions:
        bests = [(part.name, part.judgement.best) for part in judgement.parts]
        return tuple(_confirmed_there(name, best, places) for name, best in bests if best is not None)
    if best is None:
        return ()
    facts = [
        Fact(
            f"{best.arm} on the seeds that chose it",
            number(best.search_mean, places),
            "flattering: it was chosen for being low",
        )
    ]
    if best.confirmed:
        fresh = f"{number(best.mean, places)} {interval(best.interval, places)}"
        facts += [Fact("On fresh seeds", fresh, plural(best.n, "run")), *_each(judgement, best, runs)]
    else:
        facts.append(Fact("On fresh seeds", "not measured", "the number above is unconfirmed"))
    if best.test_mean is not None:
        remark = "of the same runs; the test set selected nothing"
        facts.append(Fact("On the test set", number(best.test_mean, places), remark))
    return tuple(facts)


def _each(judgement: Judgement, best: Best, runs: Sequence[StudyRun]) -> list[Fact]:
    fresh = [run for run in runs if run.stage == "confirm" and run.arm == best.arm]
    said = [_ended(run.result, judgement) for run in sorted(fresh, key=by_seed)]
    return [Fact("Each of them", ", ".join(said))] if said else []


def _ended(result: RunResult, judgement: Judgement) -> str:
    """The number of a run, or how it ended without one."""
    if result.status != "completed":
        return "diverged" if result.status == "diverged" else "crashed"
    value = result.metric(judgement.metric)
    return "not measured" if value is None else number(value, decimals(judgement))


def _confirmed_there(name: str, best: Best, places: int) -> Fact:
    label, chose = (
        f"{name}: {best.arm} on fresh seeds",
        f"{number(best.search_mean, places)} on the seeds that chose it",
    )
    value = f"{number(best.mean, places)} {interval(best.interval, places)}" if best.confirmed else "not measured"
    said = [plural(best.n, "run"), chose] if best.confirmed else [chose]
    if best.test_mean is not None:
        said.append(f"on the test set, the same runs: {number(best.test_mean, places)}")
    return Fact(label, value, "; ".join(said))
