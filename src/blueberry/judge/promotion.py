"""What a line of baselines takes up: a study's winner, accepted with evidence or refused with reasons; and the line's
total, its newest baseline measured against the recipe that it started from. Pure.

The total is one paired measurement on seeds that no study of the line may have used, never the sum of what its stages
claimed: each claim comes from the runs that chose the stage, so the sum flatters itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blueberry.errors import LedgerError
from blueberry.judge import ledger, words
from blueberry.judge.effects import helping
from blueberry.judge.judgement import BASELINE, Judgement, Verdict
from blueberry.judge.ledger import Claim, Entry, Stage, Support, Total
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study.arms import Run
from blueberry.study.plan import Plan, as_planned
from blueberry.study.spec import Arm, Seeds, Study

NEWEST = "newest"
DEFAULT_SEEDS = 5


@dataclass(frozen=True)
class Promotion:
    entry: Entry
    is_new: bool
    """False: this winner of this study is the baseline already."""


@dataclass(frozen=True)
class Refusal:
    reasons: tuple[str, ...]
    """One line each."""


def decide(
    judgement: Judgement,
    study: Study,
    plan: Plan,
    results: Mapping[str, RunResult],
    *,
    line: str,
    entries: Sequence[Entry],
    date: str,
) -> Promotion | Refusal:
    """Whether a study's best arm becomes the baseline of a line, given the line's entries, oldest first.

    It needs a recommendation that no audit blocks, a number from fresh seeds on held-out text, and a winner's
    verdict over the baseline to beat: the line's newest, or where the line begins here the arm "baseline".
    """
    best, now = judgement.best, ledger.current(entries)
    if best is None:
        return Refusal(tuple(_objections(judgement)))
    study = as_planned(study, plan)
    recipes = {arm.name: arm.recipe for arm in study.arms}
    winner = _as_run(plan, best.arm, study)
    if winner is None:
        return Refusal((*_objections(judgement), f"{best.arm} has not run on fresh seeds; run the study"))
    runs = _fingerprints(plan, best.arm, results)
    now_recipe = None if now is None else ledger.recipe_of(now)
    if now is not None and now_recipe is not None and now.support and ledger.same_numbers(winner, now_recipe):
        if set(now.support.runs) == set(runs):
            return Promotion(now, is_new=False)
        return Refusal((f"{best.arm} is the baseline of {line} already: entry {now.number}",))
    reasons = _objections(judgement)
    held_up_to = now_recipe or recipes.get(BASELINE, study.base)
    beaten = next((name for name, recipe in recipes.items() if ledger.same_numbers(recipe, held_up_to)), None)
    verdict = None if beaten is None else judgement.verdict(beaten, best.arm)
    if now is not None or BASELINE in recipes:
        reasons += _unbeaten(judgement, best.arm, beaten, verdict, study, now)
    if reasons:
        return Refusal(tuple(reasons))
    replaced = now_recipe or study.base
    entry = Entry(
        line=line,
        kind="promotion",
        date=date,
        parent=None if now is None else now.number,
        recipe=winner.model_dump(mode="json"),
        replaced=replaced.model_dump(mode="json"),
        changes=ledger.changes(replaced, winner),
        support=Support(
            study=study.name,
            question=judgement.question,
            metric=judgement.metric,
            min_effect=judgement.min_effect,
            alpha=judgement.alpha,
            arm=best.arm,
            beaten=None if beaten == best.arm else beaten,
            claim=None if verdict is None else ledger.claim(verdict),
            mean=best.mean,
            interval=best.interval,
            n=best.n,
            test_mean=best.test_mean,
            unresolved=tuple(name for name in judgement.unresolved if name != best.arm),
            runs=runs,
            beaten_runs=() if beaten in (None, best.arm) else _fingerprints(plan, beaten, results),
            seeds=ledger.reserved_seeds(study),
            builds=ledger.builds(plan, results),
        ),
    )
    return Promotion(entry, is_new=True)


def _objections(judgement: Judgement) -> list[str]:
    """Why the judgement itself does not support a promotion."""
    best, found = judgement.best, _blocks(judgement)
    if judgement.is_across:
        found.append(
            "[across] compares no conditions with one another, so it has a best for each and none of all; "
            "promote from a study of one condition"
        )
    elif judgement.recommendation.withheld is not None and not found:
        found.append(f"nothing is recommended: {judgement.recommendation.withheld}")
    elif helping(judgement) is not None and best and judgement.recommendation.settings != best.settings:
        found.append(f"{best.arm} is not what its study recommends: {judgement.recommendation.text}")
    if not judgement.metric.startswith("val_"):
        found.append(f"the study is judged by {judgement.metric}; a baseline needs a number on held-out text")
    if best is not None and not best.confirmed:
        found.append(
            f"the best arm, {best.arm}, was not run on fresh seeds, so its number flatters itself; "
            "run the study with [seeds] confirm = 5"
        )
    return found


def _blocks(judgement: Judgement) -> list[str]:
    return [f"{audit.audit}: {audit.message}; {audit.remedy}" for audit in judgement.blocks]


def _unbeaten(
    judgement: Judgement, best: str, beaten: str | None, verdict: Verdict | None, study: Study, now: Entry | None
) -> list[str]:
    """Why the best arm is not shown to beat the baseline."""
    if beaten is None:
        assert now is not None
        moved = f"it began from entry {study.entry}; " if study.entry not in (None, now.number) else ""
        return [
            f"no arm is the baseline that it would replace, entry {now.number}, so nothing shows that {best} beats it; "
            f'{moved}run a new study with base = "ledger:{now.line}"'
        ]
    if beaten == best:
        return [f"the best arm, {best}, is the baseline itself: nothing was shown to beat it"]
    baseline = "the baseline" if beaten == BASELINE else f"the baseline, {beaten}"
    if verdict is None or verdict.difference is None:
        return [f"{best} was not compared with {baseline}"]
    if verdict.winner == best:
        return []
    said, number = ledger.claim(verdict), ""
    if said.difference is not None:
        number = words.difference(said.difference, said.interval, judgement.metric, judgement.min_effect)
    more = f"; about {words.count(verdict.more_seeds, 'more seed')} would settle it" if verdict.more_seeds else ""
    pairs = f"{number}, {verdict.pairing}".lstrip(", ")
    return [f"{best} is not shown to beat {baseline}: {pairs}: {verdict.verdict}{more}"]


def _fingerprints(plan: Plan, arm: str | None, results: Mapping[str, RunResult]) -> tuple[str, ...]:
    return tuple(run.fingerprint for run in _runs(plan, arm) if run.fingerprint in results)


def _runs(plan: Plan, arm: str | None) -> list[Run]:
    """The runs of an arm; of a study made of parts, those that compare and confirm a part's own best."""
    if plan.parts:
        return [run for run in plan.runs if run.part == arm and run.stage != "search"]
    return [run for run in plan.runs if run.arm == arm]


def _as_run(plan: Plan, arm: str, study: Study) -> Recipe | None:
    """The recipe that an arm was measured with, on the study's first seed: with [tune] the arm alone says no rate."""
    run = next(iter(_runs(plan, arm)), None)
    if run is None:
        return None
    return run.recipe.with_({"seed": study.base.seed, "train.keep_weights": study.base.train.keep_weights})


# --- The total of a line ---


def campaign(
    line: str,
    entries: Sequence[Entry],
    *,
    other_seeds: Iterable[tuple[int, int]] = (),
    num_seeds: int = DEFAULT_SEEDS,
    every_stage: bool = False,
) -> Study:
    """The study that measures a line's total: the original as "baseline", the newest, and maybe each stage between.

    `other_seeds` are first and last seeds of studies based on the line that are not in its entries. The seeds begin
    after all of these; so until the total is in the ledger, asking again gives the same study.
    Raises: LedgerError if there are not two recipes to compare, or they are not measured on the same text.
    """
    now, kept = ledger.current(entries), ledger.stages(entries)
    if now is None or not kept:
        why = "has no baseline" if now is None else "is back at the recipe it started from"
        raise LedgerError(f"ledger {line!r}: {why}; a total needs a promotion in effect; see blueberry ledger")
    start, newest = ledger.original(entries), ledger.recipe_of(now)
    if start.data != newest.data or start.evaluate.tokens != newest.evaluate.tokens:
        raise LedgerError(
            f"ledger {line!r}: the newest baseline and the original have other text; "
            "losses on different text cannot be compared; begin a new line for the new text"
        )
    if ledger.same_numbers(start, newest):
        raise LedgerError(f"ledger {line!r}: the newest baseline is the original; there is no total to measure")
    support = kept[-1].support
    assert support is not None
    seed = _fresh_seed(entries, other_seeds)
    if seed + num_seeds > 2**31:
        raise LedgerError(f"ledger {line!r}: seeds from {seed} would pass 2**31 - 1; begin a new line")
    recipes = {BASELINE: start, NEWEST: newest}
    for stage in kept[:-1] if every_stage else ():
        if not any(
            ledger.same_numbers(ledger.recipe_of(stage), known) for known in recipes.values()
        ):  # else it is measured anyway
            recipes[stage_arm(stage)] = ledger.recipe_of(stage)
    arms = tuple(
        Arm(
            name,
            {change.setting: change.new for change in ledger.changes(start, recipe) if change.new is not None},
            recipe.with_(seed=seed),
        )
        for name, recipe in recipes.items()
    )
    what = f"entry {now.number}, the newest baseline of {line},"
    return Study(
        path=Path(f"remeasure-{line}"),
        name=f"remeasure-{line}",
        question=f"Is {what} better than the recipe the line started from, measured together?",
        base=arms[0].recipe,
        fixed={},
        metric=support.metric,
        min_effect=support.min_effect,
        alpha=support.alpha,
        axes=(),
        arms=arms,
        seeds=Seeds(search=num_seeds, confirm=0, max=num_seeds),
        line=line,
    )


def already_measured(study: Study, entries: Sequence[Entry]) -> Entry | None:
    """The entry that answers a campaign already: the same stages on as many seeds, since the newest baseline."""
    now = ledger.current(entries)
    for entry in reversed(entries):
        if entry is now:
            return None
        total = entry.total
        assert total is not None
        measured = sum(stage.measured is not None for stage in total.stages) == len(study.arms) - 2
        if measured and total.measured.n == study.seeds.search:
            return entry
    return None


def conclude(
    study: Study,
    judgement: Judgement,
    plan: Plan,
    results: Mapping[str, RunResult],
    *,
    entries: Sequence[Entry],
    date: str,
) -> Entry | Refusal:
    """The remeasurement as an entry of evidence; refused when an audit blocks what the campaign would say."""
    if judgement.blocks:
        return Refusal(tuple(_blocks(judgement)))
    kept, now = ledger.stages(entries), ledger.current(entries)
    assert now is not None
    measured = _against_original(judgement, NEWEST)
    if measured is None:
        return Refusal((f"the newest baseline and the original share no seed on which both ended ({study.name})",))
    total = Total(
        metric=judgement.metric,
        measured=measured,
        stages=tuple(
            Stage(number=stage.number or 0, claimed=one, measured=_against_original(judgement, stage_arm(stage)))
            for stage, one in zip(kept, ledger.claims(kept), strict=True)
        ),
        claimed=ledger.claimed_sum(kept),
        runs=tuple(run.fingerprint for run in plan.runs if run.fingerprint in results),
        seeds=ledger.reserved_seeds(study),
        builds=ledger.builds(plan, results),
    )
    return Entry(
        line=study.line, kind="remeasurement", date=date, parent=now.number, recipe=None, replaced=None, total=total
    )


def stage_arm(stage: Entry) -> str:
    return f"entry-{stage.number}"


def _against_original(judgement: Judgement, arm: str) -> Claim | None:
    """None where the arm was not measured. The original stands first, so its verdicts are there in any case."""
    verdict = judgement.verdict(BASELINE, arm)
    return None if verdict is None else ledger.claim(verdict)


def _fresh_seed(entries: Sequence[Entry], other_seeds: Iterable[tuple[int, int]]) -> int:
    used = [last for _, last in other_seeds]
    for entry in entries:
        used += [entry.support.seeds[1]] if entry.support else []
        used += [entry.total.seeds[1]] if entry.total else []
    return max(used) + 1
