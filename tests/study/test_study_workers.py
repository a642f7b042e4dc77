from pathlib import Path

import pytest
from study_trainers import KillsItself, Raises, make_study

from blueberry.records import Progress, RunResult
from blueberry.study.arms import Run
from blueberry.study.plan import plan
from blueberry.study.synthetic import Synthetic
from blueberry.study.workers import Crew, Ended, Message, Task, train


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, ...]:
    """One seed of five rates, 0.02 the second."""
    return plan(make_study(tmp_path), Synthetic.data_digest, {}).runs[:5]


def hear_out(crew: Crew, task: Task) -> list[Message]:
    heard: list[Message] = []
    while not heard or not isinstance(heard[-1], Ended):
        for about, message in crew.messages(0.1):
            assert about is task
            heard.append(message)
    return heard


def test_a_crash_is_told_with_what_its_own_group_said_last(runs: tuple[Run, ...], tmp_path: Path) -> None:
    crew = Crew(KillsItself(str(tmp_path / "marks"), rate=0.02, times=9), num_workers=1)
    try:
        first, second = Task(runs[:1]), Task(runs[1:2])
        crew.start(first)
        assert crew.num_free == 0
        result, ended = hear_out(crew, first)
        assert result == Synthetic().result(runs[0].recipe)
        assert ended == Ended()
        assert crew.num_free == 1
        crew.start(second)
        assert hear_out(crew, second) == [
            Ended(crash="the worker ended by signal 9 (SIGKILL) (it said last: at work on 0.02)")
        ]
        assert crew.num_free == 1
    finally:
        crew.kill()


def test_progress_is_passed_on_at_most_ten_times_a_second(runs: tuple[Run, ...]) -> None:
    messages = list(train(Synthetic(seconds_per_group=0.35), runs))
    assert 2 <= sum(isinstance(message, Progress) for message in messages) <= 4
    assert sum(isinstance(message, RunResult) for message in messages) == 5
    assert messages[-1] == Ended()


def test_what_came_before_an_exception_is_kept(runs: tuple[Run, ...]) -> None:
    *results, ended = train(Raises(rate=0.03), runs)
    assert results == [Synthetic().result(run.recipe) for run in runs[:2]]
    assert isinstance(ended, Ended)
    assert ended.crash is not None
