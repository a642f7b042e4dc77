"""How a study was judged, in a few short paragraphs for its reader."""

from blueberry.judge import words
from blueberry.judge.judgement import Judgement
from blueberry.judge.words import count
from blueberry.report.differences import BASELINE


def how_judged(judgement: Judgement) -> tuple[str, ...]:
    """Short paragraphs."""
    effect = f"{judgement.min_effect:g}{words.unit(judgement.metric)}"
    where = "under each condition" if judgement.conditions else "in the study"
    compared = judgement.parts[0].judgement if judgement.conditions else judgement
    narrow = 100 * (1 - 2 * judgement.alpha / max(len(compared.looks), 1))
    failed = (
        "A run that diverged counts as infinitely bad; it is never left out. A number measured on the seeds that chose "
        "an arm flatters it, so the reported one comes from fresh seeds where there are any."
    )
    searched = _search(judgement)
    if judgement.is_located or (judgement.conditions and all(part.judgement.is_located for part in judgement.parts)):
        seed = "A seed fixes the initial weights, the order of the data and every random draw."
        return (seed, *searched, failed)
    return (
        _how_compared(compared),
        *_one_rule(compared, where),
        f"A tie is claimed only when the {narrow:.3g}% interval of a difference lies within ± {effect}, the smallest "
        "that was said to matter before the first run (two one-sided tests). It is narrower than the interval printed. "
        "Everything else is inconclusive, with the number of seeds that would settle it.",
        *searched,
        *_race(judgement),
        failed,
    )


def _how_compared(compared: Judgement) -> str:
    """Pair by pair or not, and by whose noise."""
    paired = {verdict.paired for verdict in compared.verdicts}
    said = [
        "A seed fixes the initial weights, the order of the data and every random draw. Arms are compared seed by "
        "seed, so that what a seed does to all of them cancels."
    ]
    if paired == {False}:
        said = [
            "No pairs: arms share fewer than three seeds, or no run says its seed, so all runs of one arm are compared "
            "with all of the other."
        ]
    elif False in paired:
        said.append("Arms that share fewer than three seeds are compared unpaired, all runs with all.")
    if compared.noise.borrowed_sd is not None:
        sd, source = compared.noise.borrowed_sd, compared.noise.borrowed_from
        return (
            f"Every difference is judged by borrowed noise: single runs are taken to scatter by {sd:g} ({source}), "
            "which these runs did not measure. Claims hold if that is their noise; all runs of one arm are compared "
            "with all of the other."
        )
    said.append(
        "The noise of a difference is that of its own arms, and so far as the arms are alike in noise that of the "
        "others too; an arm that is noisier than the rest is judged by its own."
    )
    return " ".join(said)


def _search(judgement: Judgement) -> tuple[str, ...]:
    """What the answer of a search rests on; of parts, where at least one has such an answer."""
    if not (judgement.is_located or any(part.judgement.is_located for part in judgement.parts)):
        return ()
    where, alone = "Within a part, the", ""
    if judgement.is_located:
        where, alone = "The", " Values are not compared with one another, so none is claimed to be tied."
    return (
        f"{where} values about the best were read as one smooth valley, what a seed does to all its runs taken out: "
        "polynomials of degree 2 to 4, as far as there are values enough, and two half-parabolas, without those that "
        "repeated runs reject. What a value costs at worst is the largest upper bound of its difference to any other "
        f"value of the window, over the models kept, at {1 - judgement.alpha:.0%}. A value at which a run diverged is "
        f"no point of the valley.{alone}",
    )


def _one_rule(compared: Judgement, where: str) -> tuple[str, ...]:
    has_baseline = any(arm.arm == BASELINE for arm in compared.arms)
    said = (
        "An arm is worse than the best when the interval of their difference lies above zero, and not told "
        "apart from it where it does not. The clearest is tested first; the more arms are left, any of which may be "
        "the best, the wider the interval. Its end nearer to zero is what was tested; the other makes all intervals "
        "hold at once."
    )
    if compared.goal == "maximize":
        said = said.replace("above", "below")
    against = (
        "An arm is better or worse than the baseline when the interval of their difference excludes zero; it is "
        "wider where more arms are compared with the baseline."
    )
    error = f"The chance of any false winner {where} is held at {compared.alpha:g}"
    return (f"{against} {said} {error}, for either question.",) if has_baseline else (f"{said} {error}.",)


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
    seeds = count(judgement.looks[judgement.looks_taken - 1], "seed")
    if judgement.ended == "maximum":
        return f"at the maximum of {seeds}, with something left open"
    return f"every question settled after {seeds}"
