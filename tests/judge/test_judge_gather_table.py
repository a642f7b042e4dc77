import json
import math
from pathlib import Path

import pytest

from blueberry.errors import TableError
from blueberry.judge.judging import weigh
from blueberry.judge.studies import gather_table
from blueberry.tables.progress import ENDINGS
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.runs import table_runs

DATA = next((found for up in Path(__file__).parents if (found := up / "shared" / "data").is_dir()), None)


def gather_rows(table, *, vary, metric=None, seed=None, **bounds):
    return gather_table(table_runs(table, vary, metric, seed=seed), **bounds)


def judge_rows(table, **asked):
    return weigh(gather_rows(table, **asked))


def rows(**columns):
    return table_of([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])


SWEEP = rows(
    lr=[0.01, 0.02, 0.04, 0.08, 0.16] * 4,
    seed=[s for s in range(4) for _ in range(5)],
    val_loss=[
        3 + 0.1 * abs(math.log(lr / 0.03)) ** 2 + 0.002 * s + 0.0003 * ((7 * s + 3 * i) % 5)
        for s in range(4)
        for i, lr in enumerate([0.01, 0.02, 0.04, 0.08, 0.16])
    ],
)


def test_a_sweep_is_judged_as_a_study_is():
    judged = judge_rows(SWEEP, vary=["lr"])
    assert judged.best is not None
    assert judged.best.settings == {"lr": 0.04}
    assert [arm.n for arm in judged.arms] == [4] * 5
    assert judged.verdicts[0].winner == "lr=0.04"
    assert judged.vary == ("lr",)
    assert judged.metric == "val_loss"
    assert not [audit for audit in judged.audits if audit.severity == "block"]


def test_without_a_seed_column_nothing_is_paired():
    table = rows(lr=[0.1, 0.2, 0.3], val_loss=[3.0, 3.1, 3.2])
    evidence = gather_rows(table, vary=["lr"])
    assert [dict(arm.search) for arm in evidence.arms] == [{-1: 3.0}, {-2: 3.1}, {-3: 3.2}], "numbers that no two share"
    assert [one.seed for arm in evidence.arms for one in arm.facts] == [None] * 3
    assert not evidence.is_seeded
    assert evidence.repeated_seeds == ()
    assert "seeds" in {audit.audit for audit in judge_rows(table, vary=["lr"]).audits if audit.severity == "block"}


def test_a_repeated_seed_is_no_new_block():
    table = rows(lr=[0.1, 0.1, 0.2], seed=[1, 1, 1], val_loss=[3.0, 3.5, 3.2])
    evidence = gather_rows(table, vary=["lr"])
    assert evidence.repeated_seeds == ("lr=0.1",)
    assert evidence.arms[0].search == {1: 3.25}
    assert [fact.value for fact in evidence.arms[0].facts or ()] == [3.0, 3.5]
    said = [audit.message for audit in judge_rows(table, vary=["lr"]).audits if audit.audit == "seeds"]
    assert any("one seed value more than once" in message for message in said)


def test_one_run_in_two_studies_repeats_nothing():
    table = rows(lr=[0.1, 0.1, 0.2], study=["a", "b", "a"], val_loss=[3.0, 3.5, 3.2])
    evidence = gather_rows(table, vary=["lr"])
    assert evidence.repeated_seeds == ()
    assert [fact.study for fact in evidence.arms[0].facts or ()] == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "loss", "value", "ending"),
    [
        (None, 3.0, 3.0, "completed"),
        ("completed", 3.0, 3.0, "completed"),
        ("finished", 3.0, 3.0, "completed"),
        (True, 3.0, 3.0, "completed"),
        (None, None, None, "crashed"),
        ("completed", None, None, "crashed"),
        ("failed", 3.0, None, "crashed"),
        (False, None, None, "crashed"),
        (None, math.nan, math.inf, "diverged"),
        (None, math.inf, math.inf, "diverged"),
        ("completed", math.nan, math.inf, "diverged"),
        ("diverged", 3.0, math.inf, "diverged"),
        ("Diverged", None, math.inf, "diverged"),
        ("failed", math.nan, None, "crashed"),
        ("running", 3.0, None, "unfinished"),
    ],
)
def test_how_a_run_ended(status, loss, value, ending):
    table = rows(lr=[0.1, 0.2], status=[status, "ok"], val_loss=[loss, 3.2], seed=[0, 0])
    statuses = [run.result.status for run in table_runs(table, ["lr"]).runs]
    assert statuses == [
        *({"crashed": "failed"}.get(ending, ending) for _ in "1" if ending != "unfinished"),
        "completed",
    ]
    evidence = gather_rows(table, vary=["lr"])
    assert evidence.arms[0].search == ({} if value is None else {0: value})
    assert evidence.arms[0].crashed == ((0,) if ending == "crashed" else ())
    assert evidence.num_unfinished == (ending == "unfinished")


def test_a_missing_number_is_never_zero():
    judged = judge_rows(rows(lr=[0.1, 0.2, 0.3], val_loss=[3.0, None, math.nan]), vary=["lr"])
    assert [arm.mean for arm in judged.arms] == [3.0, None, math.inf]
    assert judged.best is not None
    assert judged.best.mean == 3.0


def test_the_vocabulary_says_what_guessing_costs():
    table = rows(lr=[0.1, 0.2], vocab_size=[49152, 49152], val_loss=[10.9, 6.0], status=["completed", "completed"])
    evidence = gather_rows(table, vary=["lr"])
    assert evidence.guessing_loss == pytest.approx(math.log(49152))
    assert evidence.states_success
    said = [audit.message for audit in judge_rows(table, vary=["lr"]).audits if audit.audit == "diverged"]
    assert any("ended above 10.80 nats" in message for message in said)
    assert gather_rows(rows(lr=[1, 2], val_loss=[3, 4]), vary=["lr"]).guessing_loss is None


def test_facts_reach_the_audits():
    table = rows(
        lr=[0.1, 0.2], val_loss=[3.0, 3.1], num_updates=[10, 20], tokens=[100, 200], flops=[1e9, 2e9],
        training_time=[1.5, 2.5], train_loss=[2.9, 3.0], test_loss=[3.2, 3.3], ppl=[20.1, 22.2], accuracy=[0.3, 0.2],
        eval_hash=["a", "b"], study=["s", "s"], seed=[0, 0], vocabulary=[100, 100], status=["ok", "ok"],
    )  # fmt: skip
    evidence = gather_rows(table, vary=["lr"])
    (fact,) = evidence.arms[1].facts or ()
    assert (fact.lengths, fact.train_seconds) == ({"updates": 20, "tokens": 200, "flops": 2e9}, 2.5)
    assert (fact.train_loss, fact.val_loss, fact.val_perplexity) == (3.0, 3.1, 22.2)
    assert (fact.val_accuracy, fact.study, fact.vocabulary) == (0.2, "s", 100)
    assert [one.evaluation_digest for one in evidence.arms[1].provenance] == ["b"]
    assert evidence.states_success
    assert evidence.arms[1].test == {0: 3.3}
    assert (evidence.cost.runs, evidence.cost.tokens, evidence.cost.flops, evidence.cost.seconds) == (2, 300, 3e9, 4.0)


@pytest.mark.parametrize(
    ("times", "seconds"), [([1.5, 2.5], 4.0), ([0.0, 2.0], 2.0), ([None, 2.5], None), ([None, None], None)]
)
def test_a_time_that_nobody_measured_is_none(times, seconds):
    runs = rows(lr=[0.1, 0.2], val_loss=[3.0, 3.1], train_seconds=times)
    found = table_runs(runs, ["lr"])
    assert [run.result.train_seconds for run in found.runs] == times
    assert [run.result.metric("train_seconds") for run in found.runs] == times
    assert gather_table(found).cost.seconds == seconds


def test_confirming_runs_choose_nothing():
    stages = ["search", "search", "confirm", "confirm"]
    table = rows(lr=[0.1, 0.2, 0.1, 0.1], seed=[0, 0, 7, 8], stage=stages, val_loss=[3.0, 3.1, 3.2, 3.4])
    arm = gather_rows(table, vary=["lr"]).arms[0]
    assert (arm.search, arm.confirm) == ({0: 3.0}, {7: 3.2, 8: 3.4})


def test_runs_that_only_chose_each_arms_settings_are_not_compared():
    stages = ["search", "search", "search", "compare", "compare", "confirm"]
    table = rows(
        kind=["a", "a", "b", "a", "b", "b"],
        lr=[0.1, 0.2, 0.1, 0.2, 0.1, 0.1],
        seed=[0, 0, 0, 5, 5, 9],
        stage=stages,
        val_loss=[1.0, 1.1, 1.2, 3.0, 2.9, 2.8],
    )
    a, b = gather_rows(table, vary=["kind"]).arms
    assert (a.search, a.confirm, b.search, b.confirm) == ({5: 3.0}, {}, {5: 2.9}, {9: 2.8})
    assert table_runs(table, ["kind"]).notes[0].startswith("rows: 3 runs chose the settings")


def test_arms_are_named_as_a_person_would():
    def names(table, *vary):
        return [arm.name for arm in gather_rows(table, vary=vary).arms]

    loss = {"val_loss": [3.0, 3.1]}
    assert names(rows(lr=[0.1, 0.2], **loss), "lr") == ["lr=0.1", "lr=0.2"]
    assert names(rows(name=["baseline", "b"], **loss), "name") == ["baseline", "b"]
    assert names(rows(arm=["baseline", "b"], lr=[0.1, 0.2], **loss), "lr") == ["baseline", "b"]
    assert names(rows(arm=["same", "same"], lr=[0.1, 0.2], **loss), "lr") == ["lr=0.1", "lr=0.2"]
    assert names(rows(**{"a.lr": [0.1, 0.2], "b.on": [True, False]}, **loss), "a.lr", "b.on") == ["lr=0.1,on=true", "lr=0.2,on=false"]  # fmt: skip
    assert names(rows(lr=[1, 2], **loss), "lr") == ["lr=1", "lr=2"]
    assert names(rows(lr=[math.nan, 0.2], **loss), "lr") == ["lr=None", "lr=0.2"]


@pytest.mark.parametrize(
    ("columns", "vary", "metric", "said"),
    [
        ({"lr": [1, 2], "val_loss": [3, 4]}, [], "val_loss", "nothing varies; name the columns that tell arms apart"),
        ({"lr": [1, 2], "val_loss": [3, 4]}, ["dropout"], "val_loss", 'vary "dropout": no such column'),
        ({"lr": [1, 2], "val_loss": [3, 4]}, ["lr"], "loss", 'metric "loss": no such column; did you mean "val_loss"'),
        ({"lr": [1, 2], "val_loss": [3, 4]}, ["val_loss"], "val_loss", "it is the metric"),
        ({"lr": [1, 1], "val_loss": [3, 4]}, ["lr"], "val_loss", "every row has lr=1; two arms or more are compared"),
        ({"lr": [1, 2], "val_loss": [3, "x"]}, ["lr"], "val_loss", "rows 2 \"val_loss\": 'x'; the metric is a number"),
        ({"lr": [1, 2], "val_loss": [3, True]}, ["lr"], "val_loss", "the metric is a number"),
        ({"lr": [1, 2], "val_loss": [3, 4], "seed": [1, None]}, ["lr"], "val_loss", 'rows 2 "seed": empty'),
        ({"lr": [1, 2], "val_loss": [3, 4], "seed": [1, 0.5]}, ["lr"], "val_loss", "a seed is a whole number"),
        ({"lr": [1, 2], "val_loss": [3, 4], "status": ["ok", "meh"]}, ["lr"], "val_loss", "no known ending of a run"),
        ({"lr": [1, 2], "val_loss": [3, 4], "stage": ["x", "y"]}, ["lr"], "val_loss", "no known stage"),
        ({"lr": [1, 2], "val_loss": [3, 4], "tokens": ["many", 1]}, ["lr"], "val_loss", "\"tokens\": 'many'"),
        ({"lr": [1, 2], "val_accuracy": [3, 4]}, ["lr"], "accuracy", "higher is better in it"),
        ({"lr": [1, 2], "eval/f1": [3, 4]}, ["lr"], "eval/f1", "higher is better in it"),
    ],
)
def test_what_cannot_be_judged_is_one_line(columns, vary, metric, said):
    with pytest.raises(TableError) as error:
        gather_rows(rows(**columns), vary=vary, metric=metric)
    assert said in str(error.value)


@pytest.mark.parametrize("bad", [{"min_effect": 0.0}, {"min_effect": math.nan}, {"alpha": 0.0}, {"alpha": 0.7}])
def test_min_effect_and_alpha_have_bounds(bad):
    with pytest.raises(TableError, match=next(iter(bad))):
        gather_rows(SWEEP, vary=["lr"], **bad)


def test_a_person_is_told_what_was_taken_for_what():
    assert table_runs(SWEEP, ["lr"]).notes == ()
    nan = rows(lr=[0.1, 0.2], val_loss=[3.0, math.nan])
    assert any("taken to have diverged" in line for line in table_runs(nan, ["lr"]).notes)


def test_endings_are_folded_as_columns_are():
    assert all(word == word.casefold() and " " not in word for word in ENDINGS)


@pytest.mark.skipif(DATA is None, reason="the documents' raw results are not here")
def test_the_documents_own_results_are_readable():
    assert DATA is not None
    sweep = judge_rows(read_table(DATA / "lr_sweep_26.json"), vary=["learning_rate"])
    assert (len(sweep.arms), sweep.cost.runs, round(sweep.cost.seconds)) == (26, 26, 1104)
    assert sweep.best is not None
    assert sweep.best.settings == {"learning_rate": 0.065}
    assert sweep.best.mean == pytest.approx(5.8952807)
    assert sweep.recommendation.withheld is not None
    ablation = judge_rows(read_table(DATA / "ablation.json"), vary=["experiment_name"])
    assert [arm.arm for arm in ablation.arms][:2] == ["baseline", "grad_accum_2"]
    schedules = judge_rows(read_table(DATA / "schedules.json"), vary=["schedule_type", "warmup_ratio", "min_lr_ratio"])
    assert len(schedules.arms) == 8
    search = gather_rows(read_table(DATA / "deepseek_lr_search.json"), vary=["lr"])
    assert [(fact.train_loss or 9) > (fact.val_loss or 0) for arm in search.arms for fact in arm.facts or ()] == [
        True
    ] * 4
    assert "edge" in {a.audit for a in judge_rows(read_table(DATA / "deepseek_lr_search.json"), vary=["lr"]).audits}
    with pytest.raises(TableError):
        judge_rows(read_table(DATA / "lr_sweep_26_insights.json"), vary=["best_lr"], metric="best_loss")


def test_our_own_results_give_the_same_judgement(tmp_path):
    table = [
        {"arm": f"learning_rate={lr}", "seed": seed, "stage": "search", "status": "completed", "updates": 5,
         "settings": {"optimizer.muon.learning_rate": lr}, "recipe": {"optimizer.muon.learning_rate": lr, "seed": seed},
         "metrics": {"val_loss": 3 + lr + 0.001 * seed, "test_loss": None}, "provenance": {"evaluation_digest": "e"}}
        for lr in (0.1, 0.2, 0.3) for seed in range(3)
    ]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps({"schema": "blueberry/results/1", "runs": table}))
    judged = gather_rows(read_table(tmp_path / "results.json"), vary=["optimizer.muon.learning_rate"])
    assert [arm.name for arm in judged.arms] == ["learning_rate=0.1", "learning_rate=0.2", "learning_rate=0.3"]
    assert judged.arms[0].search == {0: 3.1, 1: 3.101, 2: 3.102}
    assert [one.evaluation_digest for one in judged.arms[0].provenance] == ["e"]
