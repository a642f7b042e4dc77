"""One contract for every kind of model: each row of `variants.VARIANTS` is held to all of it."""

import math
import typing

import pytest
import torch

from blueberry.architecture import Model, flops_per_token, is_matrix, parameters, state_shapes, weight_shapes
from blueberry.lm.checkpoint import Checkpoint
from blueberry.lm.layers import head_loss, head_weight, initialize
from blueberry.lm.model import LanguageModel
from blueberry.lm.training import Group
from blueberry.recipe import Recipe
from blueberry.settings import Section
from blueberry.study.placement import lanes_for
from blueberry.text.dataset import Dataset
from tests.lm import reference
from tests.lm.conftest import CPU, keys_of
from tests.lm.variants import BASE, CHANGES, VARIANTS, big_weights, each_variant, random_tokens, train_numbers, variant


def _kinds_of(section: type[Section], prefix: str = "") -> set[tuple[str, object]]:
    """Every choice a section offers: (setting, value) of each kind, literal and boolean."""
    found: set[tuple[str, object]] = set()
    for name, field in section.model_fields.items():
        annotation: typing.Any = field.annotation
        if annotation is bool:
            found |= {(prefix + name, True), (prefix + name, False)}
        elif typing.get_origin(annotation) is typing.Literal:
            found |= {(prefix + name, value) for value in typing.get_args(annotation)}
        for kind in typing.get_args(annotation):
            if isinstance(kind, type) and issubclass(kind, Section):
                found |= _kinds_of(kind, f"{prefix}{name}.")
    return found


def test_every_kind_has_a_variant():
    shown = {(key.removeprefix("model."), value) for name in VARIANTS for key, value in variant(name).flat().items()}
    assert _kinds_of(Model) <= shown


@each_variant
def test_shapes(name):
    recipe = variant(name)
    weights = initialize(recipe, (0, 1), CPU)
    assert {key: tuple(w.shape[1:]) for key, w in weights.items()} == weight_shapes(recipe)
    hidden = LanguageModel.build(recipe, CPU).hidden({**weights, **_state(recipe, 2)}, random_tokens(2, 3, 8))
    assert hidden.x_NSD.shape == (2, 24, 16)
    kind = recipe.model.feed_forward
    if hidden.load_NLE is None:
        assert kind.kind in ("mlp", "swiglu")
    else:
        assert hidden.load_NLE.shape == (2, 2, kind.num_experts)
        assert (hidden.load_NLE.sum(-1) == 24 * kind.top_k).all()


def _state(recipe: Recipe, num_lanes: int) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(num_lanes, *shape) for name, shape in state_shapes(recipe).items()}


@each_variant
def test_loss_and_gradients_equal_the_plain_model_in_float64(name):
    recipe = variant(name)
    weights, tokens = big_weights(recipe, 2), random_tokens(2, 2, 9)
    trained = list(weight_shapes(recipe))

    def objective(cross_entropy, balance, z):
        return cross_entropy if balance is None else cross_entropy + 0.7 * balance + 0.3 * z

    leaves = {key: w.clone().requires_grad_(key in trained) for key, w in weights.items()}
    hidden = LanguageModel.build(recipe, CPU).hidden(leaves, tokens[..., :-1])
    loss_N = head_loss(hidden.x_NSD, head_weight(leaves), tokens[..., 1:].flatten(1))
    made_N = objective(loss_N, hidden.balance_N, hidden.z_N)
    made = torch.autograd.grad(made_N.sum(), [leaves[key] for key in trained])
    for lane in range(2):
        alone = {key: w[lane].clone().requires_grad_(key in trained) for key, w in weights.items()}
        x, balance, z, loads = reference.forward(recipe, alone, tokens[lane, :, :-1])
        expected = objective(reference.loss(alone, x, tokens[lane, :, 1:]), balance, z)
        torch.testing.assert_close(hidden.x_NSD[lane].view_as(x), x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(made_N[lane], expected, rtol=1e-10, atol=1e-10)
        assert hidden.load_NLE is None or hidden.load_NLE[lane].tolist() == loads
        gradients = torch.autograd.grad(expected, [alone[key] for key in trained])
        for key, mine, theirs in zip(trained, made, gradients, strict=True):
            assert theirs.abs().max() > 0, key
            torch.testing.assert_close(
                mine[lane], theirs, rtol=1e-8, atol=1e-9, msg=lambda said, key=key: f"{key}: {said}"
            )


@pytest.mark.parametrize("training", [False, True])
@each_variant
def test_a_token_cannot_see_those_after_it(name, training):
    recipe = variant(name, **{"model.dropout": 0.1})
    weights, model = big_weights(recipe, 1), LanguageModel.build(recipe, CPU)
    keys = keys_of((0,), 0, range(3)) if training else None
    tokens, place = random_tokens(1, 3, 8, lowest=1), 4
    changed = tokens.clone()
    changed[:, :, place] = changed[:, :, place] % 255 + 1
    before, after = (
        model.hidden(weights, t, keys_SR=keys, noise_N=torch.full((1,), 0.1)).x_NSD.view(3, 8, -1)
        for t in (tokens, changed)
    )
    torch.testing.assert_close(before[:, :place], after[:, :place], rtol=1e-12, atol=1e-12)
    assert (before[:, place:] - after[:, place:]).abs().amax((0, 2)).min() > 1e-6


@pytest.mark.parametrize("kind", ["multi-head", "grouped-query", "latent"])
def test_a_masked_document_is_as_if_alone(kind):
    """Rotary positions act by distance alone, so where a document stands in its window does not matter."""
    recipe = BASE.with_({"model.attention.kind": kind, "model.document_mask": True})
    weights, model = big_weights(recipe, 1), LanguageModel.build(recipe, CPU)
    first, second = torch.tensor([[[5, 6, 0]]]), torch.tensor([[[7, 8, 9, 0, 3]]])
    together = model.hidden(weights, torch.cat((first, second), -1)).x_NSD
    torch.testing.assert_close(together[:, :3], model.hidden(weights, first).x_NSD, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(together[:, 3:], model.hidden(weights, second).x_NSD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["moe-nano", "latent-nano", "mlp-nano"])
def test_recipes_that_are_trained_side_by_side_on_a_cpu_equal_single_runs_bitwise(name, short_documents):
    """At their own size: which kernels multiply depends on it."""
    recipe = Recipe.load(name).with_(
        {"data": BASE.get("data"), "model.dropout": 0.1, "train.updates": 2, "evaluate.tokens": 64}
    )
    recipes = [recipe.with_(seed=seed) for seed in range(lanes_for(recipe, 8, (), 2))]
    assert len(recipes) == 4
    together = train_numbers(short_documents, *recipes)
    for lane in (0, 3):  # the first, and the last
        assert train_numbers(short_documents, recipes[lane]) == [together[lane]]


@each_variant
def test_lanes_equal_single_runs_bitwise(name, short_documents):
    per_lane = {
        "model.feed_forward.balance_weight": 0.5,
        "model.feed_forward.z_weight": 0.2,
        "model.feed_forward.router_noise": 0.5,
        "model.feed_forward.bias_rate": 0.1,
    }
    recipe = variant(name, **{"model.dropout": 0.1})
    other = recipe.with_({key: value for key, value in per_lane.items() if key in recipe.flat()}).with_(seed=1)
    recipes = [recipe, other]
    for lane, together in zip(recipes, train_numbers(short_documents, *recipes), strict=True):
        assert together["status"] == "completed"
        assert train_numbers(short_documents, lane) == [together]


@each_variant
def test_micro_batches_change_no_number(name, short_documents):
    """In float64, so that rounding cannot hide a rule."""
    recipe = variant(name, **{"model.dropout": 0.1})
    outcomes = []
    for micro in (6, 2):
        lanes = [recipe.with_({"train.micro_batch_sequences": micro, "seed": seed}) for seed in (0, 1)]
        group = Group(lanes, short_documents, CPU)
        group.weights.update((key, w.double()) for key, w in big_weights(recipe, 2).items() if key in group.weights)
        if group.do.balance_N is not None:
            group.do.balance_N, group.do.z_N = torch.tensor([0.5, 1.0]).double(), torch.tensor([0.2, 0.1]).double()
        loss_N, grads, load_NLE = group.do.gradients(group.inputs())
        outcomes.append({"loss": loss_N.double(), "load": load_NLE, **grads})
    whole, other = outcomes
    for key, expected in whole.items():
        tolerance = {"rtol": 1e-6, "atol": 1e-6} if key == "loss" else {"rtol": 1e-8, "atol": 1e-10}
        assert (expected is None) == (other[key] is None)
        if expected is not None:
            torch.testing.assert_close(other[key], expected, **tolerance, msg=lambda said, key=key: f"{key}: {said}")


@each_variant
def test_a_lane_put_back_goes_on_bitwise(name, short_documents):
    """Everything that carries over from update to update is in a lane's tensors, the routers' biases too."""
    recipe = variant(name, **{"model.dropout": 0.1})
    recipes = [recipe, recipe.with_(seed=1)]
    straight = Group(recipes, short_documents, CPU)
    straight.step()
    straight.step()
    saved = [{key: t.clone() for key, t in straight.checkpoint(lane).tensors.items()} for lane in range(2)]
    resumed = Group(recipes, short_documents, CPU)
    for lane in range(2):
        resumed.set_lane(lane, Checkpoint(2, saved[lane], vars(straight.recorded[lane])))
    for group in (straight, resumed):
        group.step()
    for lane in range(2):
        for key, tensor in straight.checkpoint(lane).tensors.items():
            assert torch.equal(tensor, resumed.checkpoint(lane).tensors[key]), key
            if "router_bias" in key:
                assert tensor.abs().max() > 0


@each_variant
def test_parameters_and_flops_are_the_closed_form(name):
    recipe = variant(name)
    model, sizes = recipe.model, {key: math.prod(shape) for key, shape in weight_shapes(recipe).items()}
    counted = parameters(recipe)
    assert counted.total == sum(sizes.values())
    assert counted.muon == sum(size for key, size in sizes.items() if is_matrix(key))
    assert counted.adamw == counted.total - counted.muon
    share = model.feed_forward.top_k / model.feed_forward.num_experts if "router" in sizes else 1
    active = {key: size * share if key.startswith("expert.") else size for key, size in sizes.items()}
    assert counted.active == sum(active.values())
    latent = model.attention if model.attention.kind == "latent" else None
    features = (
        latent.plain_size + latent.rope_size + latent.value_size if latent else 2 * model.width // model.num_heads
    )
    products = sum(size for key, size in active.items() if is_matrix(key)) + 256 * model.width
    attended = model.num_layers * model.num_heads * features * model.context_tokens / 2
    assert flops_per_token(recipe) == 6 * (products + attended)


def _numbers(recipe: Recipe, dataset: Dataset, num_updates: int) -> tuple:
    """What the first updates measure of a recipe."""
    group = Group([recipe], dataset, CPU)
    for _ in range(num_updates):
        group.step()
    group.read()
    recorded = group.recorded[0]
    return *recorded.train_loss, *recorded.gradient_norm


@each_variant
def test_no_setting_of_the_model_is_a_dead_knob(name, short_documents):
    """Those of every model in the first variant, those of its kinds of attention and feed-forward in each."""
    recipe = variant(name)
    unchanged = {num_updates: _numbers(recipe, short_documents, num_updates) for num_updates in (1, 2)}
    asked = "model." if name == "default" else ("model.attention.", "model.feed_forward.", "model.document_mask")
    for key, value in recipe.flat().items():
        if key.startswith(asked):
            values = CHANGES[key.removeprefix("model.")]
            other = next(candidate for candidate in values if candidate != value)
            num_updates = 2 if key == "model.feed_forward.bias_rate" else 1  # a bias moves after an update
            changed = _numbers(recipe.with_({key: other}), short_documents, num_updates)
            assert changed != unchanged[num_updates], key
