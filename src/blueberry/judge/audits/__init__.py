"""Audits: what would make a claim untrue, looked for in designs (`design`), in how runs were carried out (`execution`),
in runs that have ended (`runs`), and in what a comparison of them rests on (`comparisons`).

An audit is a function that returns its findings; to add one, write it and enter it in the dict of its file.
"""

from collections.abc import Iterable

from blueberry.judge.judgement import Audit

EQUAL = 0.01
"""Budgets that differ by no more than this share are equal."""
BELOW_TRAINING = 0.05
"""Relative, of a validation loss: dropout raises the training loss, and it is measured before the update."""
LEAST_AXIS_VALUES = 3
"""Fewer values of a setting are a comparison, not a range with ends and gaps."""
Span = tuple[float, float]
"""The least and the most of something, over the runs of an arm."""


def block(name: str, message: str, remedy: str) -> Audit:
    """The claim is withheld."""
    return Audit(audit=name, severity="block", message=message, remedy=remedy)


def warn(name: str, message: str, remedy: str) -> Audit:
    """Said, and no more."""
    return Audit(audit=name, severity="warn", message=message, remedy=remedy)


def blocking_first(found: Iterable[Audit]) -> tuple[Audit, ...]:
    """Each finding once, in order, those that block before the rest."""
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.severity != "block"))


def placed(found: Iterable[Audit], name: str, place: str = "") -> list[Audit]:
    """With where they were found before their messages, but for those that begin with the file's name already."""
    return [
        one if one.message.startswith(name) else one.model_copy(update={"message": f"{place or name}: {one.message}"})
        for one in found
    ]


def unequal(amounts: Iterable[tuple[str, Span]]) -> Span | None:
    """The least and the most of a budget, where arms that differ in something else do not share one.

    `amounts`: of each arm, what else it is told apart by (its settings but for those that say how long a run is), and
    its budget. Arms that differ in their length alone ask about length: they may differ as long as there is one
    length on which every combination of the other settings was run.
    """
    by_rest: dict[str, list[Span]] = {}
    for rest, span in amounts:
        by_rest.setdefault(rest, []).append(span)
    groups = list(by_rest.values())
    if not groups or any(all(any(_agree(span, other) for other in group) for group in groups) for span in groups[0]):
        return None
    spans = [span for group in groups for span in group]
    return min(low for low, _ in spans), max(high for _, high in spans)


def _agree(one: Span, other: Span) -> bool:
    """Whether both are one amount, within EQUAL."""
    return max(one[1], other[1]) <= min(one[0], other[0]) * (1 + EQUAL)
