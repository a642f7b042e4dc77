"""Optuna and Ray Tune: trials as runs, whichever way they are kept; and what a search went by."""

import json

import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.runs import table_runs

FRAME = """number,value,datetime_start,datetime_complete,duration,params_lr,params_optimizer,user_attrs_seed,state
0,3.5,2026-11-29 22:24:12.998146,2026-11-29 22:24:13.006077,0 days 00:00:00.007931,0.1,muon,0,COMPLETE
1,3.4,2026-11-29 22:24:13.006843,2026-11-29 22:24:13.013365,0 days 00:00:00.006522,0.2,adam,1,COMPLETE
2,,2026-11-29 22:24:13.014190,2026-11-29 22:24:13.021347,0 days 00:00:00.007157,0.3,muon,2,FAIL
3,3.9,2026-11-29 22:24:13.014190,2026-11-29 22:24:13.021347,0 days 00:00:00.007157,0.4,muon,2,PRUNED
4,,2026-11-29 22:24:13.014190,,,0.5,muon,2,RUNNING
"""


def trials(path):
    names = ("number", "lr", "optimizer", "seed", "value", "status")
    return [{name: row.values.get(name) for name in names} for row in read_table(path).rows]


def test_a_data_frame_of_optunas_trials(tmp_path):
    (tmp_path / "trials.csv").write_text(FRAME)
    first, *_ = trials(tmp_path / "trials.csv")
    assert first == {"number": 0, "lr": 0.1, "optimizer": "muon", "seed": 0, "value": 3.5, "status": "COMPLETE"}
    with pytest.raises(TableError, match=r"not whether it was made small; say --goal minimize or --goal maximize"):
        blueberry.analyse(tmp_path / "trials.csv", vary="lr")
    found = table_runs(read_table(tmp_path / "trials.csv"), ["lr"], goal="maximize")
    assert (found.metric, found.goal, len(found.runs), len(found.unfinished)) == ("value", "maximize", 3, 2)
    assert "what the search went by" in found.notes[0]


@pytest.mark.parametrize("objective", ["value_val_loss", "values_val_loss"])
def test_an_objective_with_a_name_is_called_by_it(objective):
    rows = [{"number": k, objective: 3.0 + k, "params_lr": 0.1 * (k + 1), "state": "COMPLETE"} for k in range(3)]
    assert table_runs(table_of(rows), ["lr"]).metric == "val_loss"


def test_what_optunas_command_line_prints_as_json(tmp_path):
    (tmp_path / "trials.json").write_text(
        json.dumps([
            {"number": k, "value": 3.0, "duration": "0:00:00.1", "params": {"lr": k}, "user_attrs": {"seed": 4}, "state": "COMPLETE"}
            for k in (1, 2)
        ])
    )  # fmt: skip
    assert [(row["lr"], row["seed"]) for row in trials(tmp_path / "trials.json")] == [(1, 4), (2, 4)]


JOURNAL = [
    {"op_code": 0, "worker_id": "w", "study_name": "s", "directions": [2]},
    {"op_code": 4, "study_id": 0, "datetime_start": "2026-11-29T22:24:12"},
    {"op_code": 5, "trial_id": 0, "param_name": "lr", "param_value_internal": 0.1,
     "distribution": '{"name": "FloatDistribution", "attributes": {"low": 0.1, "high": 1.0, "step": null, "log": true}}'},
    {"op_code": 5, "trial_id": 0, "param_name": "optimizer", "param_value_internal": 1,
     "distribution": '{"name": "CategoricalDistribution", "attributes": {"choices": ["adam", "muon"]}}'},
    {"op_code": 5, "trial_id": 0, "param_name": "depth", "param_value_internal": 3.0,
     "distribution": '{"name": "IntDistribution", "attributes": {"low": 1, "high": 4, "step": 1, "log": false}}'},
    {"op_code": 8, "trial_id": 0, "user_attr": {"seed": 7}},
    {"op_code": 7, "trial_id": 0, "step": 0, "intermediate_value": 4.0},
    {"op_code": 6, "trial_id": 0, "state": 1, "values": [0.5]},
    {"op_code": 4, "study_id": 0},
]  # fmt: skip


def test_optunas_journal_and_which_way_it_went(tmp_path):
    path = tmp_path / "journal.log"
    path.write_text("\n".join(map(json.dumps, JOURNAL)) + "\n")
    first, second = trials(path)
    assert first == {"number": 0, "lr": 0.1, "optimizer": "muon", "seed": 7, "value": 0.5, "status": "complete"}
    assert second["status"] == "running"
    assert read_table(path).rows[0].values["depth"] == 3
    found = table_runs(read_table(path), ["number"])
    assert (found.metric, found.goal) == ("value", "maximize")
    assert any("maximized, as the search did" in note for note in found.notes)
    path.write_text("\n".join(map(json.dumps, [JOURNAL[0], JOURNAL[2]])))
    with pytest.raises(TableError, match="line 2: of a trial or study that was not made before"):
        read_table(path)


def test_optunas_own_library_writes_what_is_read(tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        rate = trial.suggest_float("lr", 0.1, 1.0)
        trial.suggest_categorical("optimizer", ["adam", "muon"])
        trial.set_user_attr("seed", trial.number)
        if trial.number == 2:
            raise optuna.TrialPruned
        return float("inf") if trial.number == 1 else 3 + rate

    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    read = []
    for storage in (f"sqlite:///{tmp_path / 'optuna.db'}", optuna.storages.JournalStorage(backend)):
        study = optuna.create_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=3)
    for path in (tmp_path / "optuna.db", tmp_path / "journal.log"):
        read.append(trials(path))
        assert read_table(path).objectives == {"value": "minimize"}
    assert read[0] == read[1]
    assert [one["status"] for one in read[0]] == ["complete", "complete", "pruned"]
    assert read[0][1]["value"] == float("inf")
    assert read[0][0]["value"] == 3 + read[0][0]["lr"]


def ray_trial(folder, lr, seed, loss, *, error=False):
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps({"lr": lr, "seed": seed, "model": {"width": 64}}))
    (folder / "result.json").write_text(
        "".join(
            json.dumps({"val_loss": loss + more, "training_iteration": 3 - more, "trial_id": "a_1", "time_total_s": 4.0,
                        "pid": 17, "node_ip": "10.0.0.1", "done": False, "config": {"lr": lr}}) + "\n"
            for more in (2, 1, 0)
        )
        + '{"val_loss": 9, "torn'
    )  # fmt: skip
    (folder / "events.out.tfevents.1.vm").write_bytes(b"")
    if error:
        (folder / "error.txt").write_text("Traceback")


def test_ray_tunes_folders(tmp_path):
    for number, (lr, seed) in enumerate([(0.1, 0), (0.2, 0)]):
        ray_trial(
            tmp_path / "exp" / f"train_a_{number}_lr={lr},seed={seed}_2026-11-29", lr, seed, 3.0 + lr, error=lr == 0.2
        )
    first, second = (row.values for row in read_table(tmp_path).rows)
    assert {
        "lr": 0.1,
        "seed": 0,
        "model.width": 64,
        "val_loss": 3.1,
        "training_iteration": 3,
        "train_seconds": 4.0,
    }.items() <= (first.items())
    assert "pid" not in first
    assert "status" not in first
    assert second["status"] == "error"
    (trial,) = read_table(next(tmp_path.rglob("result.json"))).rows
    assert trial.values["val_loss"] in (3.1, 3.2), "the file itself is its trial"


def test_a_folder_of_ray_tune_without_its_parameters_beside(tmp_path):
    for lr in (0.1, 0.2):
        ray_trial(tmp_path / f"trial_{lr}", lr, 0, 3.0 + lr)
        (tmp_path / f"trial_{lr}" / "params.json").unlink()
    found = table_runs(read_table(tmp_path), ["lr"])
    assert [(run.settings["lr"], run.result.metric("val_loss")) for run in found.runs] == [(0.1, 3.1), (0.2, 3.2)]
    (tmp_path / "trial_0.1" / "result.json").rename(tmp_path / "result.json")
    text = (tmp_path / "result.json").read_text().rpartition("\n")[0]
    (tmp_path / "result.json").write_text(text)
    (run,) = table_runs(read_table(tmp_path / "result.json"), ["lr"], least_arms=1).runs
    assert (run.settings["lr"], run.result.metric("val_loss")) == (0.1, 3.1)


def test_a_data_frame_of_ray_tune(tmp_path):
    (tmp_path / "frame.csv").write_text(
        "val_loss,timestamp,done,training_iteration,trial_id,pid,hostname,node_ip,time_total_s,iterations_since_restore,"
        "config/lr,config/seed,config/model/width,logdir\n"
        "3.0,1795991070,False,3,a3868_00000,2867,vm,192.0.2.2,1.5,3,0.01,0,64,x\n"
        "3.1,1795991082,False,3,a3868_00003,2975,vm,192.0.2.2,3.1,3,0.03,0,64,y\n"
    )
    found = table_runs(read_table(tmp_path / "frame.csv"), ["lr"])
    assert [(run.settings["lr"], run.seed, run.result.train_seconds) for run in found.runs] == [
        (0.01, 0, 1.5),
        (0.03, 0, 3.1),
    ]
    assert set(found.runs[0].result.recipe) <= {"lr", "seed", "model.width", "done"}
