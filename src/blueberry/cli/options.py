"""What can be said of a table on the command line: what its columns are, for every command that reads one."""

from typing import Annotated, Any, Literal

import typer


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
