"""The JSON files of a search by architecture or schedule: each part's sweep of the rate, and what it recommends."""

from collections.abc import Iterator, Sequence
from typing import Any

from blueberry.judge.judgement import Judgement, Optimum, Part
from blueberry.judge.parts import of_an_arm
from blueberry.judge.sentences import why_withheld
from blueberry.judge.words import is_rate
from blueberry.records import StudyRun
from blueberry.report.axis import find_axis
from blueberry.report.documents import final_results, to_json
from blueberry.report.figures import file_name, rate_names


def search_documents(judgement: Judgement, runs: Sequence[StudyRun]) -> Iterator[tuple[str, str]]:
    """`lr_search_results.json`, `lr_recommendation.json` and a file a rate; nothing unless parts sweep a rate."""
    swept = [part for part in judgement.parts if part.judgement.vary and is_rate(part.judgement.vary[0])]
    if not swept:
        return
    rows = {part.name: _rows(part, runs) for part in swept}
    yield "lr_search_results.json", to_json(rows)
    yield "lr_recommendation.json", to_json({part.name: _recommendation(part, judgement) for part in swept})
    for name, own in rows.items():
        names = rate_names(sorted({row["learning_rate"] for row in own}))
        for rate, said in names.items():
            at_rate = [row for row in own if row["learning_rate"] == rate]
            yield f"results/{file_name(name)}/lr_{said}.json", to_json(at_rate)


def _rows(part: Part, runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    axis = find_axis(part.judgement)
    return [] if axis is None else final_results(part.judgement, [run for run in runs if run.part == part.name], axis)


def _recommendation(part: Part, whole: Judgement) -> dict[str, Any]:
    """By the rule that the whole study is judged by: a rate that the report recommends is supported here too.

    A condition's best is claimed as that of a study by itself. An arm's own best only has to be no end of its range;
    what else its search leaves open, its fresh seeds show the cost of: `open` says it.
    """
    judgement, found = part.judgement, part.judgement.optimum
    best = judgement.best
    against = judgement.audits if whole.conditions else of_an_arm(part)
    reason = why_withheld(against)
    coverage = [one.model_dump() for one in part.covers]
    if best is None or reason is not None:
        return {"supported": False, "because": reason or "no rate has a finite result", "coverage": coverage}
    return {
        "supported": True,
        "learning_rate": best.settings[judgement.vary[0]],
        "mean": best.mean,
        "interval": best.interval,
        "n": best.n,
        "not_told_apart": list(judgement.unresolved),
        "open": why_withheld([audit for audit in judgement.audits if audit not in against]),
        "optimum": {"estimate": found.estimate, "interval": found.interval} if isinstance(found, Optimum) else None,
        "coverage": coverage,
    }
