"""What the sentences of a judgement say where runs diverged, crashed or are missing."""

import math

import pytest

from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judgement import Judgement
from blueberry.judge.judging import weigh
from blueberry.judge.studies import gather_table
from blueberry.tables.reading import table_of
from blueberry.tables.runs import table_runs

INF = math.inf
BEST, WORSE, LARGE = [3.00, 3.01, 3.02, 3.01], [3.20, 3.21, 3.23, 3.21], [3.30, 3.32, 3.31, 3.31]
WORST = [3.40, 3.42, 3.41, 3.40]


def judged(*runs: list[float], crashed: dict[int, tuple[int, ...]] | None = None, **more: object) -> Judgement:
    """Rates 0.1, 0.2 ... with these losses, one a seed."""
    arms = tuple(
        ArmRuns(
            f"lr={0.1 * n:g}",
            {"lr": round(0.1 * n, 3)},
            dict(enumerate(values)),
            crashed=(crashed or {}).get(n, ()),
        )
        for n, values in enumerate(runs, 1)
    )
    return weigh(Evidence("q", "val_loss", 0.01, 0.05, ("lr",), arms, **more))  # type: ignore[arg-type]


def test_an_arm_that_diverged_on_some_seeds_is_not_called_worse() -> None:
    some = judged(WORST, WORSE, BEST, LARGE, [3.3, 3.3, INF, INF])
    assert some.verdicts[-1].winner is None
    assert "0.3 is better than every other rate tried on 4 seeds, but for 0.5 (2 of 4 runs diverged); its" in some.known
    every = judged(WORST, WORSE, BEST, LARGE, [INF] * 4)
    assert every.verdicts[-1].winner == "lr=0.3"
    assert "0.3 is better than every other rate tried on 4 seeds; its" in every.known
    alone = judged([3.3, 3.3, INF, INF], BEST)
    assert "0.2 is the only rate tried without a run that diverged, on 4 seeds; its" in alone.known
    two = judged([3.3, 3.3, INF, INF], WORSE, BEST, [INF, 3.3, 3.4, 3.3])
    assert "but for 0.1 and 0.4 (3 of 8 runs diverged)" in two.known


def test_who_is_not_separated_is_named_where_some_diverged() -> None:
    few = judged([3.0], [3.1], [3.2])
    assert few.known.endswith("nothing separates it from the other 2 arms.")
    assert judged([3.0], [3.1]).known.endswith("nothing separates it from the other arm.")
    assert judged([3.0], [3.1], [INF]).known.endswith("nothing separates it from 0.2.")
    assert judged([3.0], [INF], [INF]).known.endswith("that chose it.")


@pytest.mark.parametrize(
    ("runs", "crashed", "known", "unknown"),
    [
        (([INF] * 3, [INF] * 3), {}, "every run diverged.", "is best; lower the rates"),
        (([], []), {1: (0, 1), 2: (0, 1)}, "every run crashed.", "4 runs crashed and left no result"),
        (([INF], []), {1: (1, 2), 2: (0,)}, "1 run diverged and 3 runs crashed.", "Mend the cause, then run"),
        (([INF] * 3, [INF, 3.0, 3.0]), {}, "4 runs diverged.", "is best; lower the rates"),
    ],
)
def test_without_a_finite_arm_it_is_said_how_the_runs_ended(runs, crashed, known, unknown) -> None:
    found = judged(*runs, crashed=crashed)
    assert found.best is None
    assert found.known.endswith(known)
    assert unknown in found.unknown
    assert ("diverging" in found.unknown) == (not crashed)


def test_what_is_still_to_run_is_not_called_failed() -> None:
    assert judged([], [], crashed={1: (0,), 2: (0,)}, num_unfinished=5).known.endswith(": every run so far crashed.")
    assert judged([], [], num_unfinished=6).known.endswith(": no run has ended.")


def test_missing_rows_are_to_be_run_and_entered_for_there_is_no_study() -> None:
    rows = [{"arm": arm, "seed": seed, "val_loss": 3.0 + seed / 100} for arm in "ab" for seed in range(3)]
    rows[4]["val_loss"] = None
    remedies = [
        one.remedy for one in weigh(gather_table(table_runs(table_of(rows), ["arm"]))).audits if one.audit == "diverged"
    ]
    assert remedies == ["mend the cause, then make these runs again and enter their numbers"]
