import math

import pytest
import torch
import torch.nn.functional as F

from blueberry.lm.attention import attend, rotary_tables, rotate, same_document
from blueberry.lm.draws import ATTENTION, Draws
from blueberry.lm.layers import head_loss, head_scores, initialize
from blueberry.lm.model import LanguageModel
from blueberry.recipe import Recipe
from tests.lm.conftest import keys_of

CPU = torch.device("cpu")


def _tokens(recipe: Recipe, num_lanes: int = 1, num_sequences: int = 3) -> torch.Tensor:
    shape = (num_lanes, num_sequences, recipe.model.context_tokens)
    return torch.randint(0, recipe.data.vocabulary_tokens, shape, generator=torch.Generator().manual_seed(0))


def test_rotation_depends_on_distance_alone(tiny):
    cos, sin = rotary_tables(tiny.with_({"model.context_tokens": 64}).model, CPU)
    query, key = torch.randn(1, 1, 16), torch.randn(1, 1, 16)

    def score(i: int, j: int) -> float:
        at_i = rotate(query, cos[i : i + 1], sin[i : i + 1])
        at_j = rotate(key, cos[j : j + 1], sin[j : j + 1])
        return (at_i * at_j).sum().item()

    assert score(5, 3) == pytest.approx(score(45, 43), abs=1e-4)
    assert score(5, 3) == pytest.approx(score(2, 0), abs=1e-4)
    assert abs(score(5, 3) - score(5, 4)) > 1e-3


def test_rotation_turns_positions_and_not_heads(tiny):
    cos, sin = rotary_tables(tiny.model, CPU)
    x = torch.ones(2, tiny.model.context_tokens, 4, 16)  # sequences, positions, heads, features
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[:, :, 0], turned[:, :, 3])
    assert torch.equal(turned[:, 0], x[:, 0])
    assert (turned[:, 1] - turned[:, 2]).abs().max() > 0.1


def test_attention_equals_a_plain_softmax(tiny):
    """The fused kernel, and the explicit path that dropout takes, against each other."""
    weights = initialize(tiny, (3,), CPU)
    tokens = _tokens(tiny)
    fused = LanguageModel.build(tiny, CPU).hidden(weights, tokens).x_NSD
    nearly_none = tiny.with_({"model.dropout": 1e-12})  # takes the explicit path and drops nothing
    explicit = LanguageModel.build(nearly_none, CPU).hidden(weights, tokens, keys_SR=keys_of((3,), 0, range(3))).x_NSD
    torch.testing.assert_close(fused, explicit, rtol=1e-4, atol=1e-5)


def test_initial_weights_depend_on_the_lane_s_seed_alone(tiny):
    both, alone = initialize(tiny, (7, 8), CPU), initialize(tiny, (8,), CPU)
    for name in both:
        assert torch.equal(both[name][1], alone[name][0])
        if not name.startswith("norm."):
            assert not torch.equal(both[name][0], both[name][1])
            assert both[name].std() == pytest.approx(tiny.model.initial_sd, rel=0.1)


def test_fresh_model_is_nearly_uniform(tiny):
    weights = initialize(tiny, (0,), CPU)
    tokens = _tokens(tiny)
    hidden = LanguageModel.build(tiny, CPU).hidden(weights, tokens)
    elsewhere = tokens.flatten(1).roll(7, 1)  # a tied head knows the token it sees, but not this one
    loss = head_loss(hidden.x_NSD, weights["embedding"], elsewhere) / tokens.numel()
    assert loss.item() == pytest.approx(math.log(256), abs=0.3)
    assert hidden.balance_N.item() / tiny.model.num_layers == pytest.approx(1.0, abs=0.2)
    assert hidden.load_NLE.sum().item() == tokens.numel() * 2 * tiny.model.num_layers


@pytest.mark.parametrize("chunk", [1 << 19, 1000])
def test_head_loss_and_gradients_equal_cross_entropy(monkeypatch, chunk):
    monkeypatch.setattr("blueberry.lm.layers.CHUNK_ELEMENTS", {"cpu": chunk})
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(2, 37, 8, generator=stream, dtype=torch.float64).requires_grad_()
    w = torch.randn(2, 99, 8, generator=stream, dtype=torch.float64).requires_grad_()
    target = torch.randint(0, 99, (2, 37), generator=stream)
    logits = torch.einsum("nsd,nvd->nsv", x, w)
    expected = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(2, 37)
    made = head_loss(x, w, target)
    torch.testing.assert_close(made, expected.sum(1))
    scale = torch.tensor([0.3, -2.0], dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((made * scale).sum(), [x, w]),
        torch.autograd.grad((expected.sum(1) * scale).sum(), [x, w]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    losses, rights = head_scores(x.detach(), w.detach(), target)
    torch.testing.assert_close(losses, expected.detach())
    assert torch.equal(rights, logits.argmax(-1) == target)


@pytest.mark.parametrize("kind", ["moe", "mlp"])
def test_dropout_acts_at_each_of_its_places(tiny, monkeypatch, kind):
    """After the embedding, in attention, inside the feed-forward, on both residual branches, before the head."""
    drawn = []

    def recording(keep):
        def recorded(draws, site, *given):
            drawn.append(key := draws.keys_SR[site, 0].item())
            return keep(draws, site, *given) * (key != zeroed)

        return recorded

    recipe = tiny.with_({"model.feed_forward.kind": kind, "model.dropout": 0.1})
    weights, tokens = initialize(recipe, (0,), CPU), _tokens(recipe)
    model = LanguageModel.build(recipe, CPU)
    for name in ("keep", "keep_rows"):
        monkeypatch.setattr(Draws, name, recording(getattr(Draws, name)))
    zeroed = None
    plain = model.hidden(weights, tokens, keys_SR=keys_of((0,), 0, range(3))).x_NSD
    numbers = [0, 1, *(8 * layer + site for layer in (1, 2) for site in (2, 3, 5, 6))]
    sites = keys_of((0,), 0, range(3))[numbers, 0].tolist()
    assert sorted(drawn) == sorted(sites)
    for zeroed in sites:  # what is drawn is used: a mask of zeros there changes the outcome
        changed = model.hidden(weights, tokens, keys_SR=keys_of((0,), 0, range(3))).x_NSD
        assert not torch.equal(changed, plain), zeroed


@pytest.mark.parametrize("piece", [1, 1 << 20])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout_and_its_gradients_are_those_that_autograd_finds(monkeypatch, piece, masked):
    monkeypatch.setattr("blueberry.lm.attention.PIECE_ELEMENTS", piece)
    stream = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 7, 4, generator=stream, dtype=torch.float64).requires_grad_() for _ in range(2))
    v = torch.randn(2, 3, 7, 5, generator=stream, dtype=torch.float64).requires_grad_()
    visible = torch.ones(2, 1, 7, 7, dtype=torch.bool).tril()
    if masked:
        visible = same_document(torch.tensor([[5, 0, 7, 7, 0, 0, 3], [1, 2, 3, 4, 5, 6, 7]]), 0)
    draws = Draws(keys_of((0,), 0, range(2)), 0.4)
    made = attend(q, k, v, visible if masked else None, draws)
    score = (q @ k.mT / 2).masked_fill(~visible, float("-inf")).softmax(-1)
    expected = (score * draws.keep(ATTENTION, score)) @ v
    torch.testing.assert_close(made, expected, rtol=1e-6, atol=1e-7)
    weight = torch.randn(made.shape, generator=stream, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((made * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
