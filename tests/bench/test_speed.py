"""The plain trainer is another telling of the same updates: it must give the numbers that `blueberry.lm` gives."""

import pytest
import torch

from bench.speed.__main__ import BEGIN, END, main
from blueberry.bench import measure, tables
from blueberry.bench.measure import CPU, DEFAULT_SIZES, SIZES, Speed, Timed, recipe_of, update_flops
from blueberry.bench.plain import PlainTrainer
from blueberry.lm.training import Group
from blueberry.recipe import Recipe
from blueberry.text.dataset import load

SMALL = {
    "model.width": 32,
    "model.num_layers": 2,
    "model.context_tokens": 16,
    "model.feed_forward.hidden": 48,
    "model.feed_forward.num_experts": 4,
    "model.feed_forward.router_noise": 0.0,
    "data.corpus": "synthetic",
    "data.tokenizer": "byte",
    "data.vocabulary_tokens": 256,
    "train.updates": 6,
    "train.batch_sequences": 4,
}


@pytest.mark.parametrize("changes", [{"train.micro_batch_sequences": 2}, {"train.clip_norm": 0.1}])
def test_the_plain_trainer_takes_the_same_updates(changes, tmp_path):
    recipe = Recipe().with_({**SMALL, **changes})
    if changes.get("train.micro_batch_sequences"):  # its balance loss is over a micro-batch, as in public code
        recipe = recipe.with_({"model.feed_forward.balance_weight": 0.0})
    group = Group([recipe], load(recipe.data, tmp_path), CPU)
    plain = PlainTrainer(recipe, {name: w[0] for name, w in group.weights.items()})
    for _ in range(recipe.num_updates):
        tokens = group._batch()[0]
        group.step()
        group.read()
        loss, norm = plain.step(tokens)
        assert group.recorded[0].train_loss[-1] == pytest.approx(loss, abs=2e-3)
        assert group.recorded[0].gradient_norm[-1] == pytest.approx(norm, rel=2e-2)
        if plain.update == 1:  # before rounding has grown
            assert group.recorded[0].train_loss[-1] == pytest.approx(loss, abs=2e-6)
            assert group.recorded[0].gradient_norm[-1] == pytest.approx(norm, rel=2e-6)


def test_an_update_s_work_is_the_model_s_and_the_orthogonalizations():
    recipe = recipe_of("pico", "fp32")
    usual = {  # iterations x (2 products with the long side, 1 without)
        (192, 64): 2 * 5 * 2 * (2 * 64 * 64 * 192 + 64**3),  # layers x ...
        (64, 64): 2 * 9 * 5 * 2 * (2 * 64 * 64 * 64 + 64**3),  # attention's, and in and out of four experts
        (4, 64): 2 * 5 * 2 * (2 * 4 * 4 * 64 + 4**3),
    }
    from blueberry.architecture import flops_per_token

    model = flops_per_token(recipe) * recipe.update_tokens
    assert update_flops(recipe) == model + sum(usual.values())
    by_gram = {  # twice with the long side, and 17 products of Gram matrices
        (192, 64): 2 * 2 * (2 * 64 * 64 * 192 + 17 * 64**3),
        (64, 64): usual[64, 64],
        (4, 64): 2 * 2 * (2 * 4 * 4 * 64 + 17 * 4**3),
    }
    assert update_flops(recipe, by_gram=True) == model + sum(by_gram.values())


def test_the_tables_hold_what_was_measured():
    plain, single, packed = Timed([2.0, 2.2], [3.0, 3.0]), Timed([1.0, 1.0], [9.0, 9.0]), Timed([1.0, 1.0], [4.0, 5.0])
    lanes = Timed([2.0, 2.2], [9.0, 9.0])
    speed = Speed("pico", "fp32", 1000, 5e9, 4e9, plain, single, lanes, packed, 2, 2, [1e10, 1e10])
    found = tables([speed], {"pico": {"products": 0.75, "Python": 0.25}})
    ratios = "2.10 [2.00, 2.20] | 4.00 [4.00, 4.00] | 2 workers, 2 runs each | 2.70 [2.40, 3.00]"
    assert f"| pico | fp32 | 476 | 1,000 | {ratios} | 50% |" in found
    assert "| pico | fp32 | 5.0 | 4.0 | 40% | 5.2 | 2.8 |" in found
    assert "| products | 75% |" in found


@pytest.mark.slow
def test_the_tables_are_written_between_the_marks(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "pico", {**SIZES["pico"], **SMALL, "model.feed_forward.router_noise": 0.1})
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    before = torch.get_num_threads()
    assert main(["pico", "--rounds", "1", "--out", str(page)]) == 0
    assert torch.get_num_threads() == before
    said = page.read_text()
    assert said.startswith(f"before\n{BEGIN}\n")
    assert said.endswith(f"{END}\nafter\n")
    assert "| pico | fp32 |" in said
    assert "old" not in said
    shares = [line.split("|")[2] for line in said.splitlines() if line.endswith("% |") and line.count("|") == 3]
    assert sum(int(share.strip(" %")) for share in shares) == pytest.approx(100, abs=5)


def test_the_default_sizes_are_sizes():
    assert set(DEFAULT_SIZES) <= set(SIZES)


def test_every_place_that_tells_where_an_update_goes_is_passed_by_one(prepared, monkeypatch):
    """One that nobody calls any more would have its time counted as another part's. Draws have that of numpy's hashes."""
    passed, saying = set(), measure._saying

    def noting(function, part):
        said = saying(function, part)

        def noted(*given, **named):
            passed.add((part, function.__name__))
            return said(*given, **named)

        return noted

    monkeypatch.setattr(measure, "_saying", noting)
    monkeypatch.setitem(SIZES, "pico", {**SIZES["pico"], "train.updates": 6})  # a rate for each is computed first
    shares = measure.where_an_update_goes("pico", prepared / "data", num_updates=1)
    assert passed == {(part, name) for _, name, part in measure._PLACES}
    assert shares["draws"] > 0.01
