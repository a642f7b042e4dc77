"""What a column counts in is part of its numbers: tokens in millions, a time in minutes and seconds."""

import pytest

from blueberry.errors import TableError
from blueberry.tables.reading import read_table, table_of
from blueberry.tables.runs import table_runs


@pytest.mark.parametrize(
    ("column", "name", "value"),
    [("tokens (M)", "tokens", 2_500_000), ("tokens (B)", "tokens", 2.5e9), ("Tokens [billions]", "tokens", 2.5e9),
     ("train tokens (k)", "tokens", 2500), ("Tokens seen (bn)", "tokens", 2.5e9), ("total_tokens(T)", "tokens", 2.5e12),
     ("flops (PF)", "flops", 2.5e15), ("FLOPs (EFLOP)", "flops", 2.5e18), ("total flops (1e18)", "flops", 2.5e18),
     ("updates (k)", "updates", 2500), ("vocab size (K)", "vocabulary", 2500), ("tokens (total)", "tokens", 2.5),
     ("tokens (Mtok)", "tokens", 2_500_000), ("tokens (billion tokens)", "tokens", 2.5e9), ("tokens (in B)", "tokens", 2.5e9),
     ("tokens (x10^9)", "tokens", 2.5e9), ("flops (PFLOPs)", "flops", 2.5e15), ("FLOPs (PF-days)", "flops", 2.16e20),
     ("total flops (petaflop/s-days)", "flops", 2.16e20), ("training_time_minutes (total)", "train_seconds", 150),
     ("training time (ms)", "train_seconds", 0.0025), ("runtime (days)", "train_seconds", 216_000),
     ("Train time [hours]", "train_seconds", 9000), ("runtime (hr)", "train_seconds", 9000)],
)  # fmt: skip
def test_a_unit_in_brackets_is_counted_out(column, name, value):
    row = table_of([{"arm": "a", column: 2.5, "val_loss": 3.0}]).rows[0]
    assert row.values[name] == pytest.approx(value, rel=1e-12)


def test_tokens_in_millions_are_a_runs_tokens():
    rows = [{"arm": arm, "tokens (M)": 300, "val_loss": loss} for arm, loss in (("a", 3.1), ("b", 3.2))]
    assert [run.result.num_tokens for run in table_runs(table_of(rows), ["arm"]).runs] == [300_000_000] * 2


@pytest.mark.parametrize(
    ("column", "cells", "seconds"),
    [("training_time", ("59:12", "1:02:03"), (3552, 3723)), ("training time (mm:ss)", ("3:00", "12:30"), (180, 750)),
     ("runtime (m:ss)", ("3:00.5", "0:59"), (180.5, 59)), ("runtime (hh:mm)", ("3:00", "12:30"), (10_800, 45_000)),
     ("train time (min:sec)", ("4:10", "75:10"), (250, 4510)), ("runtime (h:mm:ss)", ("1:00:00", "3:00"), (3600, 180)),
     ("runtime", ("3:00", "0 days 01:00:00"), (180, 3600))],
)  # fmt: skip
def test_two_parts_of_a_clock_are_minutes_where_something_says_so(column, cells, seconds):
    """The column's own name does, or a cell beside it that has hours too."""
    rows = [{"arm": n, column: cell, "val_loss": 3.0} for n, cell in enumerate(cells)]
    assert tuple(row.values["train_seconds"] for row in table_of(rows).rows) == seconds


def test_else_they_may_be_hours_and_are_left_out():
    rows = [{"arm": n, "runtime": cell, "val_loss": 3.0} for n, cell in enumerate(("3:00", "4:07"))]
    found = table_runs(table_of(rows), ["arm"])
    assert "'3:00' is no number of train_seconds, and is left out" in " ".join(found.notes)
    assert [run.result.train_seconds for run in found.runs] == [None, None]


TWICE = '{"arm": "a", "lr": 0.1, "lr": 0.2, "val_loss": 3.1}'
ONCE = '{"arm": "b", "lr": 0.1, "lr": 0.1, "val_loss": 3.2}'


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [("a.json", f"[{ONCE}, {TWICE}]", "a.json: "), ("a.jsonl", f"{ONCE}\n{TWICE}\n", "a.jsonl line 2: "),
     ("a.json", f'{{"runs": [{TWICE}]}}', "a.json: "),
     ("a.json", '{"x": {"lr": 0.1, "val_loss": 3}, "x": {"lr": 0.2, "val_loss": 2}}', "a.json: "),
     ("a.json", f'[{{"config": {TWICE}, "val_loss": 3.0}}]', "a.json: "),
     ("a.csv", 'arm,config,val_loss\na,"{""lr"": 1, ""lr"": 2}",3.1\n', 'a.csv line 2 "config": '),
     ("runs/a.json", TWICE, "a.json: "), ("runs/trainer_state.json", '{"log_history": [], "x": 1, "x": 2}', "state.json: ")],
)  # fmt: skip
def test_a_key_with_two_values_is_refused(tmp_path, name, text, place):
    """As a column with two names is: which of both was meant nobody can tell."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(TableError, match="has two values in one object") as refused:
        read_table(path if path.parent == tmp_path else path.parent)
    assert place in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_that_says_the_same_twice_is_read(tmp_path):
    (tmp_path / "a.json").write_text(f"[{ONCE}]")
    assert read_table(tmp_path / "a.json").rows[0].values["lr"] == 0.1
