"""The JSON files of a search by architecture or schedule: each part's sweep of the rate, and what it recommends."""

from collections.abc import Iterator, Sequence
from typing import Any

from blueberry.judge.judgement import Judgement, Optimum, Part
from blueberry.judge.sentences import why_withheld
from blueberry.judge.words import is_rate
from blueberry.report.axis import find_axis
from blueberry.report.documents import final_results, to_json
from blueberry.report.figures import rate_names
from blueberry.report.runs import LabelledRun


def search_documents(judgement: Judgement, runs: Sequence[LabelledRun]) -> Iterator[tuple[str, str]]:
    """`lr_search_results.json`, `lr_recommendation.json` and a file a rate; nothing unless parts sweep a rate."""
    swept = [part for part in judgement.parts if part.judgement.vary and is_rate(part.judgement.vary[0])]
    if not swept:
        return
    rows = {part.name: _rows(part, runs) for part in swept}
    yield "lr_search_results.json", to_json(rows)
    yield "lr_recommendation.json", to_json({part.name: _recommendation(part) for part in swept})
    for name, own in rows.items():
        names = rate_names(sorted({row["learning_rate"] for row in own}))
        for rate, said in names.items():
            at_rate = [row for row in own if row["learning_rate"] == rate]
            yield f"results/{_file_name(name)}/lr_{said}.json", to_json(at_rate)


def _rows(part: Part, runs: Sequence[LabelledRun]) -> list[dict[str, Any]]:
    axis = find_axis(part.judgement)
    return [] if axis is None else final_results(part.judgement, [run for run in runs if run.part == part.name], axis)


def _recommendation(part: Part) -> dict[str, Any]:
    """Withheld where the part's own audits block it: a best rate at the end of the range is none."""
    judgement, found = part.judgement, part.judgement.optimum
    best = judgement.best
    reason = why_withheld(judgement.audits)
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
        "optimum": {"estimate": found.estimate, "interval": found.interval} if isinstance(found, Optimum) else None,
        "coverage": coverage,
    }


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._+-=" else "_" for letter in name)
