"""The two models of the documents, as the shipped recipes have them."""

import math
from pathlib import Path

import pytest
import torch

from blueberry.architecture import parameters
from blueberry.lm.training import Group
from blueberry.recipe import Recipe
from blueberry.text.dataset import load
from tests.lm.conftest import CPU

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    ("name", "total", "muon", "adamw", "active_fraction"),
    [("moe-79m", 79_059_840, 60_180_480, 18_879_360, 0.463), ("deepseek-47m", 47_395_712, 0, 47_395_712, 1)],
)
def test_the_documents_models_have_the_documents_counts(name, total, muon, adamw, active_fraction):
    counted = parameters(Recipe.load(RECIPES / f"{name}.toml"))
    assert (counted.total, counted.muon, counted.adamw) == (total, muon, adamw)
    assert counted.active / counted.total == pytest.approx(active_fraction, abs=0.0005)


def test_the_documents_latent_model_counted_by_hand():
    """47,395,712 holds when one rotated key of 64 serves all heads and the biases lie where the names say."""
    attention = {
        "query down, its bias and norm": 512 * 128 + 128 + 128,
        "query up": 128 * 8 * 64,
        "latent and rotated key down, bias of both, norm of the latent": 512 * (128 + 64) + (128 + 64) + 128,
        "values up": 128 * 8 * 64,
        "output and its bias": 8 * 64 * 512 + 512,
    }
    layer = sum(attention.values()) + 3 * 512 * 2048 + 2 * 512
    assert 49152 * 512 + 6 * layer + 512 == 47_395_712


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moe-79m", "deepseek-47m"])
def test_the_documents_models_take_real_updates_on_the_embedded_corpus(name, tmp_path):
    """Their shapes, their vocabulary, no network; fewer sequences at once, as a CPU allows."""
    small = {"train.batch_sequences": 1, "train.micro_batch_sequences": 1, "train.updates": 2, "evaluate.tokens": 512}
    offline = Recipe.load(f"{name}-offline")
    assert offline.model_copy(update={"data": Recipe.load(name).data}) == Recipe.load(name)
    recipe = offline.with_(small)
    dataset = load(recipe.data, tmp_path)
    assert dataset.tokenizer.vocabulary_tokens == 49_152
    group = Group([recipe], dataset, CPU)
    before = {key: w.clone() for key, w in group.weights.items()}
    for _ in range(2):
        group.step()
    group.read()
    assert group.recorded[0].train_loss == pytest.approx([math.log(49_152)] * 2, abs=0.5)
    for key, w in group.weights.items():
        assert w.isfinite().all()
        assert not torch.equal(w, before[key]), key
