"""Small tables with one right answer each, after what people bring: what is claimed, what is withheld, and why."""

import json
import math
import random

import pytest

import blueberry
from blueberry.analysis import checkup
from blueberry.errors import TableError
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.roles import differing_settings
from blueberry.tables.runs import table_runs

RATES = [0.005, 0.01, 0.02, 0.04, 0.08]


def sweep(**more):
    """Five rates on four seeds, 0.02 best by far. `more`: column -> value, or function of a row."""
    draw, rows = random.Random(1), []
    for rate in RATES:
        for seed in range(4):
            loss = 3 + 0.2 * abs(RATES.index(rate) - 2) + draw.gauss(0, 0.005)
            row = {"lr": rate, "seed": seed, "val_loss": round(loss, 5)}
            rows.append({**row, **{name: value(row) if callable(value) else value for name, value in more.items()}})
    return rows


def judged(rows, vary="lr", **asked):
    return blueberry.analyse(rows, vary=vary, **asked)


def blocks(judgement):
    return {one.audit for one in judgement.blocks}


def at_best(one, other):
    return lambda row: one if row["lr"] == 0.02 else other


@pytest.mark.parametrize(
    ("more", "audit", "said"),
    [
        ({"batch_size": at_best(32, 64)}, "confounded", "batch_size is 32 in lr=0.02"),
        ({"optimizer": at_best("muon", "adamw")}, "confounded", "optimizer is muon in lr=0.02"),
        ({"config.warmup_ratio": at_best(0.1, 0.0)}, "confounded", "warmup_ratio"),
        ({"global_step": at_best(600, 1000)}, "budget", "600 to 1,000 global_step"),
        ({"epoch": at_best(3, 1)}, "budget", "1 to 3 epoch"),
        ({"iterations": lambda row: 600 if row["lr"] == 0.02 and not row["seed"] else 1000}, "budget", "iterations"),
        ({"nsteps": at_best(600, 1000)}, "budget", "600 to 1,000 nsteps"),
        ({"trainer/global_step": at_best(600, 1000)}, "budget", "600 to 1,000 trainer/global_step"),
        ({"tokens_B": at_best(0.6, 1.0)}, "budget", "0.6 to 1 tokens_B"),
        ({"samples_seen": at_best(600, 1000)}, "budget", "600 to 1,000 samples_seen"),
        ({"steps_done": at_best(600, 1000)}, "budget", "600 to 1,000 steps_done"),
        (
            {"batch_size": 8, "grad_accum": at_best(4, 2), "max_steps": 10},
            "budget",
            "(batch_size x grad_accum x max_steps)",
        ),
        ({"batch_size": 8, "world_size": at_best(8, 4), "max_steps": 10}, "budget", "320 to 640 sequences"),
        ({"use_bias": at_best(True, False)}, "confounded", "use_bias is True in lr=0.02"),
        ({"lora_rank": at_best(8, 16)}, "confounded", "lora_rank is 8 in lr=0.02"),
        ({"init_std": at_best(0.02, 0.01)}, "confounded", "init_std is 0.02 in lr=0.02"),
        ({"val_loss": at_best(0.0, 3.0)}, "too-good", "val_loss of 0"),
        ({"val_loss": at_best(-5.3, 3.0)}, "too-good", "val_loss of -5.3"),
        ({"val_loss": at_best(0.01, 3.0)}, "too-good", "text does not allow"),
        ({"norm": lambda row: "layer" if row["seed"] % 2 else "none", "seed": 0}, "confounded", "--vary lr,norm"),
    ],
)
def test_what_blocks_a_table(more, audit, said):
    found = judged(sweep(**more))
    assert audit in blocks(found)
    assert any(said in one.message + one.remedy for one in found.blocks)
    assert found.recommendation.settings is None


@pytest.mark.parametrize(
    "more",
    [
        {"log_lr": lambda row: {0.005: -5.3, 0.01: -4.6, 0.02: -3.91, 0.04: -3.22, 0.08: -2.53}[row["lr"]]},
        {"min_lr": lambda row: row["lr"] / 10},
        {"run_name": lambda row: f"sweep-lr{row['lr']}-{row['seed']}"},
        {"group": lambda row: f"g{RATES.index(row['lr'])}"},
        {"notes": at_best("looks good", "")},
        {"data_order": lambda row: row["seed"] % 2},
        {"batch_size": 64, "warmup_steps": 100, "global_step": 1000, "eval_steps": 50},
        {"n_params": lambda row: 1000 + row["seed"], "grad_norm": lambda row: 0.31234 + row["lr"]},
        {"timestamp": lambda row: 17e8 + row["lr"]},
        {"micro_batch_size": at_best(8, 16), "grad_accum": at_best(4, 2), "max_steps": 1000},
    ],
)
def test_what_blocks_nothing(more):
    found = judged(sweep(**more))
    assert blocks(found) == set()
    assert found.best is not None
    assert found.best.settings == {"lr": 0.02}


def batches(name="batch_size", values=(16, 32, 64, 128), **more):
    """The third value is best by far."""
    draw = random.Random(2)
    return [
        {name: value, "seed": seed, "val_loss": round(3 + 0.1 * abs(place - 2) + draw.gauss(0, 0.004), 5)}
        | {other: given(value) if callable(given) else given for other, given in more.items()}
        for place, value in enumerate(values)
        for seed in range(4)
    ]


@pytest.mark.parametrize(
    ("rows", "vary", "severity", "said"),
    [
        (batches(max_iters=1000), "batch_size", "block", "16,000 to 128,000 sequences (batch_size x max_iters)"),
        (batches("block_size", batch_size=8, iters=10), "block_size", "block", "(batch_size x block_size x iters)"),
        (batches(max_iters=lambda size: 64000 // size), "batch_size", "warn", "tokens are equal"),
        (batches(iters=lambda size: 64000 // size, seq_len=256), "batch_size", "warn", "500 to 4,000 iters"),
        (
            batches("total_batch_size", (2**17, 2**18, 2**19), steps=lambda n: 2**27 // n),
            "total_batch_size",
            "warn",
            "",
        ),
        (batches(), "batch_size", "block", "a column of neither"),
        (batches(epochs=3), "batch_size", None, ""),
        (batches(ti=lambda size: 64000 // size), "batch_size", None, "a length, by its numbers"),
        (batches(ti=lambda n: 64000 // n, iter=lambda n: 64000 // n - 1), "batch_size", "warn", "499 to 3,999"),
    ],
)
def test_settings_imply_how_many_tokens_a_run_saw(rows, vary, severity, said):
    found = [one for one in judged(rows, vary).audits if one.audit in ("budget", "confounded")]
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(said in one.message for one in found)


def test_arms_of_one_value_are_compared_where_the_rest_is_equal():
    draw = random.Random(0)
    rows = [
        {"activation": name, "norm": norm, "heads": heads, "seed": seed, "val_loss": loss + draw.gauss(0, 0.004)}
        for name, norm, heads, loss in (
            ("gelu", "layer", 6, 1.7),
            ("relu", "layer", 6, 1.6),
            ("gelu", "none", 6, 2.0),
            ("gelu", "layer", 1, 1.5),
        )
        for seed in range(4)
    ]
    (found,) = judged(rows, "activation").blocks
    assert found.audit == "confounded"
    assert "where they agree (norm layer and heads 6), gelu minus relu is +0.10" in found.message
    assert "(4 paired seeds)" in found.message
    assert found.remedy.endswith("--across norm,heads")


@pytest.mark.parametrize("mark", [",", "|"])
def test_none_is_a_choice_among_others(mark, tmp_path):
    """Not where numbers or results stand: there it says nothing."""
    lines = [["arm", "norm", "dropout", "seed", "val_loss"]]
    lines += [["a", "none", "none", "0", "3.1"], ["b", "rms", "0.1", "0", "none"], ["c", "None", "0.2", "0", "3.3"]]
    text = "\n".join(mark.join(line) for line in lines)
    if mark == "|":
        head, *rest = (f"| {' | '.join(line)} |" for line in lines)
        text = "\n".join([head, "|---|---|---|---|---|", *rest])
    path = tmp_path / ("runs.csv" if mark == "," else "runs.md")
    path.write_text(text + "\n")
    rows = [row.values for row in read_table(path).rows]
    assert [row["norm"] for row in rows] == ["none", "rms", "none"]
    assert [(row["dropout"], row["val_loss"]) for row in rows] == [(None, 3.1), (0.1, None), (0.2, 3.3)]


@pytest.mark.parametrize("name", ["model", "optimizer", "setup", "config_id"])
def test_numbers_that_stand_for_something_are_no_axis(name):
    draw = random.Random(0)
    rows = [
        {name: which, "seed": seed, "val_loss": 1.38 + 0.2 * (which != 17) + draw.gauss(0, 0.001)}
        for which in (17, 23, 31, 40, 55)
        for seed in range(5)
    ]
    found = judged(rows, vary=name)
    assert (found.axis, blocks(found)) == (None, set())


def test_names_stand_for_the_settings_that_differ_between_them():
    assert blocks(judged(sweep(arm=lambda row: f"a{row['lr']}", batch_size=at_best(32, 64)), vary="arm")) == set()


@pytest.mark.parametrize("name", ["trial", "study", "run_id", "experiment"])
def test_numbers_that_name_things_are_no_axis(name):
    draw = random.Random(0)
    rows = [
        {name: trial, "seed": seed, "val_loss": 1.38 + 0.2 * (trial != 2) + draw.gauss(0, 0.001)}
        for trial in range(1, 6)
        for seed in range(5)
    ]
    found = judged(rows, vary=name)
    assert (found.axis, blocks(found)) == (None, set())
    assert found.best is not None
    assert found.best.arm == f"{name}=2"


def test_one_layer_is_where_a_setting_ends():
    draw = random.Random(0)
    rows = [
        {"n_head": n, "seed": s, "val_loss": 3 + n / 10 + draw.gauss(0, 0.001)} for n in (1, 2, 4) for s in range(4)
    ]
    assert blocks(judged(rows, vary="n_head")) == set()


def test_rows_that_are_steps_of_a_run_are_one_run():
    rows = [
        {
            "lr": lr,
            "seed": seed,
            "step": step,
            "val_loss": end + gap * (3 - step / 100) + seed / 1000,
            "train_loss": None,
        }
        for lr, end, gap in ((0.001, 3.3, 0.5), (0.003, 3.35, 0.1), (0.0005, 3.6, 0.2))
        for seed in range(3)
        for step in (100, 200, 300)
    ]
    found = table_runs(table_of(rows), ["lr"])
    assert [round(run.result.metric("val_loss") or 0, 3) for run in found.runs[:3]] == [3.3, 3.301, 3.302]
    assert "rows are steps of a run (step 100 to 300)" in found.notes[0]
    best = judged(rows).best
    assert best is not None
    assert best.settings == {"lr": 0.001}
    unseeded = [{name: value for name, value in row.items() if name != "seed"} for row in rows]
    assert len(table_runs(table_of(unseeded), ["lr"]).runs) == 9, "three runs an arm, each step as often"


def steps_of(name="step", steps=(100, 200, 300), ends=None, seeded=True, **more):
    """0.001 begins above 0.003 and ends below it."""
    return [
        {"lr": lr, name: step, "val_loss": end + gap * (len(steps) - 1 - place) + seed / 1000}
        | ({"seed": seed} if seeded else {})
        | {other: given(place, lr) for other, given in more.items()}
        for lr, end, gap in ((0.001, 3.3, 0.5), (0.003, 3.35, 0.1), (0.0005, 3.6, 0.2))
        for seed in range(3)
        for place, step in enumerate(steps)
        if step <= (ends or {}).get((lr, seed), step)
    ]


@pytest.mark.parametrize(
    "rows",
    [
        steps_of("epoch", (1, 2, 3)),
        steps_of("iter", (0, 500, 1000, 1500)),
        steps_of(loss_scale=lambda place, lr: 2 ** (16 - place)),
        steps_of(current_lr=lambda place, lr: lr * (1 - place / 3), tokens=lambda place, lr: 1000 * place),
        [{**row, "step": row["global_step"] % 100} for row in steps_of("global_step", (100, 150, 200, 250))],
        [
            {
                **row,
                "epoch": row["which"] // 3,
                "iter_in_epoch": row["which"] % 3,
                "checkpoint_name": f"c{row['which']}",
            }
            for row in steps_of("which", tuple(range(9)))
        ],
    ],
)
def test_steps_of_a_run_under_other_names(rows):
    found = judged(rows)
    assert found.best is not None
    assert found.best.settings == {"lr": 0.001}
    assert found.best.mean == pytest.approx(3.301)
    assert not blocks(found)


def test_runs_that_ended_early_are_of_another_length():
    early = {(0.003, seed): 200 for seed in range(3)}
    assert blocks(judged(steps_of(ends=early))) == {"budget"}
    ragged = steps_of(ends={(0.003, 2): 200}, seeded=False)
    assert "rows are steps of a run" in table_runs(table_of(ragged), ["lr"]).notes[0]


@pytest.mark.parametrize("seeds", [([314, 777, 1], [42, 0, 5]), ([1, 2, 3], [3, 4, 5])])
def test_runs_that_share_no_seed_are_not_paired(seeds):
    rows = [
        {"arm": arm, "seed": s, "val_bpb": 1.06 + place / 100}
        for arm, some in zip("ab", seeds, strict=True)
        for place, s in enumerate(some)
    ]
    found = judged(rows, vary="arm")
    assert found.metric == "val_bits_per_byte", "the one loss there is"
    assert not blocks(found)
    assert [(one.paired, one.runs, one.verdict) for one in found.verdicts] == [(False, (3, 3), "inconclusive")]
    assert "3 runs each, unpaired" in found.known


def test_runs_without_a_seed_are_counted_as_runs():
    rows = [{"optimizer": name, "val_loss": 3.27 + k / 1000} for name in ("muon", "adamw") for k in range(10)]
    found = judged(rows, vary="optimizer")
    assert not blocks(found) - {"dead-knob"}
    assert "10 runs each, unpaired" in found.known
    assert "10 runs that chose it" in found.known
    assert "1 seed" not in found.known + found.unknown
    numbered = [{**row, "trial": k % 10} for k, row in enumerate(rows)]
    assert not judged(numbered, vary="optimizer").verdicts[0].paired, "a number of a trial is no seed"
    assert blocks(judged(numbered, vary="optimizer", seed="trial")) <= {"dead-knob"}, "unless somebody says so"


def test_a_ranking_of_overfitting_is_said():
    rows = [
        {"arm": f"a{k}", "seed": s, "train_loss": 0.6 + k / 10 + s / 1000, "val_loss": 1.7 - k / 20 + s / 900}
        for k in range(6)
        for s in range(4)
    ]
    assert ("overfitting", "warn") in {(one.audit, one.severity) for one in judged(rows, vary="arm").audits}
    alike = [{**row, "val_loss": row["train_loss"] + 1} for row in rows]
    assert "overfitting" not in {one.audit for one in judged(alike, vary="arm").audits}


@pytest.mark.parametrize(
    ("train", "held_out", "of_loss"),
    [
        ("train_perplexity", "val_perplexity", math.exp),
        ("training_ppl", "val_ppl", math.exp),
        ("train_accuracy", "val_accuracy", lambda loss: 0.9 - loss / 5),
        ("train_acc", "validation_accuracy", lambda loss: 90 - 20 * loss),
    ],
)
def test_a_ranking_of_overfitting_is_said_of_perplexities_and_accuracies(train, held_out, of_loss):
    rows = [
        {"arm": f"a{k}", "seed": s, train: of_loss(0.6 + k / 10 + s / 1000), held_out: of_loss(1.7 - k / 20 + s / 900)}
        for k in range(6)
        for s in range(4)
    ]
    how = {"metric": "val_accuracy", "goal": "maximize"} if "acc" in train else {}
    (said,) = [one for one in judged(rows, vary="arm", **how).audits if one.audit == "overfitting"]
    assert said.severity == "warn"
    more = "higher training accuracy have lower" if "acc" in train else "lower training perplexity have higher"
    assert f"arms of {more} validation" in said.message
    alike = [{**row, held_out: of_loss(0.8 + k // 4 / 9)} for k, row in enumerate(rows)]
    assert "overfitting" not in {one.audit for one in judged(alike, vary="arm", **how).audits}


def test_studies_may_be_the_repeats():
    draw = random.Random(0)
    rows = [
        {"setting": name, "study": s, "seed": s, "val_loss": level + draw.gauss(0, 0.07)}
        for name, level in (("p", 1.5), ("q", 1.36), ("r", 1.6))
        for s in range(5)
    ]
    assert "drift" not in blocks(judged(rows, vary="setting"))
    two = [{**row, "study": row["seed"] % 2, "val_loss": row["val_loss"] + row["seed"] % 2} for row in rows]
    assert "drift" not in blocks(judged(two, vary="setting")), "each has as many of every arm, on seeds of its own"


def test_kept_and_discarded_runs_have_completed_and_a_crash_has_no_number():
    rows = [
        {"commit": "000000a", "val_bpb": 1.0, "memory_gb": 20.1, "status": "keep"},
        {"commit": "000000b", "val_bpb": 0.99, "memory_gb": 20.1, "status": "discard"},
        {"commit": "000000c", "val_bpb": 0.0, "memory_gb": 20.1, "status": "crash"},
    ]
    found = judged(rows, vary="commit")
    assert [arm.mean for arm in found.arms] == [1.0, 0.99, None]
    assert [arm.arm for arm in found.arms] == ["000000a", "000000b", "000000c"]
    assert [one.audit for one in found.blocks] == ["seeds"]  # a crash is a change that is discarded


def test_a_nan_that_counts_as_a_success_is_said():
    rows = sweep(status="completed", val_loss=lambda row: float("nan") if row["lr"] == 0.08 else row["val_loss"])
    found = judged(rows)
    assert [one.severity for one in found.audits if one.audit == "diverged"] == ["warn"]


def test_rounded_values_may_be_equal():
    """Two decimals and three seeds: equal triples are what rounding makes."""
    draw = random.Random(3)
    rows = [{"lr": lr, "seed": s, "val_loss": round(3.41 + draw.gauss(0, 0.002), 2)} for lr in RATES for s in range(3)]
    assert "dead-knob" not in blocks(judged(rows))
    exact = [
        {"lr": lr, "seed": s, "val_loss": 3.41 + random.Random(s).gauss(0, 0.01)} for lr in RATES for s in range(3)
    ]
    assert "dead-knob" in blocks(judged(exact))


def test_more_is_better_only_where_somebody_says_so():
    with pytest.raises(TableError, match="--goal maximize"):
        judged(sweep(accuracy=0.3), metric="accuracy")


def test_settings_tell_arms_apart_where_nobody_says_what_does():
    rows = sweep(
        batch_size=lambda row: 32 if row["lr"] > 0.02 else 64,
        n_params=lambda row: 1000 + round(1000 * row["lr"]),
        core_score=lambda row: 0.1 + row["lr"],
        grad_norm=lambda row: 1.2345678 + row["seed"] + row["lr"],
        run=lambda row: f"r{row['lr']}{row['seed']}",
        dropout=0.1,
        **{"train/step_loss": lambda row: row["val_loss"] + 0.1, "global_step": lambda row: 100 + row["seed"]},
    )
    assert differing_settings(table_of(rows)) == ("lr",), "the batch goes with the rate"


def crossed(*columns):
    return [dict(zip(columns[0], row, strict=True)) for row in columns[1:]]


DRAWN = [(0.00317, 0.0893, 64), (0.0412, 0.0116, 32), (0.000912, 0.153, 64), (0.0144, 0.0712, 32), (0.00635, 0.205, 32)]


@pytest.mark.parametrize(
    ("table", "vary"),
    [
        ((("lr", "batch_size"), (0.1, 32), (0.2, 64), (0.4, 64)), ("lr",)),
        ((("width", "lr"), (128, 0.1), (256, 0.2), (512, 0.4)), ("width",)),
        ((("optimizer", "lr", "wd"), ("muon", 0.1, 0.0), ("muon", 0.2, 0.0), ("adamw", 0.4, 0.1)), ("lr",)),
        ((("lr", "bs"), (0.1, 32), (0.1, 64), (0.2, 32), (0.2, 64)), ("lr", "bs")),
        ((("lr", "bs", "clip"), (0.1, 32, 1), (0.1, 64, 1), (0.2, 32, 1), (0.2, 64, 2)), ("lr", "bs")),
        ((("lr", "bs", "clip"), (0.1, 32, 1), (0.1, 64, 2), (0.2, 32, 2), (0.2, 64, 1)), ("lr", "bs", "clip")),
        ((("a", "dropout", "clip"), (1, 0.0, 1), (2, 0.0, 1), (1, 0.1, 1), (1, 0.0, 2)), ("a", "dropout", "clip")),
        ((("n_layer", "n_embd", "n_head"), (2, 128, 2), (4, 256, 4), (6, 384, 6)), ("n_layer", "n_embd", "n_head")),
        ((("arm", "width", "lr"), ("small", 128, 0.1), ("large", 256, 0.2)), ("arm",)),
        ((("lr", "dropout", "batch_size"), *DRAWN), ("lr", "dropout", "batch_size")),
    ],
)
def test_what_goes_with_another_setting_is_not_what_varies(table, vary):
    """It is, in a grid, a fraction of one, changes one at a time, sizes, named arms and draws."""
    rows = [
        {**row, "seed": seed, "val_loss": 3.0 + place / 10 + seed / 100}
        for place, row in enumerate(crossed(*table))
        for seed in range(3)
    ]
    assert differing_settings(table_of(rows)) == vary


def test_the_doctor_finds_without_vary_what_blocks_the_analysis(tmp_path):
    path = tmp_path / "runs.jsonl"
    for more in ({"batch_size": at_best(32, 64)}, {"optimizer": at_best("muon", "adamw")}, {"width": at_best(64, 32)}):
        path.write_text("".join(json.dumps(row) + "\n" for row in sweep(**more)))
        found = checkup([path])
        assert [one.audit for one in found.audits if one.severity == "block"] == ["confounded"]
        assert blocks(judged(path, vary="lr")) == {"confounded"}
    assert "arms differ in lr; --vary says otherwise" in found.notes[0]


@pytest.mark.parametrize("seeded", [False, True])
def test_arms_that_share_no_seed_are_ranked_by_their_plain_means(seeded):
    """A run at 3.14, four of mean 3.15, two of mean 3.2: nothing but the means is known."""
    values = {"a": [3.14], "b": [3.13, 3.15, 3.16, 3.16], "c": [3.05, 3.35]}
    runs = [(arm, value) for arm, some in values.items() for value in some]
    rows = [
        {"arm": arm, "val_loss": value, **({"seed": seed} if seeded else {})} for seed, (arm, value) in enumerate(runs)
    ]
    found = judged(rows, "arm", min_effect=0.01)
    assert [arm.mean for arm in found.arms] == pytest.approx([3.14, 3.15, 3.2])
    assert found.best is not None
    assert (found.best.arm, found.best.mean) == ("a", 3.14)
    assert {one.verdict for one in found.verdicts} == {"inconclusive"}
    assert found.known.startswith("a has the least val_loss, 3.14")
