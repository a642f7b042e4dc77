from blueberry.tables.markdown import MarkdownTable, read_tables

DOCUMENT = """# Report

Some text | with a bar.

## Results ##

| lr | **loss** |
|---:|:---------|
| 0.1 | 3.21 |
| 0.2 | a \\| b | surplus |
| 0.3 |

```
| no | table |
|----|-------|
| 1  | 2     |
```

a | b
--|--
1 | 2
"""


def test_reads_every_table_with_its_place():
    first, second = read_tables(DOCUMENT)
    assert first == MarkdownTable(
        heading="Results",
        line=7,
        header=("lr", "**loss**"),
        rows=(("0.1", "3.21"), ("0.2", "a | b"), ("0.3", "")),
    )
    assert second == MarkdownTable("Results", 19, ("a", "b"), (("1", "2"),))


def test_a_document_without_tables_has_none():
    assert read_tables("") == []
    assert read_tables("a | b\nno rule\n") == []
    assert read_tables("| a | b |\n|---|\n") == []


def test_a_table_ends_at_a_line_without_a_bar_and_the_next_may_follow():
    first, second = read_tables("|a|b|\n|-|-|\n|1|2|\n\n# Other\n|c|d|\n|-|-|\n")
    assert first.heading is None
    assert first.rows == (("1", "2"),)
    assert (second.heading, second.rows) == ("Other", ())


def test_a_longer_fence_is_closed_by_as_long_a_one_only():
    text = "````\n```\n|a|b|\n|-|-|\n````\n|c|d|\n|-|-|\n"
    assert [table.header for table in read_tables(text)] == [("c", "d")]
