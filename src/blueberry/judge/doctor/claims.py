"""What a report claims in words, against what it says of its runs.

An audit is a function of a document that returns its findings; to add one, write it and enter it in CLAIM_AUDITS.
"""

import re
from collections.abc import Callable, Iterable

from blueberry.judge import words
from blueberry.judge.doctor import facts
from blueberry.judge.doctor.changes import chains, changes, totals
from blueberry.judge.doctor.design import LEAST_WARMUP_UPDATES
from blueberry.judge.doctor.document import Document, Line, Record
from blueberry.judge.doctor.findings import block, warn, words_of
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import LEAST_BLOCKS

_IS_BEST = re.compile(r"\b(best|optimal|optimum|winner|outperform\w*|better|improve\w*|peak)\b", re.IGNORECASE)
_HEDGED = re.compile(
    r"\b(not|cannot|can't|may|might|whether|unknown|would|could|unless|untested)\b",
    re.IGNORECASE,
)
_NULL = re.compile(
    r"\bno (?:significant |measurable |real |computational |additional |extra )*"
    r"(?:difference|change|overhead|effect|cost|downsides?|impact)\b|\bsame (?:training )?time\b|"
    r"\bzero (?:computational |additional |extra )*(?:overhead|cost)|\bidentical (?:performance|results?|loss)|"
    r"\b(?:performs?|is|are) (?:equally well|equivalent|as good)\b",
    re.IGNORECASE,
)
_NOT_CLAIMED = re.compile(
    r"can be told|not shown|not separated|inconclusive|cannot|equivalen|two one-sided|tost|\b90% interval|within [±+]",
    re.IGNORECASE,
)
_LEFT_OPEN = re.compile(r"\b(?:whether|may|might|could|would|unless)\b", re.IGNORECASE)
_NONE_WAS_SHOWN = re.compile(
    r"(?:\s+[\w-]+){0,6}?\s+(?:was|were|is|are|has been|have been|could be|can be)\s+"
    r"(?:shown|found|seen|detected|established|demonstrated|proven)\b",
    re.IGNORECASE,
)
_SENTENCE_ENDS = re.compile(r"(?<=[.;!?])\s+")
_TRANSFER = re.compile(
    r"\b(production|deploy\w*|larger models?|any (?:model|task)|other (?:tasks|datasets|models|architectures)|"
    r"(?:similar|all) (?:\w+ )?architectures|scales? to)\b",
    re.IGNORECASE,
)
_LONG = re.compile(
    r"\b(?:long|longer|very long|extended|full[- ]length)[- ](?:training|runs?|pretraining)\b", re.IGNORECASE
)
_ADVISES = re.compile(r"\b(use|recommend\w*|suitable|apply|should|for all|ideal)\b", re.IGNORECASE)
_MEASURED_TOGETHER = re.compile(
    r"re-?measured|one campaign|side by side|paired|fresh seeds|measured together|same seeds", re.IGNORECASE
)
_MORE_THAN_SUM = re.compile(
    r"\b(?:exceeds?|more than|greater than|larger than|better than)\s+(?:the\s+)?(?:sum|total) of\b", re.IGNORECASE
)
_CONFIRMED = re.compile(
    r"fresh seeds|confirm(?:ed|ation|ing) (?:on|run|seed)|seeds? that did not choose", re.IGNORECASE
)
_TESTED = re.compile(r"\btest (?:set|loss|accuracy|perplexity)\b[^.\n]*\d", re.IGNORECASE)
_LEAK = re.compile(r"\b(?:stride (?:of )?1|overlapping windows|sliding windows?)\b", re.IGNORECASE)
_BEST_CHECKPOINT = re.compile(
    r"\b(?:best checkpoint|best epoch|early stopping|best validation loss (?:during|over))\b", re.IGNORECASE
)


def audit_claims(document: Document) -> list[Audit]:
    """Every finding of every audit of words; none for a page that has no number of a run."""
    if not document.ends:
        return []
    return [finding for look in CLAIM_AUDITS.values() for finding in look(document)]


def seeds(document: Document) -> list[Audit]:
    """Arms compared on fewer seeds than tell anything from chance."""
    count = facts.num_seeds(document)
    compared = [record for record in document.ends if any(kind.startswith("val_") for kind in record.numbers)]
    if count >= LEAST_BLOCKS or len(compared) < 2:
        return []
    named = facts.the_one_seed(document)
    if count > 1:
        where, what = document.name, f"every number is from {count} seeds at most"
    elif named:
        where, what = document.place(named[1]), f"every number is from one seed ({named[0]})"
    else:
        where, what = document.name, "nothing is said of seeds, and each configuration has one number"
    message = f"{where}: {what}; with fewer than {LEAST_BLOCKS} no difference can be told from chance"
    return [block("seeds", message, f"run every configuration on at least {LEAST_BLOCKS} seeds, and print how many")]


def selection(document: Document) -> list[Audit]:
    """The set that chose is the set that reports."""
    is_tested = any(kind.startswith("test_") for record in document.records for kind in record.numbers)
    rows = [" ".join(row) for table in document.tables for row in table.rows]
    is_tested |= any(_TESTED.search(text) for text in [*rows, *(line.text for line in document.claims)])
    chosen = [line for line in document.claims if _IS_BEST.search(line.text)]
    if is_tested or not chosen:
        return []
    message = "a best is claimed on the validation set that chose it; there is no number of a test set"
    return [_said(document, chosen, "selection", message, "print the winner's loss on a test set that chose nothing")]


def curse(document: Document) -> list[Audit]:
    chosen = [line for line in document.claims if re.search(r"\b(best|optimal|winner)\b", line.text, re.IGNORECASE)]
    stages = {chain.line for chain in chains(document)}
    candidates = [group for group in _blocks(document).values() if group[0].line not in stages]
    most = max(map(len, candidates), default=0)
    if not chosen or most < 3 or any(_CONFIRMED.search(line.text) for line in document.lines):
        return []
    message = f"the best of {most} is reported from the runs that chose it, so it flatters itself"
    return [
        _said(document, chosen[:1], "curse", message, "run it again on fresh seeds and print both numbers", soft=True)
    ]


def null(document: Document) -> list[Audit]:
    """ "No difference" where nothing tested for it."""
    said = null_claims(document)
    if not said:
        return []
    message = f"{_quoted(said[0], _NULL)} is claimed, and no equivalence test stands beside it"
    remedy = "say that none was found, or show that the 90% interval lies within the smallest difference that matters"
    return [_said(document, said, "null", message, remedy)]


def null_claims(document: Document) -> list[Line]:
    """Lines and table cells that say there is no difference, without a test."""
    said = [line for line in document.claims if _says_none(line.text) and not _NOT_CLAIMED.search(line.text)]
    for table in document.tables:
        for offset, row in enumerate(table.rows, 2):
            cell = next((cell for cell in row if _says_none(cell) and not _NOT_CLAIMED.search(" ".join(row))), None)
            if cell is not None:
                said.append(Line(table.line + offset, f"{row[0]}: {cell}", ()))
    return said


def _says_none(text: str) -> bool:
    """Whether a sentence says that there is none; not where it asks whether, nor where none was only not shown."""
    return any(
        not _LEFT_OPEN.search(sentence[: found.start()]) and not _NONE_WAS_SHOWN.match(sentence[found.end() :])
        for sentence in _SENTENCE_ENDS.split(text)
        for found in _NULL.finditer(sentence)
    )


def transfer(document: Document) -> list[Audit]:
    said = _claimed(document, _TRANSFER)
    if not said:
        return []
    message = f"{_quoted(said[0], _TRANSFER)}: no run at that scale or use is shown"
    return [_said(document, said, "transfer", message, "keep the claim to what was run, or run it there", soft=True)]


def horizon(document: Document) -> list[Audit]:
    """Advice for runs longer than those that were measured."""
    said = [line for line in _claimed(document, _LONG) if _ADVISES.search(line.text)]
    if not said:
        return []
    length = facts.num_steps(document)
    measured = f" of {length[0]:,} {'updates' if length[1] else 'steps'}" if length else ""
    message = f"{_quoted(said[0], _LONG)} are advised from runs{measured}; the best rate moves with the length of a run"
    return [
        _said(document, said, "horizon", message, "measure at that length, or keep the claim to this one", soft=True)
    ]


def schedule(document: Document) -> list[Audit]:
    """A warmup of hardly any update."""
    length = facts.num_steps(document)
    shares = [
        (value.value, change.line)
        for change in changes(document)
        if change.what.startswith("warmup")
        for value in (change.a, change.b)
        if value.is_percent
    ]
    if length is None or not shares:
        return []
    short = [(share * length[0], line) for share, line in shares if share * length[0] < LEAST_WARMUP_UPDATES]
    if not short:
        return []
    least, line = min(short)
    message = (
        f"{document.place(line)}: a warmup of {least / length[0]:.0%} of {length[0]} "
        f"{'updates' if length[1] else 'steps'} is {least:.3g}; fewer than {LEAST_WARMUP_UPDATES} are a jump, no warmup"
    )
    return [block("schedule", message, "compare warmups in runs long enough for them to differ")]


def budget(document: Document) -> list[Audit]:
    """Steps that are micro-batches, and arms that get more of them."""
    length, found = facts.num_steps(document), []
    per_update = facts.accumulation(document)
    if per_update and length and not length[1]:
        message = (
            f"{document.place(per_update[1])}: {length[0]} steps at accumulation {per_update[0]} are "
            f"{length[0] / per_update[0]:g} updates if a step is a micro-batch"
        )
        found.append(warn("budget", message, "count updates, and say so"))
    for change in changes(document):
        if re.search(r"accumulation|batch", change.what) and change.a.value != change.b.value:
            at = ""
            if length and not length[1] and "accumulation" in change.what and change.a.value and change.b.value:
                at = (
                    f": {length[0]} steps are {length[0] / change.a.value:g} and {length[0] / change.b.value:g} updates"
                )
            message = (
                f"{document.place(change.line)}: {change.what} {change.a.text} -> {change.b.text} changes the updates "
                f"or the tokens of a run{at}; the gain may be the larger budget"
            )
            return [*found, block("budget", message, "give both arms the same updates and tokens, and print them")]
    return found + _unequal_columns(document)


def _unequal_columns(document: Document) -> list[Audit]:
    for group in _blocks(document).values():
        counts = [(r.numbers["updates"].value, r.line) for r in group if "updates" in r.numbers]
        varies = any(r.numbers["updates"].text == r.subject for r in group if "updates" in r.numbers)
        if len(counts) >= 2 and not varies and max(counts)[0] > 1.01 * min(counts)[0]:
            message = f"{document.place(max(counts)[1])}: rows have {min(counts)[0]:g} to {max(counts)[0]:g} updates"
            return [block("budget", message, "compare runs of one length")]
    return []


def stack(document: Document) -> list[Audit]:
    """A total that is put together from stages."""
    found = []
    said = [line for line in document.claims if _MORE_THAN_SUM.search(line.text)]
    if said:
        summed = _sum_of_stages(document)
        message = f"{_quoted(said[0], _MORE_THAN_SUM)} ...{summed}"
        remedy = "run the stack, each change and the baseline in one campaign, paired by seed"
        found.append(_said(document, said, "stack", message, remedy))
    stages = [chain for chain in chains(document) if len(chain.stages) >= 3]
    together = any(_MEASURED_TOGETHER.search(line.text) for line in document.lines)
    if stages and totals(document) and not together:
        message = (
            f"the total over {len(stages[0].stages)} stages is read off numbers of different campaigns, "
            "not off one paired measurement"
        )
        at = [Line(total.line, "", ()) for total in totals(document)]
        remedy = "run the stack against the original baseline in one campaign, on the same seeds"
        found.append(_said(document, at, "stack", message, remedy))
    return found


def _sum_of_stages(document: Document) -> str:
    """e.g. " the stages add up to 0.5816, measured 0.5427 (93%)", where the report has both."""
    for chain in chains(document):
        stages = {(c.a.value, c.b.value) for c in changes(document) if c.what == chain.what and c.is_of_a_stage}
        if len(stages) < 2 or len(chain.stages) < 3:
            continue
        total = sum(abs(a - b) for a, b in stages)
        whole = abs(chain.stages[0][1].value - chain.stages[-1][1].value)
        return f" the stages' {words_of(chain.what)} add up to {total:.4f}, measured {whole:.4f} ({whole / total:.0%})"
    return " no sum stands beside it"


def drift(document: Document) -> list[Audit]:
    """A stage that begins elsewhere than the one before it ended: one configuration, two numbers."""
    last: dict[str, tuple[float, str, int, tuple[str, ...]]] = {}
    for change in changes(document):
        if not change.is_of_a_stage or not change.is_measured:
            continue
        before = last.get(change.what)
        if before and before[3] != change.headings and abs(before[0] - change.a.value) > 2 * change.a.half:
            message = (
                f"{document.place(change.line)}: {words_of(change.what)} goes on from {change.a.text}, and the stage "
                f"before ended at {before[1]} (line {before[2]}); one configuration has two numbers"
            )
            return [block("drift", message, "measure both in one campaign; until then the gain may be this difference")]
        last[change.what] = (change.b.value, change.b.text, change.line, change.headings)
    return []


def leak(document: Document) -> list[Audit]:
    said = [line for line in document.claims if _LEAK.search(line.text)]
    at_random = [
        line for line in document.claims if re.search(r"random\w* split|split\w* (?:at )?random", line.text, re.I)
    ]
    if not said or not at_random:
        return []
    message = "windows overlap and are split at random, so nearly every validation window is in training too"
    return [_said(document, said, "leak", message, "split documents, not windows")]


def early_stop(document: Document) -> list[Audit]:
    said = _claimed(document, _BEST_CHECKPOINT)
    if not said or not any(re.search(r"\bfinal\b", line.text, re.IGNORECASE) for line in document.lines):
        return []
    message = "best checkpoints stand beside final losses; the best of many looks is lower by chance"
    return [_said(document, said, "early-stop", message, "compare final losses of complete schedules", soft=True)]


def passes(document: Document) -> list[Audit]:
    times = facts.labelled_number(document.claims, r"\b(?:epochs|passes over the (?:text|data))\s*[:=]")
    if times is None or times <= 1:
        return []
    message = f"{document.name}: the text was seen {times:g} times; the best setting for fresh text may differ"
    return [warn("passes", message, "train on more text, or keep the claim to repeated text")]


CLAIM_AUDITS: dict[str, Callable[[Document], list[Audit]]] = {
    "seeds": seeds,
    "selection": selection,
    "leak": leak,
    "budget": budget,
    "schedule": schedule,
    "drift": drift,
    "stack": stack,
    "null": null,
    "horizon": horizon,
    "transfer": transfer,
    "early-stop": early_stop,
    "passes": passes,
    "curse": curse,
}


def _claimed(document: Document, look: re.Pattern[str]) -> list[Line]:
    return [line for line in document.claims if look.search(line.text) and not _HEDGED.search(line.text)]


def _blocks(document: Document) -> dict[int, list[Record]]:
    groups: dict[int, list[Record]] = {}
    for record in document.ends:
        groups.setdefault(record.block, []).append(record)
    return groups


def _quoted(line: Line, look: re.Pattern[str]) -> str:
    match = look.search(line.text)
    return f'"{match.group()}"' if match else f'"{line.text[:40]}"'


def _said(
    document: Document,
    lines: Iterable[Line],
    name: str,
    message: str,
    remedy: str,
    *,
    soft: bool = False,
) -> Audit:
    """One finding for all lines that say it."""
    places = sorted({line.number for line in lines})
    where = f"{document.name}:{words.listing([str(place) for place in places], most=3)}"
    return (warn if soft else block)(name, f"{where}: {message}", remedy)
