"""Tables of parts: conditions, arms at their own best, and laws over them, with planted truths that are found."""

import csv
import json
import math
import random

import pytest

import blueberry
from blueberry import cli
from blueberry.analysis import examine
from blueberry.errors import TableError

SIZES = (1e8, 2e8, 4e8)
TOKENS = (2e9, 5e9, 1e10, 2e10)
RATES = [1e-4 * 1.6**k for k in range(15)]


def best_rate(params, tokens):
    return 2e-3 * (params / 2e8) ** -0.6 * (tokens / 5e9) ** 0.25


def least_loss(params, tokens):
    return 2.5 * (params / 2e8) ** -0.05 * (tokens / 5e9) ** -0.08


def scaling(noise=0.001, seeds=1, batches=(None,)):
    """A valley in log rate under every size and length; a batch a factor of two off costs 0.05, seed or none."""
    draw, rows = random.Random(4), []
    for params in SIZES:
        for tokens in TOKENS:
            for rate in RATES:
                for batch in batches:
                    away = math.log(rate / best_rate(params, tokens))
                    loss = least_loss(params, tokens) + 0.03 * away**2
                    loss += 0.05 * math.log2(batch / 128) ** 2 if batch else 0.0
                    for seed in range(seeds):
                        row = {"N": params, "D": tokens, "lr": rate, "val_loss": loss + draw.gauss(0, noise)}
                        row |= {"bs": batch} if batch else {}
                        rows.append(row | ({"seed": seed} if seeds > 1 else {}))
    return rows


def powers(law):
    return {power.by: power for power in law.powers}


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_law_of_two_sizes_is_found_from_single_runs_and_from_seeds(seeds):
    found = blueberry.analyse(scaling(seeds=seeds), vary="lr", across=["N", "D"])
    assert len(found.parts) == len(found.conditions) == 12
    of_rate, of_loss = found.laws
    for law, known in ((of_rate, {"N": -0.6, "D": 0.25}), (of_loss, {"N": -0.05, "D": -0.08})):
        assert law.n == 12
        for name, exponent in known.items():
            power = powers(law)[name]
            assert power.interval[0] <= exponent <= power.interval[1]
            assert power.exponent == pytest.approx(exponent, abs=0.06)
        assert law.held_out is not None
        assert law.held_out.condition == "N=400000000.0,D=20000000000.0"
        assert law.held_out.holds
    assert "goes as N to the power -0.6" in found.known
    assert {one.audit for one in found.blocks} <= ({"seeds"} if seeds == 1 else set())


def test_the_law_says_what_is_best_elsewhere():
    law = blueberry.analyse(scaling(noise=1e-4), vary="lr", across=["N", "D"]).laws[0]
    assert law.at({"N": 4e8, "D": 2e10}) == pytest.approx(best_rate(4e8, 2e10), rel=0.03)


def test_each_rate_at_its_own_best_batch_under_every_condition():
    rows = scaling(seeds=3, batches=(64, 128, 256))
    judged = examine(rows, vary="lr", tune="bs", across=["N", "D"])
    found = judged.judgement
    inside = found.parts[0].judgement
    assert inside.best is not None
    assert inside.best.settings["bs"] == 128
    assert {arm.settings["bs"] for arm in inside.arms} == {128}
    exponent = powers(found.laws[0])["N"].interval
    assert exponent[0] <= -0.6 <= exponent[1]
    assert judged.found.runs[0].part == found.parts[0].name


def schedules(gap=-0.02, seeds=5, rates=(0.01, 0.02, 0.04, 0.08)):
    """ "linear" is better by `gap` at twice the rate of "cosine": at any one rate it looks worse or better than it is."""
    draw, rows = random.Random(2), []
    for kind, best in (("cosine", 0.02), ("linear", 0.04)):
        for rate in rates:
            for seed in range(seeds):
                loss = 3 + 0.05 * math.log(rate / best) ** 2 + (gap if kind == "linear" else 0.0)
                loss += 0.002 * seed + draw.gauss(0, 0.001)
                rows.append({"schedule": kind, "lr": rate, "seed": seed, "val_loss": loss})
    return rows


def test_arms_are_compared_each_at_its_own_best_value():
    found = blueberry.analyse(schedules(), vary="schedule", tune="lr")
    assert found.best is not None
    assert found.best.settings == {"schedule": "linear", "lr": 0.04}
    (verdict,) = found.verdicts
    assert (verdict.winner, verdict.n) == ("linear", 5)
    assert verdict.interval is not None
    assert verdict.interval[0] < 0.02 < verdict.interval[1]
    assert found.blocks == ()
    assert [part.name for part in found.parts] == ["cosine", "linear"]


def test_arms_that_searched_alike_are_flattered_alike():
    """Equal arms, seven values each, of which chance chooses: told apart in no more than one case in twenty."""
    draw, told = random.Random(0), 0
    for _ in range(15):
        rows = [
            {"arm": arm, "lr": lr, "seed": seed, "val_loss": 3 + 0.003 * (lr - 4) ** 2 + draw.gauss(0, 0.01)}
            for arm in "ab"
            for lr in range(1, 8)
            for seed in range(5)
        ]
        told += any(verdict.winner for verdict in blueberry.analyse(rows, vary="arm", tune="lr").verdicts)
    assert told <= 2


@pytest.mark.parametrize(("values", "severity"), [((0.02,), "block"), ((0.01, 0.02, 0.04), "warn")])
def test_an_arm_that_searched_less_is_named(values, severity):
    rows = [row for row in schedules() if row["schedule"] == "linear" or row["lr"] in values]
    found = blueberry.analyse(rows, vary="schedule", tune="lr")
    (said,) = (one for one in found.audits if one.audit == "one-rate")
    assert said.severity == severity
    assert said.message.startswith(f"cosine was tried at {len(values)} value")


def test_an_arm_whose_best_is_the_end_of_its_range_is_not_at_its_best():
    found = blueberry.analyse(schedules(rates=(0.005, 0.01, 0.02, 0.04)), vary="schedule", tune="lr")
    assert [(one.audit, one.message.partition(":")[0]) for one in found.blocks] == [("edge", "linear")]


def ends(behind):
    """wsd gains .01 with its last step and is behind by so much."""
    draw, best = random.Random(4), {"cosine": (3.02, 3.0, 3.02), "wsd": (3.03 + behind, 3.01 + behind, 3.0 + behind)}
    return [
        {"schedule": kind, "lr": lr, "seed": seed, "val_loss": loss + draw.gauss(0, 0.0005)}
        for kind, losses in best.items()
        for lr, loss in zip((0.01, 0.02, 0.04), losses, strict=True)
        for seed in range(3)
    ]


@pytest.mark.parametrize(("behind", "severity"), [(-0.05, "block"), (0.005, "block"), (0.05, "warn")])
def test_an_arm_that_its_range_cannot_save_blocks_nothing(behind, severity):
    found = blueberry.analyse(ends(behind), vary="schedule", tune="lr")
    (said,) = (one for one in found.audits if one.audit == "edge")
    assert (said.severity, said.message.partition(":")[0]) == (severity, "wsd")
    assert ("would leave it behind" in said.message) is (severity == "warn")


def test_a_law_of_single_runs_stands_and_no_arm_does():
    draw = random.Random(2)
    rows = [
        {
            "N": n,
            "lr": lr,
            "val_loss": 2 + 900 * n**-0.37 + 0.05 * math.log(lr / 80 * n**0.5) ** 2 + draw.gauss(0, 1e-3),
        }
        for n in (1e8, 2e8, 4e8, 8e8)
        for lr in (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
    ]
    found = blueberry.analyse(rows, vary="lr", across="N")
    assert [one.severity for one in found.audits if one.audit == "seeds"] == ["warn"]
    assert not found.blocks
    assert found.laws[0].powers[0].interval[0] < -0.5 < found.laws[0].powers[0].interval[1]
    assert "goes as N to the power" in found.known
    assert "worse" not in found.known
    assert found.recommendation.withheld
    assert "seeds" in {one.audit for part in found.parts for one in part.judgement.blocks}


def test_single_runs_without_a_law_stay_blocked():
    rows = [{"N": n, "lr": lr, "val_loss": 3.0 + n * lr} for n in (1, 2) for lr in (0.01, 0.02, 0.04)]
    assert "seeds" in {one.audit for one in blueberry.analyse(rows, vary="lr", across="N").blocks}


def test_rows_of_a_search_choose_and_those_of_a_comparison_compare():
    rows = [{**row, "stage": "search"} for row in schedules(seeds=3)]
    fresh = [
        {"schedule": kind, "lr": lr, "seed": 100 + seed, "stage": "compare", "val_loss": loss + seed / 1000}
        for kind, lr, loss in (("cosine", 0.02, 3.1), ("linear", 0.04, 3.2))
        for seed in range(4)
    ]
    found = blueberry.analyse([*rows, *fresh], vary="schedule", tune="lr")
    assert {arm.arm: arm.seeds for arm in found.arms}["linear"] == (100, 101, 102, 103)
    assert found.best is not None
    assert found.best.arm == "cosine"


def mixed():
    """One activation under one norm is not the same arm under another: only one cell has both activations."""
    draw, rows = random.Random(1), []
    cells = [("gelu", "layer", 6, 1.7), ("relu", "layer", 6, 1.6), ("gelu", "rms", 6, 1.9), ("gelu", "layer", 1, 1.5)]
    for activation, norm, heads, loss in cells:
        for seed in range(4):
            row = {"activation": activation, "norm": norm, "heads": heads, "seed": seed}
            rows.append({**row, "val_loss": loss + draw.gauss(0, 0.003)})
    return rows


def test_arms_are_compared_where_the_rest_is_equal():
    analysed = examine(mixed(), vary="activation", across=["norm", "heads"])
    found = analysed.judgement
    assert found.blocks == ()
    assert [part.name for part in found.parts] == ["norm=layer,heads=6"]
    (verdict,) = found.parts[0].judgement.verdicts
    assert (verdict.a, verdict.b, verdict.winner) == ("relu", "gelu", "relu")
    assert verdict.difference == pytest.approx(0.1, abs=0.006)
    assert found.known.startswith("At norm=layer,heads=6: ")
    assert any("left out, as one arm alone was run there: norm=rms,heads=6" in note for note in analysed.notes)


def test_what_makes_no_parts_is_refused():
    rows = mixed()
    for asked, said in (
        ({"across": ["activation"]}, "asked for twice"),
        ({"across": ["seed"]}, "seed"),
        ({"across": ["depth"]}, "no such column"),
        ({"tune": ["val_loss"]}, "is the metric"),
    ):
        with pytest.raises(TableError, match=said):
            blueberry.analyse(rows, vary="activation", **asked)
    with pytest.raises(TableError, match="no two runs that differ in activation agree in norm"):
        blueberry.analyse(
            [*rows[:4], *({**row, "norm": "none"} for row in rows[4:8])], vary="activation", across="norm"
        )


def test_a_run_of_no_condition_is_named():
    rows = mixed()
    rows[3]["norm"] = None
    with pytest.raises(TableError, match='rows 4 "norm": empty'):
        blueberry.analyse(rows, vary="activation", across=["norm", "heads"])


def test_the_report_of_a_table_of_parts(tmp_path, capsys):
    path = tmp_path / "scaling.csv"
    rows = scaling()
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "report"
    words = ["analyse", str(path), "--vary", "lr", "--across", "N,D", "--json", "--out", str(out)]
    code = cli.app(words, standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert code == 0, "laws are claimed, and no arm is told from another"
    assert [power["by"] for power in document["laws"][0]["powers"]] == ["N", "D"]
    report = (out / "report.md").read_text()
    assert "Power laws" in report
    assert (out / "figures" / "power_law_curves.png").exists()
    assert len(json.loads((out / "results.json").read_text())["runs"]) == len(rows)
