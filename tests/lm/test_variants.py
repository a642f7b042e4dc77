"""One contract for every kind of model: a row in VARIANTS is held to all of it.

A new setting of the model needs a value in CHANGES, a new kind a row in VARIANTS; without them a test fails.
"""

import math
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from blueberry.cost import flops_per_token, parameters
from blueberry.lm.checkpoint import Checkpoint
from blueberry.lm.draws import Draws
from blueberry.lm.evaluation import routing
from blueberry.lm.loss import head_loss
from blueberry.lm.model import LanguageModel
from blueberry.lm.routers import rebalanced
from blueberry.lm.training import Group, train
from blueberry.lm.weights import head_weight, initialize, is_matrix, state_shapes, weight_shapes
from blueberry.model_settings import Model
from blueberry.recipe import Recipe
from blueberry.settings import Section
from blueberry.text import Dataset
from blueberry.text.dataset import Split
from blueberry.text.tokenizer import Tokenizer
from tests.lm import reference
from tests.lm.conftest import CPU, numbers, provenance

BASE = Recipe().with_(
    {
        "model.width": 16,
        "model.num_heads": 4,
        "model.context_tokens": 8,
        "model.feed_forward.hidden": 6,
        "model.feed_forward.num_experts": 4,
        "data.corpus": "synthetic",
        "data.tokenizer": "byte",
        "optimizer.muon.num_iterations": 1,
        "train.updates": 4,
        "train.batch_sequences": 6,
        "evaluate.every_updates": 2,
        "evaluate.tokens": 64,
    }
)
LATENT = {
    "attention.kind": "latent",
    "attention.key_value_rank": 8,
    "attention.rope_size": 4,
    "attention.plain_size": 2,
    "attention.value_size": 6,
}
"""With sizes such that each lane's matrices begin at a multiple of 64 bytes: MKL sums in an order that depends on it."""
BIAS_BALANCED = {"feed_forward.kind": "moe-bias-balanced", "feed_forward.bias_rate": 0.01}
VARIANTS = {
    "default": {},
    "silu": {"feed_forward.kind": "mlp"},
    "gelu, normed, untied, scaled, documents": {
        "feed_forward.kind": "mlp",
        "feed_forward.activation": "gelu",
        "attention.query_key_norm": True,
        "tied_head": False,
        "initialization": "scaled",
        "document_mask": True,
    },
    "relu squared, fan-in": {
        "feed_forward.kind": "mlp",
        "feed_forward.activation": "relu-squared",
        "initialization": "fan-in",
    },
    "softmax before, gated, shared": {
        "feed_forward.router": "softmax-before",
        "feed_forward.gated": True,
        "feed_forward.num_shared_experts": 1,
        "feed_forward.z_weight": 0.1,
    },
    "bias-balanced, gated, shared": {
        **BIAS_BALANCED,
        "feed_forward.gated": True,
        "feed_forward.num_shared_experts": 2,
        "feed_forward.activation": "gelu",
    },
    "grouped-query, swiglu": {
        "attention.kind": "grouped-query",
        "attention.num_kv_heads": 2,
        "feed_forward.kind": "swiglu",
    },
    "one kv head, normed, fine experts, documents, untied": {
        "attention.kind": "grouped-query",
        "attention.query_key_norm": True,
        "feed_forward.num_experts": 8,
        "feed_forward.hidden": 3,
        "feed_forward.top_k": 4,
        "feed_forward.num_shared_experts": 2,
        "document_mask": True,
        "tied_head": False,
    },
    "latent without query latent, swiglu": {**LATENT, "feed_forward.kind": "swiglu"},
    "latent with all, softmax after": {**LATENT, "attention.query_rank": 12, "attention.bias": True},
    "latent, bias-balanced, documents, untied": {
        **LATENT,
        **BIAS_BALANCED,
        "attention.query_rank": 12,
        "document_mask": True,
        "tied_head": False,
    },
    "the documents' latent": {
        **LATENT,
        "attention.query_rank": 4,
        "attention.plain_size": 0,
        "attention.bias": True,
        "feed_forward.kind": "swiglu",
    },
}
CHANGES = {
    "width": (24,),
    "num_layers": (1,),
    "num_heads": (2,),
    "context_tokens": (4,),
    "document_mask": (True, False),
    "dropout": (0.3,),
    "tied_head": (True, False),
    "initialization": ("fan-in", "normal"),
    "initial_sd": (0.1,),
    "attention.kind": ("latent", "multi-head"),
    "attention.rotary_base": (10.0,),
    "attention.query_key_norm": (True, False),
    "attention.num_kv_heads": (4,),
    "attention.query_rank": (6,),
    "attention.key_value_rank": (4,),
    "attention.rope_size": (2,),
    "attention.plain_size": (3,),
    "attention.value_size": (3,),
    "attention.bias": (True, False),
    "feed_forward.kind": ("swiglu", "moe"),
    "feed_forward.hidden": (5,),
    "feed_forward.activation": ("gelu", "silu"),
    "feed_forward.gated": (True, False),
    "feed_forward.num_experts": (6,),
    "feed_forward.top_k": (3,),
    "feed_forward.num_shared_experts": (1, 0),
    "feed_forward.router": ("softmax-before", "softmax-after"),
    "feed_forward.balance_weight": (1.0,),
    "feed_forward.z_weight": (1.0,),
    "feed_forward.router_noise": (3.0,),
    "feed_forward.bias_rate": (5.0,),
}
"""For each setting of the model, values to change it to: the first that is not the variant's own."""


RECIPES = Path(__file__).parents[2] / "recipes"


def variant(name: str, **more) -> Recipe:
    return BASE.with_({f"model.{key}": value for key, value in VARIANTS[name].items()}).with_(more)


def each_variant(test):
    return pytest.mark.parametrize("name", list(VARIANTS))(test)


@pytest.fixture(scope="module")
def short_documents() -> Dataset:
    """Random bytes in documents of 2 to 9 tokens, so that a window holds several."""
    stream = np.random.default_rng(0)

    def split(name, num_documents):
        lengths = stream.integers(2, 10, num_documents)
        documents = [np.append(stream.integers(1, 256, length - 1), 0) for length in lengths]
        names = tuple(map(str, range(num_documents)))
        return Split(name, np.concatenate(documents).astype(np.uint16), names, np.append(0, lengths.cumsum()))

    return Dataset(split("train", 200), split("validation", 40), split("test", 40), Tokenizer(), "short", None)


def _big_weights(recipe: Recipe, num_lanes: int) -> dict[str, torch.Tensor]:
    """Weights and state in float64, large enough that every part matters; gains, biases and state at random too."""
    stream = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in {**weight_shapes(recipe), **state_shapes(recipe)}.items():
        drawn = torch.randn(num_lanes, *shape, generator=stream, dtype=torch.float64) * 0.4
        weights[name] = 1 + drawn if name.startswith("norm.") else drawn
    return weights


def _tokens(num_lanes: int, num_sequences: int, num_tokens: int, *, lowest: int = 0) -> torch.Tensor:
    """Random tokens, with a separator (0) in each sequence if `lowest` lets it."""
    stream = torch.Generator().manual_seed(1)
    tokens = torch.randint(max(lowest, 1), 256, (num_lanes, num_sequences, num_tokens), generator=stream)
    if lowest == 0:
        tokens[:, :, num_tokens // 3] = 0
    return tokens


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
    hidden = LanguageModel.build(recipe, CPU).hidden({**weights, **_state(recipe, 2)}, _tokens(2, 3, 8))
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
    weights, tokens = _big_weights(recipe, 2), _tokens(2, 2, 9)
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
    weights, model = _big_weights(recipe, 1), LanguageModel.build(recipe, CPU)
    draws = Draws((0,), 0, range(3), CPU) if training else None
    tokens, place = _tokens(1, 3, 8, lowest=1), 4
    changed = tokens.clone()
    changed[:, :, place] = changed[:, :, place] % 255 + 1
    before, after = (
        model.hidden(weights, t, draws=draws, noise_N=torch.full((1,), 0.1)).x_NSD.view(3, 8, -1)
        for t in (tokens, changed)
    )
    torch.testing.assert_close(before[:, :place], after[:, :place], rtol=1e-12, atol=1e-12)
    assert (before[:, place:] - after[:, place:]).abs().amax((0, 2)).min() > 1e-6


@pytest.mark.parametrize("kind", ["multi-head", "grouped-query", "latent"])
def test_a_masked_document_is_as_if_alone(kind):
    """Rotary positions act by distance alone, so where a document stands in its window does not matter."""
    recipe = BASE.with_({"model.attention.kind": kind, "model.document_mask": True})
    weights, model = _big_weights(recipe, 1), LanguageModel.build(recipe, CPU)
    first, second = torch.tensor([[[5, 6, 0]]]), torch.tensor([[[7, 8, 9, 0, 3]]])
    together = model.hidden(weights, torch.cat((first, second), -1)).x_NSD
    torch.testing.assert_close(together[:, :3], model.hidden(weights, first).x_NSD, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(together[:, 3:], model.hidden(weights, second).x_NSD, rtol=1e-5, atol=1e-5)


def _train(dataset: Dataset, *recipes: Recipe) -> list[dict]:
    names = [f"run{index}" for index in range(len(recipes))]
    results = {
        r.fingerprint: r
        for r in train(recipes, names, dataset, provenance(dataset), device=CPU)
        if hasattr(r, "status")
    }
    return [numbers(results[name]) for name in names]


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
    for lane, together in zip(recipes, _train(short_documents, *recipes), strict=True):
        assert together["status"] == "completed"
        assert _train(short_documents, lane) == [together]


@each_variant
def test_micro_batches_change_no_number(name, short_documents):
    """In float64, so that rounding cannot hide a rule."""
    recipe = variant(name, **{"model.dropout": 0.1})
    outcomes = []
    for micro in (6, 3, 1):
        lanes = [recipe.with_({"train.micro_batch_sequences": micro, "seed": seed}) for seed in (0, 1)]
        group = Group(lanes, short_documents, CPU)
        group.weights = {key: w.double() for key, w in _big_weights(recipe, 2).items() if key in group.weights}
        if group.balance_N is not None:
            group.balance_N, group.z_N = torch.tensor([0.5, 1.0]).double(), torch.tensor([0.2, 0.1]).double()
        loss_N, grads = group._gradients(group._batch())
        outcomes.append({"loss": loss_N.double(), "load": group.load_NLE, **grads})
    whole, *others = outcomes
    for other in others:
        for key, expected in whole.items():
            tolerance = {"rtol": 1e-6, "atol": 1e-6} if key == "loss" else {"rtol": 1e-8, "atol": 1e-10}
            assert (expected is None) == (other[key] is None)
            if expected is not None:
                torch.testing.assert_close(
                    other[key], expected, **tolerance, msg=lambda said, key=key: f"{key}: {said}"
                )


@each_variant
def test_a_lane_put_back_goes_on_bitwise(name, short_documents):
    """Everything that carries over from update to update is in a lane's tensors, the routers' biases too."""
    recipe = variant(name, **{"model.dropout": 0.1})
    recipes = [recipe, recipe.with_(seed=1)]
    straight = Group(recipes, short_documents, CPU)
    straight.step()
    straight.step()
    saved = [{key: t.clone() for key, t in straight.lane_tensors(lane).items()} for lane in range(2)]
    resumed = Group(recipes, short_documents, CPU)
    straight.read()
    for lane in range(2):
        resumed.set_lane(lane, Checkpoint(2, saved[lane], vars(straight.recorded[lane])))
    for group in (straight, resumed):
        group.step()
    for lane in range(2):
        for key, tensor in straight.lane_tensors(lane).items():
            assert torch.equal(tensor, resumed.lane_tensors(lane)[key]), key
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


def _numbers(recipe: Recipe, dataset: Dataset) -> tuple:
    """What two updates measure of a recipe."""
    group = Group([recipe], dataset, CPU)
    group.step()
    group.step()
    group.read()
    recorded = group.recorded[0]
    return *recorded.train_loss, *recorded.gradient_norm


@each_variant
def test_no_setting_of_the_model_is_a_dead_knob(name, short_documents):
    recipe = variant(name)
    unchanged = _numbers(recipe, short_documents)
    for key, value in recipe.flat().items():
        if key.startswith("model."):
            values = CHANGES[key.removeprefix("model.")]
            other = next(candidate for candidate in values if candidate != value)
            assert _numbers(recipe.with_({key: other}), short_documents) != unchanged, key


def test_fine_grained_experts_have_the_same_parameters_and_work():
    """Experts cut into m pieces, m times as many chosen: only the router grows (Dai et al. 2024)."""
    coarse = BASE.with_({"model.feed_forward.hidden": 12})
    fine = BASE.with_(
        {"model.feed_forward.hidden": 3, "model.feed_forward.num_experts": 16, "model.feed_forward.top_k": 8}
    )
    router = coarse.model.num_layers * coarse.model.width * (16 - 4)
    assert parameters(fine).total == parameters(coarse).total + router
    assert parameters(fine).active == parameters(coarse).active + router


def test_a_selection_bias_moves_towards_an_even_load():
    load = torch.tensor([[[6.0, 2.0, 4.0, 4.0]], [[0.0, 0.0, 8.0, 0.0]]])
    moved = rebalanced(torch.zeros(2, 1, 4), load, torch.tensor([0.1, 0.0]))
    assert moved.flatten(1).tolist() == [pytest.approx([-0.1, 0.1, 0, 0]), [0, 0, 0, 0]]


def test_bias_balancing_evens_a_collapsed_router(short_documents):
    recipe = BASE.with_({"model.feed_forward.kind": "moe-bias-balanced", "model.feed_forward.bias_rate": 0.05})
    group = Group([recipe], short_documents, CPU)
    group.state["state.router_bias"][:, :, 0] = 0.8  # every token goes to expert 0
    group.step()
    assert (group.load_NLE[..., 0] == 48).all()
    for _ in range(40):
        group.update = 0
        group.step()
    assert group.load_NLE[..., 0].max() < 34


def test_a_lane_that_has_diverged_keeps_its_selection_bias(short_documents):
    recipe = BASE.with_({"model.feed_forward.kind": "moe-bias-balanced"})
    group = Group([recipe, recipe.with_(seed=1)], short_documents, CPU)
    group.alive_N[1] = False
    group.step()
    moved = group.state["state.router_bias"].flatten(1).abs().max(1).values
    assert moved[0] > 0
    assert moved[1] == 0


def test_routing_in_the_units_of_a_report():
    made = routing(np.array([[4.0, 4.0, 4.0, 4.0], [8.0, 8.0, 0.0, 0.0]]), 16)
    assert made.max_load_ratio == (1, 2)
    assert made.load_entropy_nats == pytest.approx((math.log(4), math.log(2)))
    assert made.dropped_fraction == 0
    assert routing(np.array([[4.0, 4.0]]), 16).dropped_fraction == 0.5


@each_variant
def test_every_evaluation_records_the_experts_load(name, short_documents):
    recipe = variant(name)
    (result,) = _train(short_documents, recipe)
    kind = recipe.model.feed_forward
    assert len(result["evaluations"]) == 2
    for evaluation in result["evaluations"]:
        if kind.kind in ("mlp", "swiglu"):
            assert evaluation["routing"] is None
            continue
        made = evaluation["routing"]
        assert made["dropped_fraction"] == 0
        assert len(made["max_load_ratio"]) == recipe.model.num_layers
        assert all(1 <= ratio <= kind.num_experts / kind.top_k for ratio in made["max_load_ratio"])
        assert all(math.log(kind.top_k) <= e <= math.log(kind.num_experts) + 1e-9 for e in made["load_entropy_nats"])


@pytest.mark.parametrize(
    ("initialization", "name", "sd"),
    [
        ("normal", "attention.out", 0.1),
        ("scaled", "attention.out", 0.05),
        ("scaled", "expert.out", 0.05),
        ("scaled", "shared.out", 0.05),
        ("scaled", "attention.qkv", 0.1),
        ("scaled", "embedding", 0.1),
        ("fan-in", "attention.qkv", 64**-0.5),
        ("fan-in", "expert.out", 128**-0.5),
        ("fan-in", "embedding", 0.1),
        ("fan-in", "head", 0.1),
    ],
)
def test_initial_standard_deviations(initialization, name, sd):
    settings = {
        "initialization": initialization,
        "initial_sd": 0.1,
        "tied_head": False,
        "feed_forward.num_shared_experts": 1,
    }
    recipe = Recipe().with_({f"model.{key}": value for key, value in settings.items()})
    assert recipe.model.num_layers == 2
    assert initialize(recipe, (0,), CPU)[name].std().item() == pytest.approx(sd, rel=0.05)


@pytest.mark.parametrize(
    ("name", "total", "muon", "adamw", "active_fraction"),
    [("moe-79m", 79_059_840, 60_180_480, 18_879_360, 0.463), ("deepseek-47m", 47_395_712, 22_216_704, 25_179_008, 1)],
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
def test_the_documents_models_take_an_update(name):
    """At their real shapes, with one sequence of random tokens."""
    settings = {"train.batch_sequences": 1, "train.micro_batch_sequences": 1}
    recipe = Recipe.load(RECIPES / f"{name}.toml").with_(settings)
    stream = np.random.default_rng(0)
    tokens = stream.integers(0, recipe.data.vocabulary_tokens, 4 * 512).astype(np.uint16)
    train_split = Split("train", tokens, ("0",), np.array([0, len(tokens)]))
    group = Group([recipe], Dataset(train_split, train_split, train_split, Tokenizer(), "random", None), CPU)
    before = {key: w.clone() for key, w in group.weights.items()}
    group.step()
    group.read()
    (loss,) = group.recorded[0].train_loss
    assert loss == pytest.approx(math.log(49152), abs=0.5)
    for key, w in group.weights.items():
        assert w.isfinite().all()
        assert not torch.equal(w, before[key]), key
