"""Tables that programs print, columns set apart by blanks, and files that are not UTF-8."""

import pytest

import blueberry
from blueberry.errors import TableError
from blueberry.tables.reading import read_table

READ = {
    "a data frame": (
        """      lr  seed  val_loss
0  0.001     0    3.4120
1  0.001     1    3.4050
2  0.003     0       NaN
3  0.003     1    3.3810
""",
        4,
        {"lr": 0.001, "seed": 0, "val_loss": 3.412},
    ),
    "with a named index": (
        """       seed  val_loss
lr
0.001     0     3.412
0.001     1     3.405
0.003     0     3.377
""",
        3,
        {"lr": 0.001, "seed": 0, "val_loss": 3.412},
    ),
    "texts of several words": (
        """               change  val_loss  seed
0        weight decay    3.4120     0
1   lr 0.02 then 0.03    3.4050     1
2            baseline    3.3770     2
""",
        3,
        {"change": "weight decay", "val_loss": 3.412, "seed": 0},
    ),
    "single blanks": (
        """   a  b  val_loss
0 -1 -2       3.1
1 -3 -4       3.2
""",
        2,
        {"a": -1, "b": -2, "val_loss": 3.1},
    ),
    "column -t": (
        """lr     seed  val_loss
0.001  0     3.412
0.001  1     3.405
0.003  0     3.377
""",
        3,
        {"lr": 0.001, "seed": 0, "val_loss": 3.412},
    ),
    "a rule says where": (
        """  lr    seed    val_loss  note
----  ------  ----------  ----------------
0.01       0        3.41
0.01       1        3.4   seen  twice
0.03       0        3.37  none at all
""",
        3,
        {"lr": 0.01, "seed": 0, "val_loss": 3.41, "note": None},
    ),
    "a database's": (
        """  lr   | seed | val_loss
-------+------+----------
 0.001 |    0 |    3.412
 0.003 |    0 |    3.377
(2 rows)
""",
        2,
        {"lr": 0.001, "seed": 0, "val_loss": 3.412},
    ),
    "in a box": (
        """+-------+--------+
|   lr  |  val   |
+-------+--------+
| 0.001 |  3.412 |
| 0.003 |  3.4   |
+-------+--------+
""",
        2,
        {"lr": 0.001, "val": 3.412},
    ),
    "names behind a hash": (
        """# lr seed val_loss
0.001 0 3.412
0.003 0 3.377
""",
        2,
        {"lr": 0.001, "seed": 0, "val_loss": 3.412},
    ),
    "an index of names": (
        """        val_loss  seed
cosine     3.412     0
linear     3.405     0
""",
        2,
        {"name": "cosine", "val_loss": 3.412, "seed": 0},
    ),
    "empty cells in every line": (
        """    lr  wd  val_loss
0  0.1         3.412
1      0.2     3.405
""",
        2,
        {"lr": 0.1, "wd": None, "val_loss": 3.412},
    ),
    "with its size": (
        """      lr  seed  val_loss
0  0.001     0    3.4120
1  0.001     1    3.4050

[2 rows x 3 columns]
""",
        2,
        {"lr": 0.001, "seed": 0, "val_loss": 3.412},
    ),
}
REFUSED = [
    (
        """        lr  val_loss
0    0.001     3.412
1    0.001     3.405
..     ...       ...
98   0.003     3.377
99   0.003     3.381

[100 rows x 2 columns]
""",
        "5 of 100 rows are shown",
    ),
    (
        """      lr  ...  val_loss
0  0.001  ...     3.412
1  0.001  ...     3.405

[2 rows x 12 columns]
""",
        "columns are wrapped or left out",
    ),
    (
        r"""      lr  seed  \
0  0.001     0
1  0.001     1

   val_loss
0     3.412
1     3.405
""",
        "columns are wrapped or left out",
    ),
    (
        """lr  seed  val_loss
0.001  0  3.412
0.001  1
0.003  0  3.377  extra  more
""",
        "line 3: 2 cells, parted by blanks, under 3",
    ),
    (
        """Results of the sweep

lr      seed  val_loss
0.001   0     3.412
0.003   0     3.377
""",
        "line 3: 3 cells, parted by blanks, under 1",
    ),
    (
        """               val_loss
lr    seed
0.001 0           3.412
      1           3.405
0.003 0           3.377
      1           3.381
""",
        "parted by blanks, under 1",
    ),
    (
        """hello this is no table at all
it only has text in it
""",
        "parted by blanks",
    ),
]


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_columns_that_blanks_set_apart_are_read(tmp_path, name, suffix):
    text, num_rows, first = READ[name]
    path = tmp_path / f"printed{suffix}"
    path.write_text(text)
    table = read_table(path)
    assert len(table.rows) == num_rows
    assert table.rows[0].values == first


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_no_way_parts_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "printed.txt"
    path.write_text(text)
    with pytest.raises(TableError, match=said) as refused:
        read_table(path)
    assert "\n" not in str(refused.value)


def test_what_a_data_frame_prints_is_judged_as_its_csv_is(tmp_path):
    rows = [(lr, seed, 3 + lr + seed / 1e3) for lr in (0.01, 0.05) for seed in range(3)]
    lines = [f"{n}  {lr:5}  {seed:4}  {loss:8.4f}" for n, (lr, seed, loss) in enumerate(rows)]
    (tmp_path / "a.txt").write_text("\n".join(["      lr  seed  val_loss", *lines]))
    (tmp_path / "a.csv").write_text("\n".join(["lr,seed,val_loss", *(f"{a},{b},{c:.4f}" for a, b, c in rows)]))
    printed, plain = (blueberry.analyse(tmp_path / name, vary="lr") for name in ("a.txt", "a.csv"))
    assert printed.verdicts == plain.verdicts


def test_text_that_is_not_utf_8_is_read_as_windows_1252_which_is_said(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes("réglage;lr;val_loss\nà chaud;0,01;3,4\n\N{EN DASH} froid;0,02;3,3\n".encode("cp1252"))
    table = read_table(path)
    assert [row.values["réglage"] for row in table.rows] == ["à chaud", "\N{EN DASH} froid"]
    assert any("not UTF-8" in note and "cp1252" in note for note in table.notes)


@pytest.mark.parametrize("more", [b"\x00", b"\x01", b"\x81"])
def test_bytes_that_no_text_has_are_refused(tmp_path, more):
    path = tmp_path / "not.csv"
    path.write_bytes(b"lr,val_loss\n0.01,3.4\n\xe9" + more)
    with pytest.raises(TableError, match="not UTF-8"):
        read_table(path)
