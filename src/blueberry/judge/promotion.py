"""Whether a study's winner may become the baseline of a line: accepted with evidence, or refused with reasons. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blueberry.judge import words
from blueberry.judge.effects import helping
from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Judgement, Verdict
from blueberry.judge.ledger import (
    Entry,
    Support,
    builds,
    changes,
    claim,
    current,
    recipe_of,
    reserved_seeds,
    same_numbers,
)
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.study.plan import Plan, Run, as_planned
from blueberry.study.spec import Study


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
    best, now = judgement.best, current(entries)
    if best is None:
        return Refusal(tuple(_objections(judgement)))
    study = as_planned(study, plan)
    recipes = {arm.name: arm.recipe for arm in study.arms}
    winner = _as_run(plan, best.arm, study)
    if winner is None:
        return Refusal((*_objections(judgement), f"{best.arm} has not run on fresh seeds; run the study"))
    runs = _fingerprints(plan, best.arm, results)
    now_recipe = None if now is None else recipe_of(now)
    if now is not None and now_recipe is not None and now.support and same_numbers(winner, now_recipe):
        if set(now.support.runs) == set(runs):
            return Promotion(now, is_new=False)
        return Refusal((f"{best.arm} is the baseline of {line} already: entry {now.number}",))
    reasons = _objections(judgement)
    held_up_to = now_recipe or recipes.get(BASELINE, study.base)
    beaten = next((name for name, recipe in recipes.items() if same_numbers(recipe, held_up_to)), None)
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
        changes=changes(replaced, winner),
        support=Support(
            study=study.name,
            question=judgement.question,
            metric=judgement.metric,
            min_effect=judgement.min_effect,
            alpha=judgement.alpha,
            arm=best.arm,
            beaten=None if beaten == best.arm else beaten,
            claim=None if verdict is None else claim(verdict),
            mean=best.mean,
            interval=best.interval,
            n=best.n,
            test_mean=best.test_mean,
            unresolved=tuple(name for name in judgement.unresolved if name != best.arm),
            runs=runs,
            beaten_runs=() if beaten in (None, best.arm) else _fingerprints(plan, beaten, results),
            seeds=reserved_seeds(study),
            builds=builds(plan, results),
        ),
    )
    return Promotion(entry, is_new=True)


def _objections(judgement: Judgement) -> list[str]:
    """Why the judgement itself does not support a promotion."""
    found = [f"{audit.audit}: {audit.message}; {audit.remedy}" for audit in judgement.blocks]
    if judgement.is_across:
        found.append(
            "[across] compares no conditions with one another, so it has a best for each and none of all; "
            "promote from a study of one condition"
        )
    elif judgement.recommendation.withheld is not None and not found:
        found.append(f"nothing is recommended: {judgement.recommendation.withheld}")
    elif (
        helping(judgement) is not None
        and judgement.best
        and judgement.recommendation.settings != judgement.best.settings
    ):
        found.append(f"{judgement.best.arm} is not what its study recommends: {judgement.recommendation.text}")
    if not judgement.metric.startswith("val_"):
        found.append(f"the study is judged by {judgement.metric}; a baseline needs a number on held-out text")
    best = judgement.best
    if best is not None and not best.confirmed:
        found.append(
            f"the best arm, {best.arm}, was not run on fresh seeds, so its number flatters itself; "
            "run the study with [seeds] confirm = 5"
        )
    return found


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
    said = claim(verdict)
    number = (
        ""
        if said.difference is None
        else words.difference(said.difference, said.interval, judgement.metric, judgement.min_effect)
    )
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
