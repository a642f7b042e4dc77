import pytest

from blueberry.lm.layers import initialize
from blueberry.recipe import Recipe
from tests.lm.conftest import CPU


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
