import math

import pytest

from blueberry.errors import StudyError
from blueberry.judge.gather import Text
from blueberry.judge.studies import gather_study, judge
from blueberry.recipe import Recipe
from blueberry.records import Evaluation, Failure, Metrics, RunResult
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RATES = [0.01, 0.02, 0.03, 0.06, 0.12, 0.5]


@pytest.fixture
def study(tmp_path):
    (tmp_path / "base.toml").write_text(Recipe().to_toml())
    given = {
        "question": "Which rate?",
        "base": "base.toml",
        "min_effect": 0.01,
        "vary": {"optimizer.muon.learning_rate": RATES},
        "seeds": {"search": 3, "confirm": 2, "max": 8},
    }
    return Study.parse(given, tmp_path / "lr.toml")


def result_of(run, *, status="completed"):
    rate = run.recipe.optimizer.muon.learning_rate
    loss = 3 + math.log(rate / 0.03) ** 2 + 0.01 * math.sin(37 * run.seed + 1000 * rate)
    metrics = Metrics(loss=loss, bits_per_byte=loss / 2, accuracy=0.3, num_tokens=100)
    done = (
        {}
        if status != "completed"
        else {
            "final": metrics,
            "test": metrics.model_copy(update={"loss": loss + 1}),
            "evaluations": (Evaluation(update=300, tokens=10, seconds=1.0, validation=metrics),),
        }
    )
    failure = None if status == "completed" else Failure(kind="diverged" if status == "diverged" else "crashed")
    return RunResult(
        fingerprint=run.fingerprint,
        recipe=run.recipe.flat(),
        status=status,
        failure=failure,
        num_tokens=1000,
        num_flops=2.0,
        train_seconds=0.5,
        **done,
    )


def run_all(study, statuses=lambda run: "completed"):
    """Plan and run until nothing is left, or nothing more ends."""
    results = {}
    for _ in range(2):
        planned = plan(study, lambda recipe: "digest", results)
        results |= {run.fingerprint: result_of(run, status=statuses(run)) for run in planned.todo}
    return results, plan(study, lambda recipe: "digest", results)


def test_a_whole_study_is_judged(study):
    results, planned = run_all(study, lambda run: "diverged" if "=0.5" in run.arm else "completed")
    judged = judge(study, results, planned)
    assert judged.best is not None
    assert judged.best.settings == {"optimizer.muon.learning_rate": 0.03}
    assert (judged.best.confirmed, judged.best.n) == (True, 2)
    assert judged.best.test_mean == pytest.approx(judged.best.mean + 1)
    assert judged.arms[-1].status == "diverged"
    assert judged.arms[-1].values == (math.inf,) * 3
    assert judged.cost.runs == 6 * 3 + 2
    assert judged.cost.tokens == 20_000
    assert judged.cost.shared_tokens == 0
    assert judged.recommendation.settings == {"optimizer.muon.learning_rate": 0.03}
    assert judged.ranges.unstable_from == 0.5


def test_crashed_and_unfinished_runs_block(study):
    results, planned = run_all(study, lambda run: "failed" if "=0.5" in run.arm and run.seed == 1 else "completed")
    evidence = gather_study(study, results, planned)
    assert evidence.arms[-1].crashed == (1,)
    assert 1 not in evidence.arms[-1].search
    assert evidence.num_unfinished == 2  # the confirming runs wait
    assert "diverged" in (judge(study, results, planned).recommendation.withheld or "")


def test_what_the_corpus_allows_reaches_the_audits(study):
    results, planned = run_all(study)
    judged = judge(study, results, planned, texts=lambda recipe: Text(10.0, 500))
    assert {"too-good", "passes"} <= {audit.audit for audit in judged.audits}
    evidence = gather_study(study, results, planned, texts=lambda recipe: Text(1.0, 500))
    assert evidence.entropy == pytest.approx(2.0)  # nats per token: a token stands for 2 / ln 2 bytes here
    assert evidence.passes == 2.0


def test_a_completed_run_without_the_metric_is_the_users_mistake(study):
    results, planned = run_all(study)
    name = planned.runs[0].fingerprint
    results[name] = results[name].model_copy(update={"final": None})
    with pytest.raises(StudyError, match='"val_loss" is missing in arm'):
        judge(study, results, planned)


def test_what_a_run_took_over_is_no_cost_of_it(study):
    results, planned = run_all(study)
    forked = planned.runs[0].fingerprint
    results[forked] = results[forked].model_copy(
        update={"num_updates": 100, "shared_updates": 40, "shared_seconds": 0.25}
    )
    cost = judge(study, results, planned).cost
    assert (cost.runs, cost.tokens, cost.shared_tokens) == (20, 19_600, 400)
    assert (cost.flops, cost.shared_flops) == pytest.approx((39.2, 0.8))
    assert (cost.seconds, cost.shared_seconds) == pytest.approx((9.75, 0.25))


def test_of_a_study_that_maximizes_the_greatest_is_best(tmp_path):
    """Each rate's accuracy falls as its loss rises; the best is confirmed, a diverged run is minus infinity."""
    (tmp_path / "base.toml").write_text("[train]\nupdates = 50\n")
    text = 'question = "?"\nbase = "base.toml"\nmetric = "val_accuracy"\ngoal = "maximize"\nmin_effect = 0.001\n'
    text += '[vary]\n"optimizer.muon.learning_rate" = [0.005, 0.01, 0.02, 0.04, 0.08, 2.0]\n'
    (tmp_path / "study.toml").write_text(text + "[seeds]\nsearch = 4\nconfirm = 3\n")
    study, trainer, results = Study.load(tmp_path / "study.toml"), Synthetic(optimum=0.02, noise_nats=0.001), {}

    def scored(result):
        if result.final is None:
            return result
        accuracy = math.exp(-result.final.loss)
        return result.model_copy(update={"final": result.final.model_copy(update={"accuracy": accuracy})})

    while (planned := plan(study, trainer.data_digest, results)).todo:
        results |= {run.fingerprint: scored(trainer.result(run.recipe)) for run in planned.todo}
    found = judge(study, results, planned)
    assert found.best
    assert (found.best.settings, found.best.confirmed) == ({"optimizer.muon.learning_rate": 0.02}, True)
    means = {arm.settings["optimizer.muon.learning_rate"]: arm.mean for arm in found.arms}
    assert max(means, key=lambda rate: means[rate]) == 0.02
    assert means[2.0] == -math.inf
    assert found.verdict("learning_rate=0.02", "learning_rate=0.08").difference < 0
    assert found.recommendation.settings == {"optimizer.muon.learning_rate": 0.02}
    assert (found.ranges.unstable_from, found.goal) == (2.0, "maximize")
