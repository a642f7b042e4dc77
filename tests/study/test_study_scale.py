"""What the engine does beside training grows with the number of runs, and no faster."""

import sqlite3
import weakref

import pytest

from blueberry.records import RunResult
from blueberry.study import engine
from blueberry.study import plan as planning
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

STUDY = """
question = "Which rate?"
base = "recipe.toml"
[vary]
"optimizer.muon.learning_rate" = {{ log = [0.001, 0.9], points = {points} }}
[seeds]
search = 4
confirm = 0
max = 4
"""


class Counted(sqlite3.Connection):
    statements = 0

    def execute(self, *given):
        Counted.statements += 1
        return super().execute(*given)


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """Runs a study of so many runs in process and gives (plans made, SQL statements)."""
    plans = [0]
    plan, connect = planning.plan, sqlite3.connect

    def planned(*given, **more):
        plans[0] += 1
        return plan(*given, **more)

    monkeypatch.setattr(planning, "plan", planned)
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **more: connect(*given, **more, factory=Counted))

    def counts(num_runs: int, folder: str) -> tuple[int, int]:
        (tmp_path / "recipe.toml").write_text("[train]\nupdates = 3\n")
        (tmp_path / "lr.toml").write_text(STUDY.format(points=num_runs // 4))
        study = Study.load(tmp_path / "lr.toml")
        plans[0] = Counted.statements = 0
        with Store.open(tmp_path / folder) as store:
            outcome = engine.run(
                study, data_digest=Synthetic.data_digest, store=store, trainer=Synthetic(), workers=0, lanes=4
            )
        assert len(outcome.results) == num_runs
        return plans[0], Counted.statements

    return counts


def test_planning_and_statements_grow_no_faster_than_runs(counts):
    few_plans, few = counts(80, "few")
    many_plans, many = counts(320, "many")
    assert few_plans == many_plans <= 5
    assert many <= 4.4 * few
    assert few / 80 <= 12


def test_a_finished_study_costs_a_handful_of_statements(counts):
    counts(80, "store")
    plans, statements = counts(80, "store")
    assert plans <= 3
    assert statements <= 40


def test_no_more_results_are_held_than_train_together(counts, monkeypatch):
    living: list[weakref.ref[RunResult]] = []
    most = [0]
    make = Synthetic.result

    def made(self, recipe):
        result = make(self, recipe)
        living.append(weakref.ref(result))
        most[0] = max(most[0], sum(one() is not None for one in living))
        return result

    monkeypatch.setattr(Synthetic, "result", made)
    counts(80, "store")
    assert len(living) == 80
    assert most[0] <= 4

    monkeypatch.setattr(Store, "results", lambda *given: pytest.fail("resuming needs no whole result"))
    counts(80, "store")
    assert len(living) == 80
