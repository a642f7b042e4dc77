"""--log on a study: every run that ended arrives once, whatever stops in between, and no sink stops a run."""

import pytest

from blueberry import api, cli, report, sinks
from blueberry.errors import SinkError
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

STUDY = """
question = "Which rate?"
base = "recipe.toml"
[vary]
"optimizer.muon.learning_rate" = [0.01, 0.02, 0.03, 2.0]
[seeds]
search = 2
confirm = 2
max = 4
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "recipe.toml").write_text("[train]\nupdates = 6\n")
    (tmp_path / "lr.toml").write_text(STUDY)
    return Study.load(tmp_path / "lr.toml")


class Kept:
    def __init__(self, fails=False):
        self.runs, self.fails = [], fails

    def __call__(self, folder, study):
        return self

    def result(self, run):
        if self.fails:
            raise OSError("No space left on device")
        self.runs.append(run)


class StopsAfter:
    """The synthetic trainer, interrupted by Ctrl-C."""

    data_digest = staticmethod(Synthetic.data_digest)

    def __init__(self, num_runs):
        self.left = num_runs

    def __call__(self, recipes):
        for recipe in recipes:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield Synthetic().result(recipe)


def conduct(study, tmp_path, kept, monkeypatch, trainer=None):
    monkeypatch.setattr(sinks, "find_sink", lambda name: kept)
    with sinks.logging_to(["kept"], tmp_path, study.name) as tell:
        return api.conduct(study, store=tmp_path / "store", trainer=trainer or Synthetic(), workers=0, on_result=tell)


def test_every_run_is_told_once(study, tmp_path, monkeypatch):
    kept = Kept()
    judged = conduct(study, tmp_path, kept, monkeypatch)
    assert len(kept.runs) == 4 * 2 + 2
    assert {(run.arm, run.seed, run.stage) for run in kept.runs} == {
        (run.arm, run.seed, run.stage) for run in judged.plan.runs
    }
    assert {run.result.fingerprint for run in kept.runs} == {run.fingerprint for run in judged.plan.runs}
    assert {run.study for run in kept.runs} == {"lr"}
    assert sum(run.result.status == "diverged" for run in kept.runs) == 2


def test_what_ended_before_is_told_again(study, tmp_path, monkeypatch):
    first = Kept()
    with pytest.raises(KeyboardInterrupt):
        conduct(study, tmp_path, first, monkeypatch, StopsAfter(3))
    assert len(first.runs) == 3
    second = Kept()
    conduct(study, tmp_path, second, monkeypatch)
    assert len(second.runs) == 10


def test_a_sink_that_fails_leaves_the_study_alone(study, tmp_path, monkeypatch, capsys):
    judged = conduct(study, tmp_path, Kept(fails=True), monkeypatch)
    assert judged.num_trained == 10
    assert judged.failures == ()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("--log kept: OSError: No space left on device")


def test_a_sink_that_does_not_exist_is_refused_before_anything_is_trained(study, tmp_path):
    with pytest.raises(SinkError), sinks.logging_to(["nowhere"], tmp_path, "lr"):
        raise AssertionError("it was begun")


def test_one_run_of_train(tmp_path, monkeypatch, study):
    kept = Kept()
    monkeypatch.setattr(sinks, "find_sink", lambda name: kept)
    result = Synthetic().result(study.base)
    monkeypatch.setattr(api, "train", lambda *_, **__: result)
    monkeypatch.setattr(report, "write_run", lambda *_: tmp_path)
    assert cli.train(tmp_path / "recipe.toml", log=["kept"], store=str(tmp_path / "store"), quiet=True) == 0
    assert [(run.study, run.arm, run.seed) for run in kept.runs] == [("single-runs", result.fingerprint, 0)]
