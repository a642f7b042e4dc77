"""What a person sees of a command: a bar or a line now and then while it runs, and its answer as text."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from blueberry.api import Judged
from blueberry.architecture import Cost
from blueberry.files import printable
from blueberry.judge.forecast import Forecast
from blueberry.judge.judgement import Audit, Judgement
from blueberry.judge.ledger import Entry, entry_line, total_sentence
from blueberry.judge.promotion import Promotion, Refusal
from blueberry.judge.words import count, decimals, duration, metric_value, number, quantity, setting_value
from blueberry.promotions import Remeasured
from blueberry.recipe import Recipe
from blueberry.records import Progress as RunProgress
from blueberry.records import RunResult
from blueberry.study.engine import Snapshot
from blueberry.study.status import KeptRun, StudyStatus, Upkeep

MOST_NAMES = 12
"""Of arms on one line."""


def dry_run(recipe: Recipe, spent: Cost, rates: Sequence[float], *, every_rate: bool = False) -> str:
    """The resolved recipe as TOML, and as comments what it costs and the rates it plans."""
    sizes = spent.parameters
    return "\n".join(
        [
            recipe.to_toml(),
            f"# parameters   {sizes.total:,} in all, {sizes.active:,} active for a token "
            f"({sizes.active / sizes.total:.1%}); {sizes.muon:,} under Muon, {sizes.adamw:,} under AdamW",
            f"# training     {spent.num_updates:,} updates of {recipe.update_tokens:,} tokens, "
            f"{spent.num_tokens:,} tokens in all",
            f"# arithmetic   {quantity(spent.flops_per_token, 'FLOP')} a token, "
            f"{quantity(spent.num_flops, 'FLOP')} in all",
            f"# memory       about {quantity(spent.memory_bytes, 'B')}",
            f"# rate         {_rates(recipe, rates)}",
            *((f"# update {update:>6}  {rate:.6g}" for update, rate in enumerate(rates, 1)) if every_rate else ()),
        ]
    )


def _rates(recipe: Recipe, rates: Sequence[float]) -> str:
    """Where the planned rate begins, is highest and ends."""
    telling = sorted({0, rates.index(max(rates)), len(rates) - 1})
    said = ", ".join(f"{setting_value(rates[update])} at update {update + 1:,}" for update in telling)
    return f"{said}, if the validation loss never stalls" if recipe.schedule.kind == "plateau" else said


def run(result: RunResult, folder: Path) -> str:
    if result.status == "diverged":
        at = f" at update {result.failure.update}" if result.failure is not None and result.failure.update else ""
        return f"diverged{at}: a lower learning rate or more warmup may hold it\nsee {folder}"
    final = result.final
    assert final is not None
    assert final.accuracy is not None, "the built-in trainer measures it"
    bits = "bits per byte unknown"
    if final.bits_per_byte is not None:
        bits = metric_value(final.bits_per_byte, None, "val_bits_per_byte")
    perplexity = f", perplexity {final.perplexity:,.2f}" if final.perplexity is not None else ""
    named = "".join(
        f"\n  {name}: {metric_value(measured.loss, None, 'val_loss')}" for name, measured in result.sets.items()
    )
    return (
        f"validation loss {metric_value(final.loss, None, 'val_loss')} ({bits}{perplexity}, "
        f"accuracy {final.accuracy:.1%}) after {result.num_updates:,} updates, {result.num_tokens:,} tokens, "
        f"{duration(result.train_seconds or 0.0)}; one seed: no claim rests on it{named}\nsee {folder}"
    )


def forecast(seen: Forecast) -> str:
    """The plan of a study for a reader."""
    at_most = f" ({seen.runs_at_most} of them only if needed)" if seen.runs_at_most else ""
    if seen.method == "locate" and seen.runs_expected < seen.runs_todo:
        at_most = f" at most, {seen.runs_expected} if the curve is one smooth valley"
    # what a program that is not ours does with its updates, only it knows
    length = f"of at most {seen.updates:,} updates each" if seen.updates is not None else "of unknown length"
    lines = [
        seen.question,
        "",
        *_arms(seen),
        *([f"mixed      only the sums of these are measured: {'; '.join(seen.aliases)}"] if seen.aliases else []),
        f"seeds      {_seeds(seen)}",
        f"runs       {seen.runs_done} done, {seen.runs_todo} to do{at_most}, {length}",
        f"to do      {_amount(seen)}",
        *_shared(seen),
        f"here       {_workers(seen)}: {time_of(seen)}; {_disk(seen)}",
        f"detects    {_detects(seen)}",
        *_changed(seen),
        *_builds(seen),
    ]
    return "\n".join(lines)


def _names(names: Sequence[str]) -> str:
    """So many that a terminal's lines can hold them."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: MOST_NAMES - 2])} ... {names[-1]} ({len(names) - MOST_NAMES + 1} more between)"


def _arms(seen: Forecast) -> list[str]:
    """What is compared, and with [tune] or [across] of what each part is made."""
    whole = [name for name, _ in seen.arms]
    so_far = " so far" if seen.method in ("locate", "optuna") and not seen.parts else ""
    line = f"arms       {len(whole)}{so_far}: {_names(whole)}"
    if not seen.parts:
        return [line]
    kinds = {arms for _, arms in seen.parts}
    if len(kinds) > 1:
        return [line, *(f"parts      {name}: {_names(arms)}" for name, arms in seen.parts)]
    inside = seen.parts[0][1]
    if seen.joined == "tune":
        of = f" of {len(inside)}: {_names(inside)}" if inside else ""
        return [line, f"parts      each arm at its own best{of}"]
    arms = f"arms       {len(inside)}: {_names(inside)}" if inside else "arms       proposed from results"
    return [arms, f"parts      under each of these {len(whole)}: {_names(whole)}"]


def _seeds(seen: Forecast) -> str:
    seeds = count(seen.seeds_search, "seed")
    if seen.method == "locate":
        seeds = f"1 seed first, up to {seen.seeds_max} where they narrow down the best"
    elif seen.method == "race":
        seeds += f", up to {seen.seeds_max} for what is open"
    if not seen.seeds_confirm:
        return seeds
    fresh = count(seen.seeds_confirm, "fresh one")
    if seen.joined == "tune":
        each = "" if seen.method == "locate" else " for every point"
        return f"{seeds}{each}, then {fresh} for each arm's best, and as many for the winner"
    return f"{seeds}, then {fresh} for the best{' under each' if seen.joined else ''}"


def _changed(seen: Forecast) -> list[str]:
    """How the file differs from what it last ran as."""
    change = seen.changed
    if change is None:
        return []
    kept = f"{count(change.reused, 'result')} reused, {change.set_aside} set aside (they stay in the store)"
    new = [f"           new arms: {_names(change.new_arms)}"] if change.new_arms else []
    return [f"changed    since it last ran: {kept}", *new]


def _builds(seen: Forecast) -> list[str]:
    if not seen.other_builds:
        return []
    line = f"builds     {_from_another_build(seen.other_builds, seen.runs_done)}"
    if seen.other_builds == seen.runs_done and not seen.runs_todo:
        return [line]
    return [f"{line}: with runs of this one, drift blocks any claim; train all in another --store, or use that build"]


def _from_another_build(num: int, of: int) -> str:
    return f"{num} of {count(of, 'result')} from another build of the trainer"


def _shared(seen: Forecast) -> list[str]:
    if not seen.shared_updates or seen.flops is None:
        return []
    share = seen.shared_flops / (seen.flops + seen.shared_flops)
    saved = f", about {duration(seen.shared_seconds)}" if seen.shared_seconds is not None else ""
    return [
        f"shared     {seen.shared_runs} runs begin where another has been: {seen.shared_updates:,} updates, "
        f"{quantity(seen.shared_flops, 'FLOP')}{saved} need no training ({share:.0%} of what the runs are alone)"
    ]


def _amount(seen: Forecast) -> str:
    if seen.tokens is None or seen.flops is None:
        return "tokens and FLOP unknown: only the command knows, and its metrics lines may say"
    return f"{quantity(seen.tokens, 'tokens')}, {quantity(seen.flops, 'FLOP')}"


def _disk(seen: Forecast) -> str:
    if seen.disk_bytes is None:
        return "disk unknown"
    weights = f", {quantity(seen.weights_bytes, 'B')} of it weights" if seen.weights_bytes else ""
    return f"about {quantity(seen.disk_bytes, 'B')} on disk{weights}"


def _workers(seen: Forecast) -> str:
    lanes = f" of {seen.lanes} lanes" if seen.lanes > 1 else ""
    return f"{seen.workers} worker{'s' if seen.workers > 1 else ''}{lanes}"


def time_of(seen: Forecast) -> str:
    """By the clock, and whence that is known."""
    if not seen.runs_todo:
        return "nothing left to run"
    if seen.seconds is None:
        return "time unknown until the first run here has ended"
    whence = "by earlier runs of this model" if seen.flops is not None else "by its runs so far"
    whence = "by updates that were timed just now" if seen.seconds_from == "updates" else whence
    return f"about {duration(seen.seconds)}, {whence}"


def _detects(seen: Forecast) -> str:
    if seen.method == "locate" and seen.joined != "tune":
        return f"the best value to within {seen.min_effect:g} ({seen.metric}), if the curve is one smooth valley"
    if seen.detectable is None:
        return f"unknown until two arms have run on two seeds; min_effect is {seen.min_effect:g} ({seen.metric})"
    places = decimals(seen.min_effect)
    whose = "runs" if seen.noise_source == "study" else "earlier runs of this recipe family, equally long"
    said = (
        f"a difference of {number(seen.detectable, places)} ({seen.metric}) or more, with power .8; min_effect is "
        f"{seen.min_effect:g} (paired sd {number(seen.noise_sd, places + 1)}, from {seen.noise_n} {whose})"
    )
    suggested = seen.suggested_min_effect
    if suggested is None or suggested <= seen.min_effect:
        return said
    return f"{said}; half the measured noise of a run would be a min_effect of {suggested:g}"


def answer(judgement: Judgement, page: Path) -> str:
    """Two lines, and where to read more."""
    return f"Known:   {judgement.known}\nOpen:    {judgement.unknown}\nReport:  {page}"


def judged(found: Judged, page: Path) -> str:
    """The answer, and what failed."""
    lines = [answer(found.judgement, page)]
    if found.other_builds:
        lines.append(f"Builds:  {_from_another_build(found.other_builds, len(found.plan.done))} are reused")
    if found.failures:
        failure = found.failures[0].failure
        reason = f": {failure.message}" if failure is not None else ""
        lines.append(f"Failed:  {len(found.failures)} runs crashed three times and stay to do{reason}")
    return "\n".join(lines)


def findings(found: Sequence[Audit]) -> str:
    """Each finding in two lines, and how many there are."""
    if not found:
        return "nothing found"
    num_blocks = sum(finding.severity == "block" for finding in found)
    lines = [f"{one.severity:5}  {one.audit}: {one.message}\n       -> {one.remedy}" for one in found]
    return "\n".join([*lines, "", f"{num_blocks} block a claim, {len(found) - num_blocks} warn"])


def study_statuses(found: Sequence[StudyStatus], asked: Path | None = None) -> str:
    """`asked` is the study file whose status it is; None for all."""
    if not found:
        who = f"{asked} has not" if asked is not None else "no study has"
        return f"{who} run here yet; blueberry run {asked or 'STUDY'} begins it"
    return "\n".join(line for one in found for line in _study_status(one))


def _study_status(one: StudyStatus) -> list[str]:
    total = one.done + len(one.running) + one.failed + one.left
    diverged = f" ({one.diverged} diverged)" if one.diverged else ""
    lines = [
        f"{one.name}: {one.done} of {total} runs done{diverged}, {len(one.running)} running, "
        f"{one.failed} failed, {one.left} left"
    ]
    for running in one.running:
        of = f" of {running.num_updates}" if running.num_updates is not None else ""
        done = f"update {running.update}{of}" if running.update is not None else "starting"
        lines.append(f"  {running.run}  {done}")
    if one.other_builds:
        lines.append(f"  {_from_another_build(one.other_builds, one.done)}")
    if one.abandoned:
        lines.append(f"  {one.abandoned} were begun by a process that is gone; blueberry run {one.path} goes on")
    if one.last_failure:
        lines.append(f"  last failure: {one.last_failure}")
    return lines


def upkeep(found: Upkeep) -> str:
    """A line for each run, and what they take in all."""
    weights = sum(run.weights_bytes for run in found.runs)
    checkpoints = sum(run.checkpoint_bytes for run in found.runs)
    lines = [_kept_run(run) for run in found.runs]
    if found.pruned is not None:
        spared = (
            f"; {found.spared} spared: they are being trained, or another study asks for them" if found.spared else ""
        )
        lines.append(f"removed {found.pruned} of {found.pruned_runs} runs, {quantity(found.freed_bytes, 'B')}{spared}")
    if found.asked_by:
        again = "their next runs train it again" if len(found.asked_by) > 1 else "its next run trains it again"
        lines.append(f"asked for by {', '.join(found.asked_by)}; {again}")
    disk = f"{quantity(weights, 'B')} of weights, {quantity(checkpoints, 'B')} of checkpoints"
    return "\n".join([*lines, f"{count(len(found.runs), 'run')}: {disk}"])


def _kept_run(run: KeptRun) -> str:
    loss = number(run.val_loss, 4)
    disk = f"{quantity(run.weights_bytes + run.checkpoint_bytes, 'B')}"
    whose = f"{', '.join(run.studies)}: {run.run}" if run.studies else ""
    return f"{run.fingerprint}  {run.status:<11}  {loss:>8}  {disk:>8}  {whose}".rstrip()


def decided(found: Promotion | Refusal) -> str:
    """A line for the entry, or one for each reason against it."""
    if isinstance(found, Refusal):
        return _refused(found)
    return entry_line(found.entry) if found.is_new else f"the baseline already: {entry_line(found.entry)}"


def decided_dict(found: Promotion | Refusal) -> dict[str, Any]:
    made = found if isinstance(found, Refusal) else found.entry
    return _entry_dict("promoted", made, is_new=not isinstance(found, Refusal) and found.is_new)


def remeasured(found: Remeasured) -> str:
    if isinstance(found.entry, Refusal):
        return _refused(found.entry)
    assert found.entry.total is not None
    known = "" if found.is_new else "measured before: "
    return f"{known}{found.entry.line} #{found.entry.number}: {total_sentence(found.entry.total)}"


def remeasured_dict(found: Remeasured) -> dict[str, Any]:
    is_new = found.is_new and not isinstance(found.entry, Refusal)
    trained = found.judged.num_trained if found.judged is not None else 0
    return {**_entry_dict("measured", found.entry, is_new=is_new), "trained": trained}


def _entry_dict(done: str, found: Entry | Refusal, *, is_new: bool) -> dict[str, Any]:
    is_done = not isinstance(found, Refusal)
    reasons = [] if is_done else list(found.reasons)
    entry = found.model_dump(mode="json") if is_done else None
    return {done: is_done, "is_new": is_new, "reasons": reasons, "entry": entry}


def _refused(found: Refusal) -> str:
    return "\n".join(f"refused: {reason}" for reason in found.reasons)


# --- While something runs, on standard error ---

T = TypeVar("T")
LEAST_SECONDS = 2.0
"""After which what was done since the first look says how long the rest takes."""
LINE_SECONDS = 15.0
"""Between two lines where there is no terminal to draw a bar on."""
Watching = AbstractContextManager[Callable[[T], None] | None]
Step = tuple[str, int, int, float, Sequence[str | None]]
"""What is going on, updates done and in all, tokens per second, and lines to be said once."""


def watching_a_study(name: str, *, quiet: bool, no_color: bool) -> Watching[Snapshot]:
    """Gives the engine's `on_event`. None when nothing is to be shown."""

    def step(seen: Snapshot) -> Step:
        speed = sum(one.tokens_per_second or 0.0 for one in seen.running)
        failed = f", {seen.failed} failed" if seen.failed else ""
        running = sum(len(one.fingerprints) for one in seen.running)
        what = f"{name}: {seen.done} of {seen.total} runs done, {running} running{failed}"
        return what, seen.updates_done, seen.updates_total, speed, seen.notes

    return _watching(step, quiet, no_color)


def watching_a_run(*, quiet: bool, no_color: bool) -> Watching[RunProgress]:
    """Gives `on_progress` of a single run. None when nothing is to be shown."""

    def step(seen: RunProgress) -> Step:
        assert seen.num_updates is not None, "the built-in trainer knows"
        losses = [loss for loss in seen.train_losses if loss is not None]
        loss = f", loss {number(losses[0], 4)}" if losses else ""
        what = f"update {seen.update} of {seen.num_updates}{loss}"
        return what, seen.update, seen.num_updates, seen.tokens_per_second or 0.0, (seen.note,)

    return _watching(step, quiet, no_color)


@contextmanager
def _watching(step: Callable[[T], Step], quiet: bool, no_color: bool) -> Iterator[Callable[[T], None] | None]:
    if quiet:
        yield None
        return
    noted, first = set[str](), list[tuple[float, int]]()
    with _display(no_color) as (show, note):

        def on_event(seen: T) -> None:
            what, done, total, speed, notes = step(seen)
            for line in notes:
                if line is not None and line not in noted:
                    noted.add(line)
                    note(printable(line))
            rest = f"{speed:,.0f} tokens/s" if speed else "starting"
            if not first:
                first.append((time.monotonic(), done))
            seconds, updates = time.monotonic() - first[0][0], done - first[0][1]
            if updates > 0 and seconds >= LEAST_SECONDS:
                rest += f", {duration((total - done) * seconds / updates)} left"
            show(done / max(total, 1), what, rest)

        yield on_event


@contextmanager
def _display(no_color: bool) -> Iterator[tuple[Callable[[float, str, str], None], Callable[[str], None]]]:
    """What shows how far something is (a fraction, what, and the rest), and what leaves a line standing."""
    from rich.console import Console  # slow to load
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, no_color=no_color or None, highlight=False)
    if not console.is_terminal:
        said_at = -LINE_SECONDS

        def line_now_and_then(fraction: float, what: str, rest: str) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= LINE_SECONDS:
                said_at = time.monotonic()
                on_standard_error(printable(f"{fraction:4.0%}  {what}; {rest}"))

        yield line_now_and_then, on_standard_error
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rest]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0, rest="")

        def show(fraction: float, what: str, rest: str) -> None:
            bar.update(task, completed=fraction, description=printable(what), rest=rest)

        yield show, lambda line: bar.console.print(line, markup=False)


def on_standard_error(line: str) -> None:
    """A line that stands, above a bar if there is one."""
    print(line, file=sys.stderr, flush=True)
