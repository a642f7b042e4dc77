import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueberry.errors import RecipeError
from blueberry.recipe import Recipe, fingerprint, fingerprints, setting_names, shape_key

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_round_trip(path, tmp_path):
    recipe = Recipe.load(path)
    (tmp_path / "resolved.toml").write_text(recipe.to_toml())
    assert Recipe.load(tmp_path / "resolved.toml") == recipe


def test_a_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        Recipe().seed = 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer.muon.lrr": 1}, 'r "optimizer.muon.lrr": no such setting; did you mean "optimizer.muon.learning_rate"?'),
        ({"moodel.width": 3}, 'r "moodel.width": no such setting; did you mean "model.width"?'),
        ({"schedule.kind": "cosin"}, "r \"schedule.kind\": 'cosin'; no such kind; did you mean \"cosine\"?"),
        ({"model.num_heads": 5}, 'r "model.num_heads": 5; it must divide width = 64; try 4'),
        ({"model.feed_forward.top_k": 9}, 'r "model.feed_forward.top_k": 9; a token cannot pass through more than num_experts = 8; lower top_k or add experts'),
        ({"train.updates": 10, "train.tokens": 10}, None),
        ({"train.micro_batch_sequences": 5}, 'r "train.micro_batch_sequences": 5; it must divide batch_sequences = 16; try 4'),
        ({"model.feed_forward.kind": "mlp", "model.feed_forward.top_k": 2}, None),
        ({"model.feed_forward.kind": "moe-bias-balanced", "model.feed_forward.balance_weight": 0.1}, None),
        ({"model.feed_forward.kind": "moe-bias-balanced", "model.feed_forward.top_k": 9}, None),
        ({"model.attention.kind": "grouped-query", "model.num_heads": 4, "model.attention.num_kv_heads": 3}, 'r "model.attention.num_kv_heads": 3; it must divide num_heads = 4; try 2'),
        ({"model.attention.kind": "latent", "model.attention.rope_size": 3}, None),
        ({"model.attention.kind": "latent", "model.attention.query_key_norm": True}, None),
        ({"model.attention.value_size": 3}, None),
        ({"data.tokenizer": "byte", "data.vocabulary_tokens": 300}, None),
        ({"optimizer.muon.learning_rate": float("nan")}, None),
        ({"optimizer.muon.learning_rate": float("inf")}, None),
        ({"optimizer.muon.learning_rate": "0.1"}, None),
        ({"seed": 1.0}, None),
        ({"model": 3}, None),
        ({"model": 3, "model.width": 4}, None),
        ({"schedule.kind": "warmup-stable-decay", "schedule.warmup_fraction": 0.5, "schedule.decay_fraction": 0.6}, None),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_setting_and_remedy(changes, line):
    with pytest.raises(RecipeError) as error:
        Recipe().with_(changes, place="r")
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith('r "')
    assert line is None or said == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modle]\nwidth = 64", 'did you mean "model"?'),
        ("[model]\nwidht = 64", 'did you mean "model.width"?'),
        ('[schedule]\nkind = "constant"\nfloor_fraction = 0.1', '"schedule.floor_fraction": no such setting'),
        ("[model.feed_forward]\nkind = 3", "no such kind"),
        ("[model\n", "not valid TOML"),
        ("\xff", "UTF-8"),
        ("seed = " + "9" * 5000, "not valid TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_begins_with_its_path(tmp_path, text, said):
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        Recipe.load(tmp_path / "none.toml")


def test_settings_without_a_kind_belong_to_the_default_kind():
    assert Recipe.parse({"model": {"feed_forward": {"num_experts": 16}}}).model.feed_forward.kind == "moe"


def test_changing_a_kind_keeps_what_both_have():
    base = Recipe().with_({"schedule.warmup_fraction": 0.3, "schedule.floor_fraction": 0.7})
    constant = base.with_({"schedule.kind": "constant"})
    assert constant.schedule.warmup_fraction == 0.3
    assert "floor_fraction" not in constant.schedule.model_dump()
    assert constant.with_({"schedule.kind": "linear"}).schedule.floor_fraction == 0.1


def test_changing_a_kind_keeps_what_its_sections_both_have():
    base = Recipe().with_({"optimizer.adamw.beta1": 0.7, "optimizer.rates.norms": 0.5})
    alone = base.with_({"optimizer.kind": "adamw"}).optimizer
    assert (alone.adamw.beta1, alone.rates.norms) == (0.7, 0.5)
    assert set(alone.model_dump()) == {"kind", "adamw", "rates"}
    assert "learning_rate_ratio" not in alone.adamw.model_dump()


def test_tokens_and_updates_replace_each_other():
    recipe = Recipe().with_({"train.tokens": 5000})
    assert (recipe.num_updates, recipe.train.updates) == (5, None)
    assert recipe.with_({"train.batch_sequences": 8}).num_updates == 10
    assert recipe.with_({"train.updates": 7}).num_updates == 7


def test_what_decides_no_number_is_not_in_the_identity():
    recipe = Recipe()
    name = fingerprint(recipe, "data")
    assert fingerprint(recipe.with_({"train.micro_batch_sequences": 4}), "data") == name
    assert fingerprint(recipe.with_({"train.checkpoint_activations": True}), "data") == name
    assert fingerprint(recipe.with_({"train.tokens": 200 * 1024}), "data") == name
    assert fingerprint(recipe, "other data") != name


VALUES = {
    "schedule.kind": "linear",
    "model.feed_forward.kind": "mlp",
    "model.feed_forward.activation": "gelu",
    "model.feed_forward.router": "softmax-before",
    "model.attention.kind": "latent",
    "model.initialization": "fan-in",
    "data.corpus": "synthetic",
    "data.tokenizer": "byte",
    "optimizer.kind": "adamw",
    "optimizer.muon.nesterov": False,
    "optimizer.muon.coefficients": "polar-express",
    "optimizer.muon.update_scale": "rms",
    "optimizer.muon.row_beta": 0.9,
    "schedule.warmup_updates": 7,
    "schedule.warmup_shape": "exponential",
    "schedule.warmup_from_fraction": 0.5,
    "schedule.horizon_updates": 300,
    "model.num_heads": 4,
    "train.precision": "bf16",
}
REFUSED = {"optimizer.rates.head", "schedule.first_update_zero"}
"""Not to be set without something else."""
NO_NUMBER = {"train.micro_batch_sequences", "train.checkpoint_activations", "train.tokens", "train.keep_weights"}


def _another(recipe: Recipe, name: str):
    if name in VALUES:
        return VALUES[name]
    value = recipe.get(name)
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) and value else 0.5 if isinstance(value, float) else value * 2 or 1


DATA = {name for name in Recipe().flat() if name.startswith("data.")}
"""Most need others beside them: tests/test_data_settings.py."""


def test_every_setting_that_decides_a_number_is_in_the_identity():
    recipe = Recipe()
    changed = {
        name: recipe.with_({name: _another(recipe, name)}) for name in recipe.flat().keys() - NO_NUMBER - REFUSED - DATA
    }
    same = fingerprint(recipe, "data")
    assert [name for name, one in changed.items() if fingerprint(one, "data") == same] == []


def test_runs_named_together_are_named_as_each_alone():
    for recipe in (Recipe(), Recipe().with_({"seed": 7, "train.updates": 77, "model.dropout": 0.7})):
        alone = tuple(fingerprint(recipe.with_({"seed": seed}), "digest") for seed in (0, 7, 2**31 - 1))
        assert fingerprints(recipe, "digest", (0, 7, 2**31 - 1)) == alone


def test_per_lane_settings_share_a_shape():
    recipe = Recipe()
    for name in ("seed", "optimizer.muon.learning_rate", "schedule.kind", "schedule.floor_fraction", "train.clip_norm"):
        assert shape_key(recipe.with_({name: _another(recipe, name)}), "d") == shape_key(recipe, "d")
    for name in ("model.width", "model.dropout", "train.updates", "optimizer.muon.nesterov", "data.corpus"):
        changed = recipe.with_({name: 0.1 if name == "model.dropout" else _another(recipe, name)})
        assert shape_key(changed, "d") != shape_key(recipe, "d")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)
names = st.one_of(st.sampled_from(sorted(setting_names())), st.text(max_size=12))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, scalars, max_size=3))
def test_any_override_is_accepted_or_one_line(changes):
    try:
        recipe = Recipe().with_(changes)
    except RecipeError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 2000
    else:
        assert Recipe.parse(tomllib.loads(recipe.to_toml())) == recipe


keys = st.one_of(
    st.sampled_from(sorted({part for name in setting_names() for part in name.split(".")})), st.text(max_size=5)
)
tables = st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(keys, tables, max_size=3))
def test_any_table_is_a_recipe_or_one_line(given_):
    try:
        Recipe.parse(given_, place="recipe.toml")
    except RecipeError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("recipe.toml")


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfseed = 3\n")
    assert Recipe.load(tmp_path / "bom.toml").seed == 3
