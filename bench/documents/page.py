"""docs/documents.md, from the judgements of the documents' small studies and what the doctor says of the documents."""

from collections.abc import Mapping, Sequence

from bench.documents.claims import Claim, held_against
from bench.documents.measured import Measured
from bench.truth.page import table
from blueberry.judge import words
from blueberry.judge.ledger import Entry, current, latest_total, stages

TITLES = {
    "000": "before and after: a rate of 0.01 against 0.065",
    "001": "the schedule that went to the main branch",
    "002": "26 learning rates",
    "003": "the search for latent attention and a dense feed-forward",
    "004": "ablations, schedules and their sum",
}

INTRODUCTION = """# The five documents, run honestly

Blueberry began with five documents on one training system: a comparison, a schedule, a sweep of 26 learning rates, a
search for a second architecture, and a record of improvements. Each gives one number to a configuration, from one run.
Here the same questions are asked by studies that ship in `studies/documents`, and each claim is held against what their
runs show.

Every question is there in three forms over one file: as written (the documents' own way, for the doctor), at full
size (`moe-79m`, `deepseek-47m`), and small: width 64, two layers and 512 tokens of vocabulary, with the mixture of
experts and the optimizers of the documents (003: its latent attention, dense feed-forward and constant rate), trained
on the embedded corpus for 100 updates of 16 sequences of 64 tokens where nothing else is said. **All numbers here are
of the small form**, on a processor. A verdict says what holds *there*; what a claim says of 79 million parameters only
the full-size form can settle, and no run here has.

A claim **holds** where the runs show it, **does not hold** where they show the contrary or a difference too small to
matter (within 0.02 nats, by two one-sided tests at 5%: their interval is narrower than the one printed), and else
**cannot be told at this size**. What is shown may still be smaller than 0.02 nats; the interval says. Intervals are at
95%: of two arms or of effects adjusted for all of their kind in the study, of everything else each by itself. Losses
are nats per token; differences are the new minus the old, so below zero is better."""


def page(measured: Mapping[str, Measured | None], audits: Sequence[Mapping[str, str]], record: Sequence[Entry]) -> str:
    """Markdown."""
    rows = held_against(measured)
    parts = [INTRODUCTION, _summary(rows)]
    for document in TITLES:
        parts += [
            f"## {document}: {TITLES[document]}",
            _claims([row for row in rows if row[0].document == document], measured),
        ]
        if document == "003":
            parts.append(_leak(measured["003-leak"]))
        if document == "004":
            parts.append(_together(measured["004-stack"]))
        parts.append(_doctor(document, audits))
    parts += [_record(record), _studies(measured), _made(measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(rows: Sequence[tuple[Claim, str, str]]) -> str:
    heading = ("document", "claim", "here")
    return "## In short\n\n" + table(heading, [(one.document, one.says, f"**{outcome}**") for one, _, outcome in rows])


def _claims(rows: Sequence[tuple[Claim, str, str]], measured: Mapping[str, Measured | None]) -> str:
    shown = []
    for claim, said, outcome in rows:
        shown.append(
            f"**{words.sentence(claim.says).rstrip('.')}** (line{'s' if ',' in claim.where else ''} {claim.where}). "
            + (f"{words.sentence(said)} " if said else "")
            + f"*{outcome.capitalize()}* (`{claim.study}-small.toml`)."
        )
    warned = [_warned(study, measured[study]) for study in dict.fromkeys(claim.study for claim, _, _ in rows)]
    if any(warned):
        shown.append("What the doctor warns of in these studies of ours:\n\n" + "\n".join(one for one in warned if one))
    return "\n\n".join(shown)


def _warned(study: str, found: Measured | None) -> str:
    """What bears on how the arms of our own study compare, or on what their numbers are good for."""
    if found is None:
        return ""
    said = [one for one in found.judgement.audits if one.severity == "warn" and one.audit in WARNED]
    return "\n".join(f"- `{study}-small.toml`, {one.audit}: {one.message}" for one in said)


WARNED = ("budget", "one-rate", "passes", "curse")


def _doctor(document: str, audits: Sequence[Mapping[str, str]]) -> str:
    """What it says of the document's text; of several documents at once under the first."""
    own = [one for one in audits if one["message"].startswith(f"{document}_")]
    if not own:
        return ""
    lines = [
        f"- {'**blocks**' if one['severity'] == 'block' else 'warns'}, {one['audit']}: {_place(one['message'])}"
        for one in sorted(own, key=lambda one: one["severity"])
    ]
    return "What the doctor says of the document:\n\n" + "\n".join(lines)


def _place(message: str) -> str:
    """ "002_long_name.md:160: said" as "line 160: said"."""
    place, _, said = message.partition(": ")
    name, _, lines = place.partition(".md:")
    return f"line {lines}: {said}" if lines and " and 0" not in name else said if ".md" in place else message


def _leak(found: Measured | None) -> str:
    if found is None:
        return ""
    rows = []
    for part in found.judgement.parts:
        for arm in part.judgement.arms:
            numbers = [found.mean(name, arm.arm, part=part.name) for name in ("val_loss", "train_loss", "test_loss")]
            accuracy = found.mean("val_accuracy", arm.arm, part=part.name)
            shown = [words.MISSING if value is None else f"{value:.3f}" for value in numbers]
            blocked = ", ".join(sorted({audit.audit for audit in part.judgement.blocks})) or "none"
            rate = words.setting_value(next(iter(arm.settings.values())))
            rows.append(
                (
                    part.name.removeprefix("windows="),
                    rate,
                    *shown,
                    words.MISSING if accuracy is None else f"{accuracy:.1%}",
                    blocked,
                )
            )
    heading = ("windows", "rate", "validation", "training", "test", "validation accuracy", "blocked by")
    said = "The same text, model and updates, once split as the document split them and once by whole documents; means "
    said += "over the seeds. Training loss is the last update's."
    bests = {part.name: part.judgement.unresolved for part in found.judgement.parts}
    if len(set(bests.values())) > 1 and all(len(arms) == 1 for arms in bests.values()):
        chosen = ", ".join(f"under {name} {arm} is the better of the two" for name, (arm,) in bests.items())
        said += f" The leak also chooses another rate: {chosen}."
    return f"### The leak, and its mending\n\n{said}\n\n" + table(heading, rows)


def _together(found: Measured | None) -> str:
    """What each change does, and with which others: why stages measured one by one do not add up."""
    if found is None:
        return ""
    rows = []
    for effect in found.judgement.effects:
        if effect.difference is None or (len(effect.changes) > 1 and not effect.is_significant):
            continue
        number = words.difference(effect.difference, effect.interval, "val_loss", found.judgement.min_effect)
        kind = "on average" if len(effect.changes) == 1 else "together, beyond the sum"
        rows.append((" with ".join(effect.changes), kind, number, "yes" if effect.is_significant else "no"))
    said = (
        "All four changes in every combination (`004-stack-small.toml`), each effect averaged over the other changes, "
        "half of the time at the old rate; of those of two changes, the ones told from 0. What a change does alone, "
        "with no other made, is in the study's report; the sum above is of those."
    )
    heading = ("change", "does", "difference", "told from 0")
    return f"### What goes with what\n\n{said}\n\n" + table(heading, rows)


def _record(entries: Sequence[Entry]) -> str:
    heading = "## The record"
    if not entries:
        return f"{heading}\n\nNot yet measured: no baseline was promoted."
    shown = []
    for entry in stages(entries):
        support = entry.support
        if support is None:
            continue
        claim = support.claim
        number = "began the line"
        if claim is not None and claim.difference is not None:
            number = words.difference(claim.difference, claim.interval, support.metric, support.min_effect)
        changed = words.settings_text({change.setting: change.new for change in entry.changes})
        shown.append((str(entry.number), support.study, changed, number, f"{support.mean:.3f}"))
    said = (
        "What the studies' verdicts let into the line `documents`: of the studies that are offered to it in turn, "
        "those whose change was shown to be better. Each difference is from its own study, on the seeds that chose. "
        "An entry keeps the verdict that it was made with; the claims above are judged anew."
    )
    lines = [heading, said, table(("entry", "study", "change", "against its predecessor", "on fresh seeds"), shown)]
    total, now = latest_total(entries), current(entries)
    if total is not None and total.total is not None and now is not None:
        measured = total.total.measured
        number = "not finite"
        if measured.difference is not None:
            places = {"min_effect": now.support.min_effect} if now.support else {}
            number = words.difference(measured.difference, measured.interval, total.total.metric, **places)
        claimed = total.total.claimed
        added = "" if claimed is None else f"; the stages' own claims add up to {claimed:+.3f}"
        lines.append(
            f"Measured again, the newest against the original in one campaign: {number}, "
            f"{words.count(measured.n, 'fresh paired seed')}{added}."
        )
    else:
        lines.append("The total was not measured again yet.")
    return "\n\n".join(lines)


def _studies(measured: Mapping[str, Measured | None]) -> str:
    rows = []
    for name, found in measured.items():
        if found is None:
            rows.append((f"`{name}-small`", "not yet measured", "", ""))
            continue
        cost = found.judgement.cost
        answer = found.judgement.known.replace("|", "/")
        rows.append((f"`{name}-small`", answer, str(cost.runs), words.duration(cost.seconds) if cost.seconds else ""))
    said = (
        "What each study says by itself, in its report's words. Training time is added up over its runs; a run that "
        "two studies ask for is trained once, and stands under both."
    )
    return f"## The studies\n\n{said}\n\n" + table(("study", "shown", "runs", "training time"), rows)


def _made(measured: Mapping[str, Measured | None]) -> str:
    """How the page came about, with what its runs took in all."""
    results = {run.result.fingerprint: run.result for found in measured.values() if found for run in found.runs}
    seconds = sum(result.train_seconds or 0.0 for result in results.values())
    took = f" ({len(results)} runs here, {words.duration(seconds)} of training added up; safe to stop)"
    return f"""## Made by

`make documents` runs what is missing of the small forms{took if results else ""},
promotes what their verdicts support, measures the record again, and writes this page. `python -m bench.documents
--store DIR --out docs/documents.md` writes it from a store; with `--documents FOLDER` the doctor reads the documents
again, and the raw results that are kept with them, which some of its findings name (`bench/documents/doctor.json`)."""
