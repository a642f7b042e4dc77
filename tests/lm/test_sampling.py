"""Text from trained weights: kept whole, found by name, drawn by seed, within the context."""

import pytest
import torch

from blueberry.errors import DataError, StoreError
from blueberry.lm.layers import initialize
from blueberry.lm.model import LanguageModel
from blueberry.lm.trained import Trained, find_weights, load_weights, sample, save_weights
from blueberry.lm.training import Group, train
from blueberry.text.tokenizer import Tokenizer
from tests.lm.conftest import CPU, provenance

LETTERS = "the quick brown fox jumps over the lazy dog "


@pytest.fixture
def trained(tiny):
    weights = initialize(tiny, (3,), CPU)
    return Trained(tiny, "digest", Tokenizer(), {name: 3 * w[0] for name, w in weights.items()})


def draw(trained, prompt=LETTERS, *, num_tokens=12, temperature=1.0, seed=0):
    return sample(trained, prompt, num_tokens=num_tokens, temperature=temperature, seed=seed, device=CPU)


def test_the_same_seed_gives_the_same_text_and_another_another(trained):
    assert draw(trained) == draw(trained)
    assert draw(trained, seed=1).continuation != draw(trained).continuation
    assert draw(trained, temperature=0, seed=1) == draw(trained, temperature=0)
    assert draw(trained, temperature=1e-9).continuation == draw(trained, temperature=0).continuation


def test_greedy_takes_the_likeliest_token_of_the_last_context(trained, monkeypatch):
    """Against the model run by hand; more tokens than the context holds, so the window must slide."""
    context = trained.recipe.model.context_tokens
    windows = []
    forward = LanguageModel.hidden
    monkeypatch.setattr(
        LanguageModel, "hidden", lambda *given: (windows.append(given[2][0, 0].tolist()), forward(*given))[1]
    )
    made = draw(trained, temperature=0, num_tokens=20)
    monkeypatch.undo()
    seen = [0, *LETTERS.encode()]
    model = LanguageModel.build(trained.recipe, CPU)
    weights = {name: w[None] for name, w in trained.tensors.items()}
    expected = []
    for window in windows:
        assert window == seen[-context:]
        hidden = model.hidden(weights, torch.tensor([[seen[-context:]]]))
        expected.append(int((weights["embedding"][0] @ hidden.x_NSD[0, -1]).argmax()))
        seen.append(expected[-1])
    assert len(seen) > context + 20
    assert made.continuation == Tokenizer().decode(expected)
    assert made.text == LETTERS + made.continuation


def test_the_prompt_and_its_temperature_matter(trained):
    assert draw(trained, "abc").continuation != draw(trained, "xyz").continuation
    hot, cold = draw(trained, temperature=50.0, num_tokens=40), draw(trained, temperature=0.3, num_tokens=40)
    assert len(set(hot.continuation)) > len(set(cold.continuation))


def test_a_document_s_end_ends_the_text(trained, monkeypatch):
    tokens = iter([97, 98, 0, 99])
    monkeypatch.setattr("blueberry.lm.trained._choose", lambda *_: next(tokens))
    made = draw(trained)
    assert (made.continuation, made.num_tokens, made.ended) == ("ab", 2, True)


def test_an_empty_prompt_begins_a_document_where_it_can(trained):
    assert draw(trained, "").num_tokens > 0
    unmarked = Trained(trained.recipe, "digest", Tokenizer(separator=None), trained.tensors)
    with pytest.raises(DataError, match=r"^prompt: empty; [^\n]*; give some text$"):
        draw(unmarked, "")


def test_weights_come_back_as_they_were(trained, tmp_path):
    path = tmp_path / "deep" / "run.safetensors"
    save_weights(path, trained)
    again = load_weights(path)
    assert (again.recipe, again.data_digest, again.tokenizer) == (trained.recipe, "digest", Tokenizer())
    assert again.tensors.keys() == trained.tensors.keys()
    assert all(torch.equal(again.tensors[name], w) for name, w in trained.tensors.items())
    assert list(path.parent.iterdir()) == [path]


def test_damaged_or_disagreeing_weights_are_one_line(trained, tmp_path):
    path = tmp_path / "run.safetensors"
    save_weights(path, trained)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StoreError, match=r"run\.safetensors: damaged[^\n]*train that run again"):
        load_weights(path)
    other = Trained(trained.recipe, "digest", Tokenizer(merged=(b"th", b"he")), trained.tensors)
    save_weights(path, other)
    with pytest.raises(StoreError, match="weights for 256 tokens, a tokenizer of 258; they must agree"):
        load_weights(path)


def test_a_disk_that_refuses_is_one_line(trained, tmp_path):
    (tmp_path / "weights").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write the weights .* train\.keep_weights = false$"):
        save_weights(tmp_path / "weights" / "run.safetensors", trained)


def test_a_run_is_found_by_the_beginning_of_its_name(tmp_path):
    for name in ("abcd", "abef", "ab"):
        (tmp_path / f"{name}.safetensors").touch()
    assert find_weights(tmp_path, "abc").stem == "abcd"
    assert find_weights(tmp_path, "ab").stem == "ab"
    with pytest.raises(StoreError, match=r'^run "a": begins 3 runs \(ab, abcd, abef, \.\.\.\); '):
        find_weights(tmp_path, "a")
    for missing in ("x", ""):
        with pytest.raises(StoreError, match=rf'^run "{missing}": no weights of it in .*keep_weights'):
            find_weights(tmp_path, missing)


def test_training_keeps_each_lane_s_final_weights_unless_told_not_to(tiny, dataset, tmp_path, monkeypatch):
    short = tiny.with_({"train.updates": 4})
    recipes = [short, short.with_({"seed": 1}), short.with_({"seed": 2, "train.keep_weights": False})]
    last = []
    step = Group.step
    monkeypatch.setattr(Group, "step", lambda group: (step(group), last.append(group)))
    names = ["run0", "run1", "run2"]
    for _ in train(recipes, names, dataset, provenance(dataset), device=CPU, weights_folder=tmp_path):
        pass
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["run0", "run1"]
    for lane in (0, 1):
        kept = load_weights(tmp_path / f"run{lane}.safetensors")
        assert (kept.recipe, kept.data_digest) == (recipes[lane], dataset.digest)
        for name, w in last[-1].weights.items():
            assert torch.equal(kept.tensors[name], w[lane])


def test_a_diverged_run_leaves_no_weights(tiny, dataset, tmp_path, replace_gradients):
    replace_gradients(lambda group, inputs, gradients: (gradients(inputs)[0] * float("nan"), *gradients(inputs)[1:]))
    results = list(train([tiny], ["run"], dataset, provenance(dataset), device=CPU, weights_folder=tmp_path))
    assert results[-1].status == "diverged"
    assert list(tmp_path.iterdir()) == []
