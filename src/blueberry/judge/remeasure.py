"""A line's newest baseline against the recipe it started from, on seeds that no study of the line may have used.

The total of a line is this one paired measurement, never the sum of what its stages claimed: each claim comes
from the runs that chose the stage, so the sum flatters itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from blueberry.errors import LedgerError
from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Judgement
from blueberry.judge.ledger import (
    Claim,
    Entry,
    Stage,
    Total,
    builds,
    changes,
    claim,
    claimed_sum,
    claims,
    current,
    original,
    recipe_of,
    reserved_seeds,
    same_numbers,
    stages,
)
from blueberry.judge.promotion import Refusal
from blueberry.records import RunResult
from blueberry.study.plan import Plan
from blueberry.study.spec import Arm, Seeds, Study

NEWEST = "newest"
DEFAULT_SEEDS = 5


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
    now, kept = current(entries), stages(entries)
    if now is None or not kept:
        why = "has no baseline" if now is None else "is back at the recipe it started from"
        raise LedgerError(f"ledger {line!r}: {why}; a total needs a promotion in effect; see blueberry ledger")
    start, newest = original(entries), recipe_of(now)
    if start.data != newest.data or start.evaluate.tokens != newest.evaluate.tokens:
        raise LedgerError(
            f"ledger {line!r}: the newest baseline and the original have other text; "
            "losses on different text cannot be compared; begin a new line for the new text"
        )
    if same_numbers(start, newest):
        raise LedgerError(f"ledger {line!r}: the newest baseline is the original; there is no total to measure")
    support = kept[-1].support
    assert support is not None
    seed = _fresh_seed(entries, other_seeds)
    if seed + num_seeds > 2**31:
        raise LedgerError(f"ledger {line!r}: seeds from {seed} would pass 2**31 - 1; begin a new line")
    recipes = {BASELINE: start, NEWEST: newest}
    for stage in kept[:-1] if every_stage else ():
        if not any(same_numbers(recipe_of(stage), known) for known in recipes.values()):  # else it is measured anyway
            recipes[stage_arm(stage)] = recipe_of(stage)
    arms = tuple(
        Arm(
            name,
            {change.setting: change.new for change in changes(start, recipe) if change.new is not None},
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
    now = current(entries)
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
        return Refusal(tuple(f"{audit.audit}: {audit.message}; {audit.remedy}" for audit in judgement.blocks))
    kept, now = stages(entries), current(entries)
    assert now is not None
    claimed = claims(kept)
    measured = _against_original(judgement, NEWEST)
    if measured is None:
        return Refusal((f"the newest baseline and the original share no seed on which both ended ({study.name})",))
    total = Total(
        metric=judgement.metric,
        measured=measured,
        stages=tuple(
            Stage(number=stage.number or 0, claimed=one, measured=_against_original(judgement, stage_arm(stage)))
            for stage, one in zip(kept, claimed, strict=True)
        ),
        claimed=claimed_sum(kept),
        runs=tuple(run.fingerprint for run in plan.runs if run.fingerprint in results),
        seeds=reserved_seeds(study),
        builds=builds(plan, results),
    )
    return Entry(
        line=study.line, kind="remeasurement", date=date, parent=now.number, recipe=None, replaced=None, total=total
    )


def stage_arm(stage: Entry) -> str:
    return f"entry-{stage.number}"


def _against_original(judgement: Judgement, arm: str) -> Claim | None:
    """None where the arm was not measured. The original stands first, so its verdicts are there in any case."""
    verdict = judgement.verdict(BASELINE, arm)
    return None if verdict is None else claim(verdict)


def _fresh_seed(entries: Sequence[Entry], other_seeds: Iterable[tuple[int, int]]) -> int:
    used = [last for _, last in other_seeds]
    for entry in entries:
        used += [entry.support.seeds[1]] if entry.support else []
        used += [entry.total.seeds[1]] if entry.total else []
    return max(used) + 1
