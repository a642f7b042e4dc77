"""What a sink does wrong stops nothing but itself."""

import threading
import time
from dataclasses import replace

import pytest

from blueberry import sinks
from blueberry.errors import SinkError
from blueberry.recipe import Recipe
from blueberry.records import StudyRun
from blueberry.sinks import Feed, file_name, find_sink, logging_to, points
from blueberry.study.synthetic import Synthetic


def a_run(seed=0, rate=0.03, arm="learning_rate=0.03", part="") -> StudyRun:
    recipe = Recipe().with_({"seed": seed, "optimizer.muon.learning_rate": rate, "train.updates": 12, "evaluate.every_updates": 5})  # fmt: skip
    return StudyRun(arm, seed, "search", Synthetic().result(recipe), part=part, study="lr sweep")


class Fake:
    """Raises at one point, or never."""

    def __init__(self, raises=""):
        self.raises, self.written, self.thread = raises, [], None

    def open(self, folder, study):
        if self.raises == "open":
            raise OSError(30, "Read-only file system")
        return self

    def result(self, run):
        self.thread = threading.current_thread()
        if self.raises == "result":
            raise ValueError("no\nroom")
        if self.raises == "exit":
            raise SystemExit(3)
        if self.raises == "second" and self.written:
            raise ValueError("no more")
        self.written.append(sinks.key(run))


def feed_of(fake, tmp_path, said):
    return Feed("fake", fake.open, tmp_path, "study", said.append)


def test_a_run_is_written_once_by_another_thread(tmp_path):
    fake, said = Fake(), []
    feed = feed_of(fake, tmp_path, said)
    for run in (a_run(0), a_run(1), a_run(0)):
        feed.tell(run)
    feed.close(time.monotonic() + 10)
    assert fake.written == [sinks.key(a_run(0)), sinks.key(a_run(1))]
    assert fake.thread is not threading.current_thread()
    assert said == []


@pytest.mark.parametrize(
    ("raises", "written", "reason"),
    [("open", 0, "Read-only file system"), ("result", 0, "ValueError: no room"), ("exit", 0, "SystemExit: 3"),
     ("second", 1, "no more")],
)  # fmt: skip
def test_a_sink_that_raises_says_so_once_and_is_left_out(tmp_path, raises, written, reason):
    fake, said = Fake(raises), []
    feed = feed_of(fake, tmp_path, said)
    for seed in range(2):
        feed.tell(a_run(seed))
        time.sleep(0.02)
    feed.close(time.monotonic() + 10)
    feed.tell(a_run(5))
    assert len(fake.written) == written
    assert len(said) == 1
    assert said[0].startswith("--log fake: ")
    assert reason in said[0]
    assert "runs go on; the same command writes what is missing" in said[0]
    assert "\n" not in said[0]


def test_a_sink_that_hangs_is_not_waited_for(tmp_path):
    class Hangs(Fake):
        def result(self, run):
            time.sleep(60)

    said = []
    feed = feed_of(Hangs(), tmp_path, said)
    for seed in range(3):
        feed.tell(a_run(seed))
    began = time.monotonic()
    feed.close(began + 0.3)
    assert time.monotonic() - began < 5
    assert len(said) == 1
    assert "too slow to keep up" in said[0]


def test_a_sink_that_is_far_behind_does_not_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "MOST_WAITING", 2)
    gate = threading.Event()

    class Waits(Fake):
        def result(self, run):
            gate.wait(10)
            super().result(run)

    fake, said = Waits(), []
    feed = feed_of(fake, tmp_path, said)
    for seed in range(10):
        feed.tell(a_run(seed))
    gate.set()
    feed.close(time.monotonic() + 10)
    assert 2 <= len(fake.written) <= 3
    assert f"{10 - len(fake.written)} runs are missing" in said[0]


def test_one_sink_that_fails_leaves_the_other_alone(tmp_path, monkeypatch):
    good, bad, said = Fake(), Fake("result"), []
    monkeypatch.setattr(sinks, "find_sink", lambda name: {"good": good.open, "bad": bad.open}[name])
    with logging_to(["bad", "good"], tmp_path, "study", said.append) as tell:
        tell(a_run(0))
        tell(a_run(1))
    assert len(good.written) == 2
    assert len(said) == 1


def test_the_study_goes_on_when_it_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "find_sink", lambda name: Fake("result").open)
    said = []

    def study():
        with logging_to(["x"], tmp_path, "study", said.append) as tell:
            tell(a_run(0))
            raise KeyError("the study's own")

    with pytest.raises(KeyError):
        study()
    assert len(said) == 1


def test_a_sink_that_is_not_there_is_a_mistake_at_once(monkeypatch):
    with pytest.raises(SinkError, match='--log "wanbd": no such place to log to; did you mean "wandb"'):
        find_sink("wanbd")
    monkeypatch.setitem(sinks.SINKS, "no_such_library", Fake)
    with pytest.raises(
        SinkError, match=r'no_such_library is not installed; pip install "blueberry-lm\[no_such_library\]"'
    ):
        find_sink("no_such_library")


def test_points_are_the_runs_own_curves():
    run = a_run()
    found = dict(points(run.result))
    assert list(found) == list(range(1, 13))
    assert found[5]["val_loss"] == run.result.evaluations[0].validation.loss
    assert found[12]["val_loss"] == sinks.totals(run.result)["val_loss"]
    assert "val_loss" not in found[4]
    assert [values["train_loss"] for values in found.values()] == list(run.result.curve.train_loss)
    diverged = a_run(rate=2.0)
    assert diverged.result.status == "diverged"
    last = dict(points(diverged.result))[diverged.result.num_updates]
    assert "train_loss" not in last
    assert "val_loss" not in sinks.totals(diverged.result)


def test_names_fit_files():
    assert file_name("a/b c:d") == "a-b-c-d"
    assert file_name("..") == "unnamed"
    assert len(sinks.key(a_run())) <= 64


def test_settings_are_plain_values_and_nothing_is_made_up():
    run = a_run()
    given = {"a": None, "b": (1, 2), "c": 0.1}
    run = replace(run, seed=None, result=run.result.model_copy(update={"recipe": given, "num_tokens": None}))
    assert sinks.settings(run) == {"b": "(1, 2)", "c": 0.1}
    assert sinks.settings(a_run(seed=4))["seed"] == 4
    assert "tokens" not in sinks.totals(run.result)


def test_a_run_of_a_part_is_named_with_it():
    run = a_run(part="small")
    assert sinks.title(run) == "small: learning_rate=0.03 seed 0"
    assert sinks.words(run)["arm"] == "small: learning_rate=0.03"
