"""What a run refuses before it trains, its plan refuses, in the same line."""

import json
from pathlib import Path
from typing import Any

import pytest

from blueberry import api
from blueberry.errors import BlueberryError
from blueberry.files import to_toml
from blueberry.recipe import Recipe
from blueberry.study.spec import Study

TEXT = ". ".join(f"{number} quick brown foxes jump over {number * number} lazy dogs" for number in range(100))
BASE = {
    "data.corpus": "files",
    "data.files.paths": ["text.txt"],
    "data.files.delimiter": ". ",
    "data.tokenizer": "byte",
    "data.vocabulary_tokens": 256,
    "model.width": 16,
    "model.num_layers": 1,
    "model.num_heads": 2,
    "model.context_tokens": 8,
    "data.validation_fraction": 0.2,
    "data.test_fraction": 0.2,
    "train.updates": 10,
    "train.batch_sequences": 2,
    "evaluate.tokens": 16,
}


def refusal(what: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(BlueberryError) as raised:
        what(*arguments, **more)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def study(folder: Path, settings: dict[str, Any]) -> Study:
    (folder / "text.txt").write_text(TEXT)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"body": one}) + "\n" for one in TEXT.split(". ")))
    (folder / "base.toml").write_text(Recipe().with_(**BASE | settings).to_toml())
    asked = {
        "question": "Which rate?",
        "base": "base.toml",
        "vary": {"optimizer.muon.learning_rate": [0.01, 0.02]},
        "seeds": {"search": 1, "confirm": 0},
    }
    (folder / "lr.toml").write_text(to_toml(asked))
    return Study.load(folder / "lr.toml")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data.tokenizer": "bpe", "data.vocabulary_tokens": 60_000}, "data.vocabulary_tokens: 60000"),
        ({"data.files.paths": ["none.txt"]}, "no such file"),
        ({"data.files.paths": ["rows.jsonl"], "data.files.text_column": "text"}, "text"),
        ({"data.tokenizer": "file", "data.tokenizer_path": "text.txt"}, "not a tokenizer.json"),
        ({"data.max_train_tokens": 10**6}, "data.max_train_tokens: 1000000"),
        ({"train.batch_sequences": 512}, "train.batch_sequences: 512"),
        ({"model.context_tokens": 8192}, "model.context_tokens: 8192; the train split"),
        ({"model.context_tokens": 1024}, "the validation split holds"),
        ({"model.document_mask": True, "data.mark_documents": False}, "model.document_mask"),
    ],
    ids=lambda one: ",".join(one) if isinstance(one, dict) else "",
)
def test_a_plan_refuses_what_its_run_refuses(tmp_path, monkeypatch, settings, said):
    monkeypatch.chdir(tmp_path)
    asked = study(tmp_path, settings)
    refused = refusal(api.foresee, asked, tmp_path / "store")
    assert said in refused
    assert refusal(api.conduct, asked, store=tmp_path / "store", workers=0) == refused
    assert refusal(api.foresee, asked, tmp_path / "store") == refused, "also once there is a store"


def test_a_plan_that_is_not_refused_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert api.foresee(study(tmp_path, {}), tmp_path / "store").runs_todo == 2
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["data"]
