"""How a study was judged, in the words of its page."""

from blueberry.judge import words
from blueberry.judge.judgement import Judgement
from blueberry.report.wording import metric_unit, plural


def how_judged(judgement: Judgement) -> tuple[str, ...]:
    """Short paragraphs."""
    unit = metric_unit(judgement.metric)
    effect = f"{judgement.min_effect:g}{f' {unit}' if unit else ''}"
    where = "under each condition" if judgement.conditions else "in the study"
    compared = judgement.parts[0].judgement if judgement.conditions else judgement
    narrow = 100 * (1 - 2 * judgement.alpha / max(len(compared.looks), 1))
    return (
        "A seed fixes the initial weights, the order of the data and every random draw. Arms are compared seed by "
        "seed, so that what a seed does to all of them cancels.",
        f"One arm beats another when the interval of their paired difference excludes zero (Holm's method is "
        f"a little sharper: what it alone decides has an interval that ends at zero). The chance of any false "
        f"winner {where} is held at {judgement.alpha:g}, so intervals are wider where more pairs are compared.",
        f"A tie is claimed only when the {narrow:.3g}% interval of a difference lies within ± {effect}, the smallest "
        "that was said to matter before the first run (two one-sided tests). It is narrower than the interval printed, "
        "which holds for all comparisons at once. Everything else is inconclusive, with the number of seeds that would "
        "settle it.",
        *_race(judgement),
        "A run that diverged counts as infinitely bad; it is never left out. A number measured on the seeds that chose "
        "an arm flatters it, so the reported one comes from fresh seeds where there are any.",
    )


def _race(judgement: Judgement) -> tuple[str, ...]:
    raced = judgement if judgement.looks else next((p.judgement for p in judgement.parts if p.judgement.looks), None)
    if raced is None:
        return ()
    where = "a race" if judgement.looks else "a race within each part"
    stands = " What a look decided stands: a difference is as it was at the look that decided it, or at the last one."
    if not (judgement.looks or judgement.conditions):
        stands = " The parts' own bests were then compared once, on fresh seeds."
    looks = words.listing([str(look) for look in raced.looks], most=12)
    return (
        f"Seeds came in {where}, with looks planned at {looks} seeds, each with an error of "
        f"{judgement.alpha:g} / {len(raced.looks)}; after a look only arms of which something was still open got more. "
        f"{_endings(judgement)}{stands}",
    )


def _endings(judgement: Judgement) -> str:
    """How the race, or that of each part, has ended."""
    if judgement.looks:
        return f"How it ended: {_ending(judgement)}."
    endings: dict[str, list[str]] = {}
    for part in judgement.parts:
        endings.setdefault(_ending(part.judgement), []).append(part.name)
    return f"How they ended: {'; '.join(f'{words.listing(names)}, {said}' for said, names in endings.items())}."


def _ending(judgement: Judgement) -> str:
    if judgement.ended is None:
        return "not yet"
    seeds = plural(judgement.looks[judgement.looks_taken - 1], "seed")
    if judgement.ended == "maximum":
        return f"at the maximum of {seeds}, with something left open"
    return f"every question settled after {seeds}"
