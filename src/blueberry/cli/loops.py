"""The commands for loops that keep and discard, and for the noise they are judged by."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blueberry.cli import JsonOption, QuietOption, StoreOption, _answer, _columns, app, say
from blueberry.cli.options import GoalOption, MetricOption, NamePatternOption, SeedOption, SigmaOption, VaryOption

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
    from blueberry.judge.look_back import look_back, sentences
    from blueberry.judge.loop import doubt, read_loop, rule_change, said
    from blueberry.judge.noise_bank import sigma_of
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
    from blueberry.judge.noise_bank import stored_noise, told
    from blueberry.study.spec import default_store

    banked = stored_noise(Path(store or default_store()), metric)
    _answer(json, {"schema": "blueberry/noise/1", "noise": [one.to_dict() for one in banked]}, told(banked))
    return 0
