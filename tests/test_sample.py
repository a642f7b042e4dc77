"""`blueberry sample` from the outside: a run trained in a store, named in each way it can be."""

import json
import sys

import pytest

from blueberry import api
from blueberry.__main__ import main
from blueberry.recipe import Recipe

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


@pytest.fixture
def blueberry(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["blueberry", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run


def test_a_run_is_named_by_its_fingerprint_its_beginning_or_its_result(store, result, tmp_path, blueberry):
    file = api.write_run(result, tmp_path / "out") / "result.json"
    options = ("--prompt", "the ", "--tokens", 9, "--seed", 4, "--store", store)
    said = {
        blueberry("sample", run, *options) for run in (result.fingerprint, result.fingerprint[:7], file, file.parent)
    }
    assert len(said) == 1
    code, out, err = said.pop()
    assert (code, err) == (0, "")
    assert out.startswith("the ")
    code, out, _ = blueberry("sample", result.fingerprint, *options, "--json")
    assert json.loads(out)["num_tokens"] == 9
    assert (
        "the " + json.loads(out)["continuation"]
        == api.sample(result.fingerprint, "the ", num_tokens=9, seed=4, store=store).text
    )


def test_a_run_without_weights_is_one_line(store, blueberry, tmp_path):
    for run in ("zzz", "", tmp_path / "none.json", tmp_path):
        code, out, err = blueberry("sample", run, "--store", store)
        assert (code, out, err.count("\n")) == (2, "", 1)
    code, _, err = blueberry("sample", "abc", "--temperature", "-1", "--store", store)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("where", ["header", "tensors", "tail", "all"])
def test_damaged_weights_are_refused_and_written_anew_by_training(store, blueberry, result, where, tmp_path):
    path = store / "weights" / f"{result.fingerprint}.safetensors"
    whole = path.read_bytes()
    at = {"header": whole.index(b"tokenizer"), "tensors": len(whole) - 1000}.get(where, 0)
    flipped = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
    path.write_bytes({"tail": whole[:-7], "all": b""}.get(where, flipped))
    for words in (("sample", result.fingerprint), ("export", result.fingerprint, tmp_path / "out")):
        code, out, err = blueberry(*words, "--store", store)
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
