"""`blueberry train --dry-run`: the rates it plans."""

import json

import pytest
from typer.testing import CliRunner

from blueberry.cli import app
from blueberry.recipe import Recipe


def _say(*words: str) -> str:
    done = CliRunner().invoke(app, ["train", *words])
    assert done.exception is None, done.exception
    return done.output


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(Recipe().with_({"train.updates": 5, "schedule.kind": "linear"}).to_toml())
    return str(path)


def test_the_document_holds_the_rate_of_every_update(recipe_file):
    document = json.loads(_say(recipe_file, "--dry-run", "--json", "schedule.floor_fraction=0.2"))
    assert document["rates"] == pytest.approx([0.06, 0.048, 0.036, 0.024, 0.012])


def test_adamw_alone_has_no_parameters_under_muon(recipe_file):
    document = json.loads(_say(recipe_file, "--dry-run", "--json", "optimizer.kind=adamw"))
    counted = document["parameters"]
    assert (counted["muon"], counted["adamw"]) == (0, counted["total"])
    assert document["rates"][0] == 0.003


def test_the_text_tells_the_ends_and_the_peak_and_on_demand_every_rate(recipe_file):
    words = [recipe_file, "--dry-run", "schedule.warmup_updates=2", "schedule.floor_fraction=0.5"]
    short, long = _say(*words), _say(*words, "--rates")
    assert "# rate         0.03 at update 1, 0.06 at update 2, 0.03 at update 5" in short
    assert "# update" not in short
    rates = [float(line.split()[-1]) for line in long.splitlines() if line.startswith("# update")]
    assert rates == pytest.approx([0.03, 0.06, 0.05, 0.04, 0.03])


def test_a_plateau_s_rates_are_said_to_depend_on_the_loss(recipe_file):
    words = [recipe_file, "--dry-run", "schedule.kind=plateau", "train.updates=20", "evaluate.every_updates=5"]
    assert "if the validation loss never stalls" in _say(*words)
