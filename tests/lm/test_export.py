"""An exported model against ours: the scripts of docs/export.md, run as they stand, and transformers."""

import io
import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blueberry import api
from blueberry.errors import BlueberryError, RecipeError, StoreError
from blueberry.lm.export import export, load, logits
from blueberry.lm.layers import initialize
from blueberry.lm.trained import Trained, save_weights
from blueberry.text.dataset import data_digest
from blueberry.text.tokenizer import Tokenizer, train_tokenizer

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
WITH_BLUEBERRY, ALONE, WITH_TRANSFORMERS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
TEXT = "import os\n\nfor name in os.listdir('.'):\n    print(name)\n" * 40


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], 280)


def _weights(recipe, seed=5):
    """As if trained: no norm is 1, and scores differ enough to matter."""
    stream = torch.Generator().manual_seed(seed)
    made = {name: w[0] for name, w in initialize(recipe, (seed,), torch.device("cpu")).items()}
    return {
        n: (w if n.startswith("norm") else 5 * w) + 0.1 * torch.randn(w.shape, generator=stream)
        for n, w in made.items()
    }


def _bpe(tiny, **changes):
    return tiny.with_({"data.tokenizer": "bpe", "data.vocabulary_tokens": 280, **changes})


def _tokens(recipe, num_tokens=32):
    return torch.randint(0, recipe.data.vocabulary_tokens, (num_tokens,), generator=torch.Generator().manual_seed(1))


def _run(script: str, folder: Path) -> str:
    said = io.StringIO()
    with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script", str(folder)])
        exec(compile(script, "docs/export.md", "exec"), {})
    return said.getvalue()


def test_the_docs_script_without_blueberry_gives_our_logits(tiny, tokenizer, tmp_path):
    recipe = _bpe(tiny)
    weights = _weights(recipe)
    export(weights, recipe, tokenizer, tmp_path)
    assert len([line for line in ALONE.splitlines() if line.strip()]) <= 25
    scope: dict = {}
    exec(compile(ALONE, "docs/export.md", "exec"), scope)
    tokens = _tokens(recipe)
    ours = logits(weights, recipe, tokens[None])[0]
    assert ours.std() > 0.5
    torch.testing.assert_close(scope["logits"](tmp_path, tokens), ours, rtol=1e-4, atol=1e-4)
    for other in (
        recipe.with_({"model.feed_forward.kind": "mlp"}),
        recipe.with_({"model.feed_forward.activation": "gelu"}),
    ):
        export(_weights(other), other, tokenizer, tmp_path)
        with pytest.raises(AssertionError):
            scope["logits"](tmp_path, tokens)


@pytest.mark.parametrize("kind", ["moe", "mlp"])
def test_the_docs_script_with_blueberry_runs_and_loads_what_was_exported(tiny, tokenizer, tmp_path, kind):
    recipe = _bpe(tiny, **{"model.feed_forward.kind": kind})
    weights = _weights(recipe)
    export(weights, recipe, tokenizer, tmp_path)
    loaded, same = load(tmp_path)
    assert loaded == recipe
    assert all(torch.equal(same[name], w) for name, w in weights.items())
    best = logits(weights, recipe, torch.tensor(tokenizer.encode("import os").astype("int64"))[None])[0, -1].topk(5)
    assert _run(WITH_BLUEBERRY, tmp_path) == f"{best}\n"


VARIANTS = {
    "ArceeForCausalLM": [{"model.feed_forward.kind": "mlp", "model.feed_forward.activation": a} for a in ("silu", "gelu", "relu-squared")],
    "LlamaForCausalLM": [
        {"model.feed_forward.kind": "swiglu"},
        {"model.feed_forward.kind": "swiglu", "model.attention.kind": "grouped-query"},
        {"model.feed_forward.kind": "swiglu", "model.tied_head": False},
    ],
    "MixtralForCausalLM": [{"model.feed_forward.gated": True, "model.feed_forward.activation": a} for a in ("silu", "gelu")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), [(name, changes) for name, all_ in VARIANTS.items() for changes in all_])
def test_transformers_gives_our_logits(tiny, tokenizer, tmp_path, name, changes):
    transformers = pytest.importorskip("transformers")
    try:
        recipe = _bpe(tiny, **changes, **{"model.attention.rotary_base": 500.0})
    except RecipeError as error:
        pytest.skip(str(error))  # a kind that this version has not
    weights = _weights(recipe)
    form = export(weights, recipe, tokenizer, tmp_path)
    assert not isinstance(form, str)
    assert form.architecture == name
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "transformers")
    assert type(model).__name__ == name
    tokens = _tokens(recipe)[None]
    with torch.no_grad():
        theirs = model(tokens).logits
    torch.testing.assert_close(theirs, logits(weights, recipe, tokens), rtol=1e-4, atol=2e-4)
    encoder = transformers.AutoTokenizer.from_pretrained(tmp_path / "transformers")
    assert encoder("import os").input_ids == tokenizer.encode("import os").tolist()
    assert _run(WITH_TRANSFORMERS, tmp_path).startswith("import os")


def test_where_no_architecture_agrees_one_line_says_why(tiny, tokenizer, tmp_path):
    said = export(_weights(_bpe(tiny)), _bpe(tiny), tokenizer, tmp_path)
    assert isinstance(said, str)
    assert "gated experts" in said
    assert json.loads((tmp_path / "config.json").read_text())["transformers"] == {"none": said}
    assert not (tmp_path / "transformers").exists()


@pytest.fixture
def store(tiny, tmp_path) -> Path:
    """A store that holds one run's weights, as the trainer keeps them."""
    folder = tmp_path / "store"
    (folder / "weights").mkdir(parents=True)
    _keep(folder / "weights" / "0123456789abcdef.safetensors", tiny, _weights(tiny))
    return folder


def _keep(path, recipe, weights, tokenizer=None):
    save_weights(path, Trained(recipe, data_digest(recipe.data), tokenizer or Tokenizer(merged=()), weights))


def test_a_finished_run_is_exported_by_the_beginning_of_its_name(tiny, store, tmp_path):
    said = api.export("0123", tmp_path / "out", store=store)
    assert said.startswith(f"wrote {tmp_path / 'out'}")
    recipe, weights = load(tmp_path / "out")
    assert recipe == tiny
    assert all(torch.equal(weights[name], w) for name, w in _weights(tiny).items())


def test_the_command_exports(store, tmp_path, command):
    done = command("export", "0123", tmp_path / "out", "--store", store, "--json")
    assert json.loads(done.out)["folder"] == str(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("spoil", "run", "said"),
    [
        (lambda path, tiny: None, "ffff", "no weights of it"),
        (lambda path, tiny: None, "", "no weights of it"),
        (lambda path, tiny: _keep(path.with_stem("0123aaaa"), tiny, _weights(tiny)), "0123", "begins 2 runs"),
        (lambda path, tiny: path.write_bytes(b"no"), "0123", "cannot be read"),
        (lambda path, tiny: save_file({"a": torch.ones(1)}, path), "0123", "only 'blueberry/weights/1' is read here"),
        (lambda path, tiny: _keep(path, tiny, {**_weights(tiny), "router": torch.ones(2)}), "0123", "router has shape (2,)"),
        (lambda path, tiny: _keep(path, tiny, _weights(tiny), train_tokenizer([TEXT], 280)), "0123", "a tokenizer of 280"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_one_line(tiny, store, tmp_path, spoil, run, said):
    spoil(store / "weights" / "0123456789abcdef.safetensors", tiny)
    with pytest.raises(BlueberryError) as error:
        api.export(run, tmp_path / "out", store=store)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("files", [{}, {"config.json": "{"}, {"config.json": '{"format": "another"}'}])
def test_a_folder_without_a_model_is_one_line(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(StoreError, match="no model exported by Blueberry"):
        load(tmp_path)


def test_another_tokenizer_is_refused(tiny, tmp_path):
    with pytest.raises(StoreError, match="280 tokens; the weights are of a vocabulary of 256"):
        export(_weights(tiny), tiny, train_tokenizer([TEXT], 280), tmp_path)
