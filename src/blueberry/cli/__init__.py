"""Words in, words out. Every command loads what it needs when it runs, so that help is quick and torch stays out."""

import errno
import json as jsonlib
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from blueberry.errors import ReportError
from blueberry.files import printable

app = typer.Typer(
    name="blueberry",
    help="Train small language models, and run the studies that choose their settings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Folder of results, checkpoints and prepared text.", envvar="BLUEBERRY_STORE"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress, only the answer.")]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="Plain text.", envvar="NO_COLOR")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
LogOption = Annotated[
    list[str] | None,
    typer.Option("--log", help="Also write each run for wandb, tensorboard or mlflow; repeatable.", show_default=False),
]
StudyArgument = Annotated[Path, typer.Argument(help="A study file (TOML).", show_default=False)]

KINDS = "sweep, compare, ablation, schedule, search, horizon, scaling or data."
MOST_WORKERS = 4096
WorkersOption = Annotated[
    int | None, typer.Option(min=1, max=MOST_WORKERS, help="Worker processes.", show_default="as many as pay")
]


def _version(asked: bool) -> None:
    if asked:
        import blueberry as package

        say(f"blueberry {package.__version__}", error=False)
        raise typer.Exit


@app.callback()
def blueberry(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train small language models, and run the studies that choose their settings."""


def say(text: str, *, error: bool = True, longest: bool = False) -> None:
    """Print lines, on standard error or as the answer: the only place where a command prints, fit for a terminal.

    `longest`: also lines that nobody reads to their end.
    """
    typer.echo(printable(text, longest=None) if longest else printable(text), err=error)


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe file (TOML), one that comes with Blueberry, ledger:NAME, or a run's fingerprint.",
            show_default=False,
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="Settings to change.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json and curves.png.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would do; train nothing.")] = False,
    rates: Annotated[bool, typer.Option("--rates", help="With --dry-run: the rate at every update.")] = False,
    log: LogOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
) -> int:
    """Train one run."""
    from blueberry import api
    from blueberry.architecture import cost
    from blueberry.cli import words
    from blueberry.records import StudyRun
    from blueberry.sinks import SINGLE_RUNS, logging_to

    made = api.load_recipe(recipe, overrides or (), store=store)
    if dry_run:
        spent = cost(made)
        planned = made.planned_rates()
        document = {"recipe": made.model_dump(), **spent.model_dump(), "rates": planned}
        _answer(json, document, words.dry_run(made, spent, planned, every_rate=rates), longest=True)
        return 0
    if rates:
        raise typer.BadParameter("--rates is given without --dry-run; only a dry run prints rates; add --dry-run")
    if api.rank()[0] > 0:  # of several processes for one run the first alone tells of it
        return 0 if api.train(made, store=store).status == "completed" else 1
    with (
        logging_to(log or (), Path(store or api.default_store()), SINGLE_RUNS, say) as tell,
        words.watching_a_run(quiet=quiet, no_color=no_color) as on_progress,
    ):
        result = api.train(made, store=store, on_progress=on_progress)
        tell(StudyRun(result.fingerprint, made.seed, "search", result, study=SINGLE_RUNS))
    from blueberry.report import write_run  # drawing is slow to load

    folder = write_run(result, out or Path("runs") / result.fingerprint)
    _answer(json, result.model_dump(mode="json"), words.run(result, folder))
    return 0 if result.status == "completed" else 1


@app.command()
def bench(
    sizes: Annotated[list[str] | None, typer.Argument(help="pico, nano, small.", show_default="pico nano")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Turns of every side.")] = 5,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> int:
    """This machine's speed of training, against a plain trainer's and its products' peak."""
    from blueberry.bench import measured

    folder = Path(store or ".blueberry") / "data"
    _answer(json, *measured(sizes, folder, rounds=rounds, tell=None if quiet else say))
    return 0


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help=KINDS, show_default=False)],
    base: Annotated[
        str, typer.Option(metavar="RECIPE|ledger:NAME", help="The recipe that its arms start from.")
    ] = "moe-nano",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write.", show_default="KIND.toml")
    ] = None,
    store: StoreOption = None,
) -> int:
    """Write a commented study file to begin with."""
    from blueberry.study.sections import LEDGER, write_study_file

    if base.startswith(LEDGER):
        from blueberry import api

        api.load_recipe(base, store=store)  # that there is such a line
    path = write_study_file(kind, base, output or Path(f"{kind}.toml"))
    say(f"wrote {path}; next: blueberry plan {path}, then blueberry run {path}", error=False)
    return 0


@app.command()
def plan(
    study: StudyArgument,
    json: JsonOption = False,
    store: StoreOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes to plan for.", show_default=False)
    ] = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Time some updates where no earlier run tells the speed.")
    ] = True,
) -> int:
    """Say what a study would run, how long it takes and what it could detect; run nothing."""
    from blueberry import api
    from blueberry.cli import words
    from blueberry.judge.audits.design import objections
    from blueberry.study.spec import Study

    loaded = Study.load(study, store)
    seen = api.foresee(loaded, Path(store or api.default_store()), workers, timing=timing)
    found = objections(loaded)
    text = "\n".join([words.forecast(seen), *(["", words.findings(found)] if found else [])])
    _answer(json, {**seen.to_dict(), "audits": [finding.model_dump() for finding in found]}, text)
    return 0


@app.command()
def run(
    study: StudyArgument,
    workers: WorkersOption = None,
    on: Annotated[
        str | None, typer.Option(metavar="ray|auto|ray://HOST:PORT", help="Run on Ray: one started here, or a cluster.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default="reports/STUDY")] = None,
    log: LogOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
) -> int:
    """Run what is missing of a study, judge it and write the report. Safe to repeat, interrupt and start twice."""
    from blueberry import api
    from blueberry.cli import words
    from blueberry.sinks import logging_to
    from blueberry.study.spec import Study

    loaded = Study.load(study, store)

    def on_forecast(seen: api.Forecast) -> None:
        words.on_standard_error(printable(f"{loaded.name}: {words.time_of(seen)}"))

    with (
        logging_to(log or (), Path(store or api.default_store()), loaded.name) as tell,
        words.watching_a_study(loaded.name, quiet=quiet, no_color=no_color) as on_event,
    ):
        judged = api.conduct(
            loaded,
            store=store,
            workers=workers,
            on=on,
            on_forecast=None if quiet or on else on_forecast,
            on_event=on_event,
            on_result=tell if log else None,  # telling nobody would read every result
        )
    return _report(judged, out or _report_folder(loaded.name), json)


@app.command()
def report(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default="reports/STUDY")] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Judge the runs there are and write the report; train nothing."""
    from blueberry import api
    from blueberry.study.spec import Study

    loaded = Study.load(study, store)
    return _report(api.look(loaded, Path(store or api.default_store())), out or _report_folder(loaded.name), json)


@app.command()
def status(
    study: Annotated[
        Path | None, typer.Argument(help="A study file; without one, every study of the store.", show_default=False)
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Say what is done, running, failed and left."""
    from blueberry import api
    from blueberry.cli import words
    from blueberry.lm.trainer import code_digest
    from blueberry.study.status import study_statuses
    from blueberry.study.store import Store

    with Store.open(Path(store or api.default_store()), create=False) as opened:
        found = study_statuses(opened, study, code_digest())
    _answer(json, {"studies": [one.to_dict() for one in found]}, words.study_statuses(found, study))
    return 0


@app.command()
def runs(
    study: Annotated[
        Path | None, typer.Argument(help="A study file; without one, every run of the store.", show_default=False)
    ] = None,
    prune: Annotated[
        Literal["weights", "checkpoints", "runs"] | None,
        typer.Option(help="Remove these of them; runs: results and all.", show_default=False),
    ] = None,
    run: Annotated[
        str, typer.Option(help="One run alone, by the beginning of its fingerprint.", show_default=False)
    ] = "",
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """List the runs that a store keeps and what they take on disk; remove what is no longer wanted."""
    from blueberry import api
    from blueberry.cli import words
    from blueberry.study.status import Upkeep, kept_runs
    from blueberry.study.status import prune as remove
    from blueberry.study.store import Store

    if prune == "runs" and study is None and not run:
        given = "--prune runs is given without a study or a run; it would forget every result"
        raise typer.BadParameter(f"{given}; name the STUDY, or a --run")
    with Store.open(Path(store or api.default_store()), create=False) as opened:
        found = Upkeep(kept_runs(opened, study, run)) if prune is None else remove(opened, prune, study, run)
    _answer(json, found.to_dict(), words.upkeep(found))
    return 0


@app.command()
def promote(
    study: StudyArgument,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="NAME", help="Line of baselines.", show_default="the base recipe's name"),
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Make a study's winner the baseline, if its verdict supports that; else say why not."""
    from blueberry import promotions
    from blueberry.cli import words
    from blueberry.judge.promotion import Refusal
    from blueberry.study.spec import Study

    decided = promotions.promote(Study.load(study, store), store=store, to=to)
    _answer(json, words.decided_dict(decided), words.decided(decided))
    return int(isinstance(decided, Refusal))


@app.command()
def ledger(
    remeasure: Annotated[
        str | None,
        typer.Option("--remeasure", metavar="NAME", help="Run a line's newest baseline against the original."),
    ] = None,
    rollback: Annotated[
        str | None,
        typer.Option("--rollback", metavar="NAME", help="Go back to what a line's newest baseline replaced."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="Print a line's newest baseline as a recipe file.")
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Remeasure every stage between too.")] = False,
    seeds: Annotated[int, typer.Option(min=3, max=1000, help="Fresh seeds of a remeasurement.")] = 5,
    workers: WorkersOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for ledger.md, ledger.json and a picture.")] = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
) -> int:
    """Show the lines of baselines with their evidence; measure a line's total; roll a line back."""
    from blueberry import promotions
    from blueberry.cli import words
    from blueberry.judge.ledger import entry_line, terminal
    from blueberry.judge.promotion import Refusal

    asked = {"--remeasure": remeasure, "--rollback": rollback, "--recipe": recipe}
    if len(given := [name for name, line in asked.items() if line is not None]) > 1:
        raise typer.BadParameter(f"{given[0]} is given beside {given[1]}; they are two commands; give one of them")
    if stages and remeasure is None:
        raise typer.BadParameter(
            "--stages is given without --remeasure; only that measures stages; add --remeasure NAME"
        )
    document, text, code = None, None, 0
    if recipe is not None:
        from blueberry import api

        made = api.load_recipe(f"ledger:{recipe}", store=store)
        _answer(json, {"recipe": made.model_dump(mode="json")}, made.to_toml().rstrip("\n"), longest=True)
        return 0
    if rollback is not None:
        entry = promotions.rollback(rollback, store=store)
        document, text = {"entry": entry.model_dump(mode="json")}, entry_line(entry)
    elif remeasure is not None:
        with words.watching_a_study(f"remeasure {remeasure}", quiet=quiet, no_color=no_color) as on_event:
            made = promotions.remeasure(
                remeasure, store=store, workers=workers, num_seeds=seeds, every_stage=stages, on_event=on_event
            )
        document, text = words.remeasured_dict(made), words.remeasured(made)
        code = int(isinstance(made.entry, Refusal))
    view = promotions.ledger(store=store)
    page = None
    if out is not None:
        from blueberry.report.ledger import write_ledger  # drawing is slow to load

        page = write_ledger(view, out)
    if document is None or text is None:
        document, text = view.to_dict(), terminal(view)
    _answer(json, document, text if page is None else f"{text}\nsee {page}")
    return code


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run's fingerprint, or the beginning of it.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Write a trained model as safetensors, config and tokenizer, and for transformers where that agrees exactly."""
    from blueberry import api

    said = api.export(run, folder, store=store)
    _answer(json, {"folder": str(folder), "wrote": said}, said)
    return 0


@app.command()
def sample(
    run: Annotated[
        str, typer.Argument(help="A run's fingerprint, the beginning of one, or its result.json.", show_default=False)
    ],
    prompt: Annotated[str, typer.Option(help="Text to continue; empty begins a document.")] = "",
    tokens: Annotated[int, typer.Option(min=1, max=10**6, help="Tokens to write, at most.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Divides the logits; 0 takes the likeliest token each time.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the draws.")] = 0,
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Print text from a trained run."""
    from dataclasses import asdict

    from blueberry import api

    made = api.sample(run, prompt, num_tokens=tokens, temperature=temperature, seed=seed, store=store)
    _answer(json, asdict(made), made.text, longest=True)
    return 0


def _report_folder(name: str) -> Path:
    """Where the report of a study or table of that name goes: always in `reports`, also of a file "...toml"."""
    return Path("reports") / (re.sub(r"[/\\\0]", "_", name) if name.strip(".") else "unnamed")


def _report(judged: Any, folder: Path, json: bool) -> int:
    """Write the report and give its answer; exit code 1 when runs failed or a claim is blocked."""
    from blueberry.cli import words

    page = judged.report(folder)
    facts = {"report": str(page), "trained": judged.num_trained, "failed": len(judged.failures)}
    _answer(json, {**judged.judgement.to_dict(), **facts}, words.judged(judged, page))
    return 1 if judged.failures or judged.judgement.blocks else 0


def _answer(json: bool, document: dict[str, Any], text: str, *, longest: bool = False) -> None:
    """The answer on standard output. Raises: ReportError if it cannot be written there."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "closed")
        written = jsonlib.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) if json else text
        say(written, error=False, longest=json or longest)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as cause:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (Python flushes it once more at its end)
        raise ReportError(
            f"standard output: {cause.strerror}; the answer must be written somewhere; free space"
        ) from None


from blueberry.cli import tables  # noqa: E402, F401 (its commands are registered when it is read)
