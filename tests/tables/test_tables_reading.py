import json
import math

import numpy as np
import pytest

from blueberry.errors import TableError
from blueberry.tables.reading import read_table, table_of

ROWS = [
    {"learning_rate": 0.01, "seed": 0, "val_loss": 3.25},
    {"learning_rate": 0.01, "seed": 1, "val_loss": 3.5},
    {"learning_rate": 0.1, "seed": 0, "val_loss": None},
]
COMMA = "learning_rate,seed,val_loss\n0.01,0,3.25\n0.01,1,3.5\n0.1,0,\n"

FORMATS = {
    "comma.csv": COMMA,
    "semicolon.csv": COMMA.replace(",", ";"),
    "decimal_comma.csv": COMMA.replace(",", ";").replace(".", ","),
    "tab.tsv": COMMA.replace(",", "\t"),
    "spreadsheet.csv": "\ufeff" + COMMA.replace("\n", "\r\n") + "\r\n\r\n",
    "quoted.csv": COMMA.replace("learning_rate", '"learning_rate"').replace("0.01", '"0.01"'),
    "index.csv": "".join(f",{line}" if n == 0 else f"{n},{line}" for n, line in enumerate(COMMA.splitlines(True))),
    "list.json": json.dumps(ROWS),
    "runs.json": json.dumps({"when": "today", "runs": ROWS}),
    "nested.json": json.dumps([{"config": {"learning_rate": r["learning_rate"]}, "seed": r["seed"], "results": {"val_loss": r["val_loss"]}, "curve": [1, 2]} for r in ROWS]).replace("config.", ""),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "frame.json": json.dumps({name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}),
    "lines.jsonl": "\n".join(json.dumps(row) for row in ROWS) + "\n\n",
    "table.md": "# A\n\n| learning_rate | seed | **val_loss** |\n|--:|--:|--:|\n| 0.01 | 0 | 3.25 |\n| `0.01` | 1 | **3.5** |\n| 0.1 | 0 | \N{EN DASH} |\n",
    "no_suffix": COMMA,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    (tmp_path / name).write_bytes(FORMATS[name].encode())
    table = read_table(tmp_path / name)
    read = [{column.removeprefix("config."): value for column, value in row.values.items()} for row in table.rows]
    assert read == ROWS
    assert all(name in row.place for row in table.rows)
    assert table.name == name.partition(".")[0]


def test_names_to_runs_keep_the_name(tmp_path):
    (tmp_path / "a.json").write_text('{"one": {"val_loss": 3}, "two": {"val_loss": 4}}')
    assert [row.values for row in read_table(tmp_path / "a.json").rows] == [
        {"name": "one", "val_loss": 3},
        {"name": "two", "val_loss": 4},
    ]


def test_a_single_object_is_one_run(tmp_path):
    (tmp_path / "a.json").write_text('{"config": {"lr": 0.1}, "metrics": {"val_loss": 3, "curve": [5, 4, 3]}}')
    assert [row.values for row in read_table(tmp_path / "a.json").rows] == [{"config.lr": 0.1, "val_loss": 3}]


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("-", None), ("n/a", None), ("None", None), ("0", 0), ("0.0", 0.0), ("-1e-3", -1e-3), ("\u22121.5", -1.5),
     ("12%", 0.12), ("1,104", 1104), ("true", True), ("cosine", "cosine"), ("007", "007"), ("1_000", "1_000"),
     ("inf", math.inf), ("∞", math.inf), ("12345678901234567890", "12345678901234567890")],
)  # fmt: skip
def test_cells(tmp_path, text, value):
    (tmp_path / "a.csv").write_text(f'x;val_loss\n"{text}";1.5\n')
    read = read_table(tmp_path / "a.csv").rows[0].values["x"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_not_missing(tmp_path):
    (tmp_path / "a.csv").write_text("x,val_loss\n1,nan\n2,\n")
    first, second = (row.values["val_loss"] for row in read_table(tmp_path / "a.csv").rows)
    assert math.isnan(first)
    assert second is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "a.csv: empty"),
        ("a.csv", "lr,val_loss\n", "no run in it"),
        ("a.csv", "lr,val_loss\n1,2,3\n", "a.csv line 2: 3 cells under 2 column names"),
        ("a.csv", "lr,lr\n1,2\n", 'a.csv line 1 "lr": names two columns'),
        ("a.csv", "0.1,3.5\n0.2,3.4\n", "only numbers; the first line must name the columns"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", "[1, 2]", "a.json run 1: int; each run must be an object"),
        ("a.json", '{"a": [1], "b": [1, 2]}', "columns must be equally long"),
        ("a.json", "3", "a.json: int"),
        ("a.jsonl", '{"a": 1}\n3\n', "a.jsonl line 2: int"),
        ("a.jsonl", '{"a": 1}\n{', "a.jsonl line 2: not valid JSON"),
        ("a.md", "no table", "a.md: no table in it"),
        ("a.bin", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TableError) as error:
        read_table(tmp_path / name)
    assert said in str(error.value)
    assert str(error.value).count(";") >= 1


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match="a folder without runs"):
        read_table(tmp_path)


def test_the_markdown_table_that_has_the_columns_is_read(tmp_path):
    text = "| what | n |\n|--|--|\n| x | 1 |\n\n## Rates\n\n| LR | Val Loss |\n|--|--|\n| 0.1 | 3.5 |\n\n## More\n\n| LR | Val Loss |\n|--|--|\n| 0.2 | 3 |\n"
    (tmp_path / "a.md").write_text(text)
    table = read_table(tmp_path / "a.md", wanted=["lr", "val_loss"])
    assert [row.values for row in table.rows] == [{"LR": 0.1, "val_loss": 3.5}]
    assert table.rows[0].place == "a.md line 9"
    assert "2 tables fit" in table.notes[0]
    with pytest.raises(TableError, match='no table with columns "lr", "accuracy"'):
        read_table(tmp_path / "a.md", wanted=["lr", "accuracy"])


def test_rows_in_memory():
    class Frame:
        def to_dict(self, orient):
            assert orient == "records"
            return ROWS

    class Scalar:
        def item(self):
            return 3.25

    assert [row.values for row in table_of(Frame()).rows] == ROWS
    assert table_of([{"a": Scalar(), 5: "x"}]).rows[0].values == {"a": 3.25, "5": "x"}
    (row,) = table_of([{"float": np.float64(3.25), "int": np.int64(3), "bool": np.bool_(True)}]).rows
    assert [type(value) for value in row.values.values()] == [float, int, bool]
    for bad in (3, "text", {"a": 1}, [1], []):
        with pytest.raises(TableError):
            table_of(bad)
