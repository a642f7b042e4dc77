"""The commands for loops that keep and discard, and for the noise they are judged by."""

from pathlib import Path
from typing import Annotated

import typer

from blueberry.cli import GoalOption, JsonOption, MetricOption, QuietOption, SeedOption, _answer, app, say

CODES = {"keep": 0, "discard": 1, "run again": 3}
"""Exit codes of a decision on one change."""

SigmaOption = Annotated[
    str | None,
    typer.Option(
        metavar="S",
        help="The sd of one run, where the table has no repeats: 0.0013, or 0.0013/10 if measured on 10 runs.",
        show_default="as the table's repeats tell",
    ),
]


@app.command()
def judge(
    table: Annotated[
        Path, typer.Argument(help="The runs of a loop in their order: results.tsv and the like.", show_default=False)
    ],
    baseline: Annotated[
        str | None, typer.Option(metavar="RUN", help="The arm that was kept last: a commit, a name; a,b are one.")
    ] = None,
    candidate: Annotated[str | None, typer.Option(metavar="RUN", help="The arm with the change.")] = None,
    metric: MetricOption = None,
    goal: GoalOption = None,
    seed: SeedOption = None,
    sigma: SigmaOption = None,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Chance that the loop ever keeps a change that is none, at most.")
    ] = 0.05,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Keep a change, discard it, or run again, by exit code: 0, 1, 3. Without runs: look back over the whole loop."""
    from blueberry.judge.look_back import look_back, sentences
    from blueberry.judge.loop import read_loop, rule_change, said
    from blueberry.stats.noise import read_sigma

    if (baseline is None) != (candidate is None):
        given, missing = ("--baseline", "--candidate") if candidate is None else ("--candidate", "--baseline")
        raise typer.BadParameter(
            f"{given} is given without {missing}; a change is judged against a baseline; give both"
        )
    borrowed = None if sigma is None else read_sigma(sigma)
    arms = [arm for arm in (baseline, candidate) if arm is not None]
    loop = read_loop(table, metric=metric, goal=goal, seed=seed, arms=arms)
    for note in loop.notes if not quiet else ():
        say(note)
    if baseline is None or candidate is None:
        back = look_back(loop, alpha=alpha, sigma=borrowed)
        _answer(json, back.to_dict(), "\n".join(sentences(back)))
        return 0
    ruling = rule_change(loop, baseline, candidate, alpha=alpha, sigma=borrowed)
    _answer(json, ruling.to_dict(), said(ruling))
    return CODES[ruling.look.decision]
