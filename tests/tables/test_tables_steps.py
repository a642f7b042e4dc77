"""Rows that are steps of runs: their curves say what updates are worth, and runs can be judged at one update."""

import numpy as np
import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.tables.reading import read_table

FALL = 0.0002
"""Nats an update."""


def curves(column: str = "step", ends: tuple[int, ...] = (600, 1000), num_seeds: int = 4) -> list[dict]:
    """Rates of which the first is worse by 0.03 at every update; the other ones train for longer."""
    rng = np.random.default_rng(0)
    rows = []
    for place, end in enumerate(ends):
        for seed in range(num_seeds):
            level = 3.6 + (0.03 if place == 0 else 0.0) + rng.normal(0, 0.003)
            rows += [
                {"lr": 0.001 * 2**place, "seed": seed, column: at, "train_loss": 4 - at / 2000 + rng.normal(0, 0.02),
                 "val_loss": level - FALL * at + rng.normal(0, 0.0005)}
                for at in range(50, end + 1, 50)
            ]  # fmt: skip
    return rows


@pytest.mark.parametrize("column", ["step", "global_step", "num_updates", "iter"])
def test_what_updates_are_worth_is_named_where_runs_end_at_unlike_ones(column):
    judged = blueberry.analyse(curves(column), vary="lr")
    (block,) = [one for one in judged.blocks if one.audit == "budget"]
    assert "near the end of 8 curves 100" in block.message
    worth = float(block.message.split(" are ")[1].split(" ")[0])
    assert worth == pytest.approx(100 * FALL, rel=0.1)
    assert "length alone may make 0.08" in block.message
    assert "--at 600" in block.remedy


def test_at_one_update_runs_of_unlike_length_are_compared():
    judged = blueberry.analyse(curves(), vary="lr", at=600)
    assert not judged.blocks
    assert judged.best is not None
    assert judged.best.arm == "lr=0.002"
    difference = judged.verdicts[0].difference
    assert difference is not None
    assert abs(difference) == pytest.approx(0.03, abs=0.008)


def test_an_update_before_the_first_is_refused_and_so_is_one_of_a_table_without_steps():
    with pytest.raises(TableError, match="nothing was measured so early; step begins at 50"):
        blueberry.analyse(curves(), vary="lr", at=10)
    with pytest.raises(TableError, match="no column counts updates"):
        blueberry.analyse([{"lr": 1, "val_loss": 3.0}, {"lr": 2, "val_loss": 3.1}], vary="lr", at=10)


def test_epochs_are_no_updates():
    (block,) = [one for one in blueberry.analyse(curves("epoch"), vary="lr").blocks if one.audit == "budget"]
    assert "curves" not in block.message
    assert "--at" not in block.remedy


def test_folders_of_runs_are_runs_however_alike_they_are(tmp_path):
    for version, epochs in enumerate((10, 20, 20)):
        folder = tmp_path / f"version_{version}"
        folder.mkdir()
        (folder / "hparams.yaml").write_text(f"lr: 0.001\nnum_epochs: {epochs}\n")
        (folder / "metrics.csv").write_text(f"step,val_loss\n10,4.0\n{1000 * epochs},3.{version}\n")
    judged = blueberry.analyse(tmp_path, vary="num_epochs")
    assert [arm.n for arm in judged.arms] == [1, 2]
    assert read_table(tmp_path).are_runs
