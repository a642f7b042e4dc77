"""`blueberry sample` from the outside: a run trained in a store, named in each way it can be."""

import json
from dataclasses import replace

import pytest

from blueberry import api
from blueberry.architecture import parameters
from blueberry.recipe import Recipe
from blueberry.report import write_run
from blueberry.study.spec import Study

TINY = Recipe().with_(
    {
        "model.width": 16,
        "model.num_layers": 1,
        "model.context_tokens": 16,
        "data.corpus": "synthetic",
        "data.tokenizer": "byte",
        "data.max_documents": 200,
        "train.updates": 3,
        "evaluate.tokens": 64,
    }
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def result(store):
    return api.train(TINY, store=store)


def test_a_run_is_named_by_its_fingerprint_its_beginning_or_its_result(store, result, tmp_path, command):
    file = write_run(result, tmp_path / "out") / "result.json"
    options = ("--prompt", "the ", "--tokens", 9, "--seed", 4, "--store", store)
    said = {command("sample", run, *options) for run in (result.fingerprint, result.fingerprint[:7], file, file.parent)}
    assert len(said) == 1
    code, out, err = said.pop()
    assert (code, err) == (0, "")
    assert out.startswith("the ")
    code, out, _ = command("sample", result.fingerprint, *options, "--json")
    assert json.loads(out)["num_tokens"] == 9
    assert (
        "the " + json.loads(out)["continuation"]
        == api.sample(result.fingerprint, "the ", num_tokens=9, seed=4, store=store).text
    )


def test_a_run_without_weights_is_one_line(store, command, tmp_path):
    for run in ("zzz", "", tmp_path / "none.json", tmp_path):
        code, out, err = command("sample", run, "--store", store)
        assert (code, out, err.count("\n")) == (2, "", 1)
    code, _, err = command("sample", "abc", "--temperature", "-1", "--store", store)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("where", ["header", "tensors", "tail", "all"])
def test_damaged_weights_are_refused_and_written_anew_by_training(store, command, result, where, tmp_path):
    path = store / "weights" / f"{result.fingerprint}.safetensors"
    whole = path.read_bytes()
    at = {"header": whole.index(b"tokenizer"), "tensors": len(whole) - 1000}.get(where, 0)
    flipped = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
    path.write_bytes({"tail": whole[:-7], "all": b""}.get(where, flipped))
    for words in (("sample", result.fingerprint), ("export", result.fingerprint, tmp_path / "out")):
        code, out, err = command(*words, "--store", store)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "train" in err
    assert not (tmp_path / "out").exists()
    api.train(TINY, store=store)
    assert path.read_bytes() == whole


def test_a_known_run_whose_weights_are_gone_is_trained_again_for_them(store, result):
    path = store / "weights" / f"{result.fingerprint}.safetensors"
    before = path.read_bytes()
    path.unlink()
    assert api.train(TINY.with_({"train.keep_weights": False}), store=store) == api.train(
        TINY.with_({"train.keep_weights": False}), store=store
    )
    assert not path.exists(), "a known result is given, not trained for"
    again = api.train(TINY, store=store)
    assert again.train_seconds == result.train_seconds, "the first result stays"
    assert path.read_bytes() == before


STUDY = """
question = "Which?"
base = "tiny.toml"
metric = "train_loss"
min_effect = 0.001
[arms.stuck]
"optimizer.muon.learning_rate" = 1e-6
[seeds]
search = 3
confirm = 0
"""


def test_a_study_keeps_the_weights_of_what_may_be_the_best_and_the_others_can_be_had_again(tmp_path, command):
    store = tmp_path / "store"
    (tmp_path / "tiny.toml").write_text(TINY.with_({"train.updates": 12}).to_toml())
    (tmp_path / "study.toml").write_text(STUDY)

    def judged():
        study = Study.load(tmp_path / "study.toml")
        return api.conduct(study, store=store, workers=0)

    def kept():
        return {path.stem for path in (store / "weights").iterdir()}

    found = judged()
    of_arm = {arm: {run.fingerprint for run in found.plan.runs if run.arm == arm} for arm in ("baseline", "stuck")}
    assert found.judgement.unresolved == ("baseline",)
    assert kept() == of_arm["baseline"]
    gone = min(of_arm["stuck"])
    for words in (("sample", gone[:9]), ("export", gone, tmp_path / "out")):
        code, _, err = command(*words, "--store", store)
        assert (code, err.count("\n")) == (2, 1)
        assert f"blueberry train {words[1]} trains it again" in err
    code, _, _ = command("train", gone[:9], "--store", store, "--out", tmp_path / "out", "--quiet")
    assert code == 0
    assert command("sample", gone[:9], "--store", store)[0] == 0
    assert judged().num_trained == 0
    assert kept() == of_arm["baseline"] | {gone}, "somebody has asked for them"


def test_a_study_that_confirms_never_writes_the_weights_of_runs_that_only_choose(tmp_path, command):
    (tmp_path / "tiny.toml").write_text(TINY.to_toml())
    (tmp_path / "study.toml").write_text(STUDY.replace("confirm = 0", "confirm = 2"))
    study = Study.load(tmp_path / "study.toml")
    size = 4 * parameters(study.base).total
    assert api.foresee(study, tmp_path / "store").weights_bytes == 2 * size
    all_of_them = replace(study, keep_weights="all")
    assert api.foresee(all_of_them, tmp_path / "store").weights_bytes == 8 * size
    found = api.conduct(study, store=tmp_path / "store", workers=0)
    fresh = {run.fingerprint for run in found.plan.runs if run.stage == "confirm"}
    assert {path.stem for path in (tmp_path / "store" / "weights").iterdir()} == fresh
