"""The commands for what others made: tables, reports, loops that keep and discard, and the noise they are judged by."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from blueberry.cli import JsonOption, QuietOption, StoreOption, _answer, _report_folder, app, say


def _named_columns(help: str) -> Any:
    return typer.Option(metavar="COLUMN[,COLUMN]", help=help, show_default=False)


VaryOption = Annotated[list[str] | None, _named_columns("Columns that tell a table's arms apart.")]
AcrossOption = Annotated[
    list[str] | None, _named_columns("Columns whose every combination is a condition to compare arms under.")
]
TuneOption = Annotated[list[str] | None, _named_columns("Columns in which each arm is compared at its own best.")]
MetricOption = Annotated[
    str | None,
    typer.Option(help="The column that judges.", show_default="val_loss, or the one loss that the table has"),
]
GoalOption = Annotated[
    Literal["minimize", "maximize"] | None,
    typer.Option(help="Whether less or more of it is better.", show_default="minimize"),
]
SeedOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The column that says which runs share a seed.", show_default="seed"),
]
NamePatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help='Settings inside the names of runs, e.g. "lr{lr}_wd{weight_decay}".',
        show_default="what is seen in all of them",
    ),
]
AtOption = Annotated[
    float | None,
    typer.Option(metavar="UPDATE", help="Judge all runs there, where rows are their steps.", show_default="their ends"),
]
SigmaOption = Annotated[
    str | None,
    typer.Option(
        metavar="S|bank:NAME",
        help="The sd of one run, borrowed: 0.0013, 0.0013/10 if of 10 runs, bank:NAME as blueberry noise has it.",
        show_default="as the table's repeats tell",
    ),
]


@app.command()
def analyse(
    table: Annotated[
        Path,
        typer.Argument(
            help="Runs trained elsewhere: CSV, JSON, JSON Lines, Markdown, or a folder.", show_default=False
        ),
    ],
    vary: VaryOption = None,
    across: AcrossOption = None,
    tune: TuneOption = None,
    metric: MetricOption = None,
    goal: GoalOption = None,
    seed: SeedOption = None,
    name_pattern: NamePatternOption = None,
    at: AtOption = None,
    min_effect: Annotated[
        float | None, typer.Option(help="The smallest difference that matters, in its unit.", show_default="0.005")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Chance of any false winner, at most.")] = 0.05,
    sigma: SigmaOption = None,
    target: Annotated[
        float | None, typer.Option(help="A value fixed beforehand: from where on do runs clear it?", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default="reports/TABLE")] = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> int:
    """Judge runs that were trained elsewhere, and write the report."""
    from blueberry import analysis
    from blueberry.cli import words

    given: dict[str, Any] = {"metric": metric, "goal": goal, "seed": seed, "min_effect": min_effect, "alpha": alpha}
    given |= {"name_pattern": name_pattern, "at": at, "target": target}
    if sigma is not None:
        from blueberry.judge.forecast import sigma_of
        from blueberry.study.spec import default_store

        given["sigma"] = sigma_of(sigma, Path(store or default_store()), metric or "val_loss")
    judged = analysis.examine(table, vary=_columns(vary), across=_columns(across), tune=_columns(tune), **given)
    for note in judged.notes if not quiet else ():
        say(note)
    page = judged.report(out or _report_folder(judged.found.table.name))
    _answer(json, {**judged.judgement.to_dict(), "report": str(page)}, words.answer(judged.judgement, page))
    return int(bool(judged.judgement.blocks))


@app.command()
def doctor(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY|TABLE|REPORT.md ...", help="One, or several to check against each other.", show_default=False
        ),
    ],
    vary: VaryOption = None,
    metric: MetricOption = None,
    goal: GoalOption = None,
    seed: SeedOption = None,
    name_pattern: NamePatternOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> int:
    """Look for what would make a claim untrue: in a study, before or after it ran, in a table, in a report."""
    from blueberry import analysis
    from blueberry.cli import words

    given: dict[str, Any] = {"metric": metric, "goal": goal, "seed": seed, "name_pattern": name_pattern}
    found = analysis.checkup(paths, vary=_columns(vary), store=store, **given)
    for note in found.notes if not quiet else ():
        say(note)
    _answer(json, found.to_dict(), words.findings(found.audits))
    return int(found.is_blocked)


CODES = {"keep": 0, "discard": 1, "run again": 3}
"""Exit codes of a decision on one change."""


@app.command()
def judge(
    table: Annotated[
        Path, typer.Argument(help="The runs of a loop in their order: results.tsv and the like.", show_default=False)
    ],
    baseline: Annotated[
        str | None, typer.Option(metavar="RUN", help="The arm that was kept last: a commit, a name; a,b are one.")
    ] = None,
    candidate: Annotated[str | None, typer.Option(metavar="RUN", help="The arm with the change.")] = None,
    vary: VaryOption = None,
    metric: MetricOption = None,
    goal: GoalOption = None,
    seed: SeedOption = None,
    name_pattern: NamePatternOption = None,
    sigma: SigmaOption = None,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Chance that the loop ever keeps a change that is none, at most.")
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a page, judge.md and judge.json.", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A block to paste into a pull request.")] = False,
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> int:
    """Keep a change, discard it, or run again, by exit code: 0, 1, 3. Without runs: look back over the whole loop."""
    from blueberry.judge.forecast import sigma_of
    from blueberry.judge.look_back import look_back, sentences
    from blueberry.judge.loop import doubt, read_loop, rule_change, said
    from blueberry.study.spec import default_store

    if (baseline is None) != (candidate is None):
        given, missing = ("--baseline", "--candidate") if candidate is None else ("--candidate", "--baseline")
        raise typer.BadParameter(
            f"{given} is given without {missing}; a change is judged against a baseline; give both"
        )
    arms = [arm for arm in (baseline, candidate) if arm is not None]
    how: dict[str, Any] = {"metric": metric, "goal": goal, "seed": seed, "name_pattern": name_pattern}
    loop = read_loop(table, **how, vary=_columns(vary), arms=arms)
    borrowed = None if sigma is None else sigma_of(sigma, Path(store or default_store()), loop.metric)
    warned = None if borrowed is None else doubt(loop, borrowed)
    for note in (*loop.notes, *([warned] if warned else [])) if not quiet else ():
        say(note)
    if baseline is None or candidate is None:
        judged = look_back(loop, alpha=alpha, sigma=borrowed)
        text, code = "\n".join(sentences(judged)), 0
    else:
        judged = rule_change(loop, baseline, candidate, alpha=alpha, sigma=borrowed)
        text, code = said(judged), CODES[judged.look.decision]
    if out is not None or markdown:
        from blueberry.report.loop import markdown_of, write_loop  # drawing is slow to load

        page = None if out is None else write_loop(judged, out)
        text = markdown_of(judged).rstrip() if markdown else text
        if page is not None and not markdown:
            text = f"{text}\nsee {page}"
    _answer(json, judged.to_dict(), text)
    return code


@app.command()
def noise(
    metric: Annotated[str, typer.Option(help="Of the validation set.")] = "val_loss",
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Print the noise that this store has measured, by recipe family and horizon."""
    from blueberry.judge.forecast import stored_noise, told
    from blueberry.study.spec import default_store

    banked = stored_noise(Path(store or default_store()), metric)
    _answer(json, {"schema": "blueberry/noise/1", "noise": [one.to_dict() for one in banked]}, told(banked))
    return 0


def _columns(vary: list[str] | None) -> list[str]:
    return [name.strip() for names in vary or [] for name in names.split(",") if name.strip()]
