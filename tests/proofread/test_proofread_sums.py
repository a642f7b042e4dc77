"""Totals of amounts: what does not add up is found, what may be meant otherwise is not."""

import pytest

from blueberry.proofread import Document, examine

TABLE = "# Costs\n\nThree seeds each.\n\n| run | {head} |\n|---|--:|\n| a | {a} |\n| b | {b} |\n| c | {c} |\n{last}\n\n{said}\n"


def found(head="tokens", a="1000", b="2000", c="3000", last="", said=""):
    text = TABLE.format(head=head, a=a, b=b, c=c, last=last and f"| {last} |", said=said)
    return [
        (one.severity, one.message) for one in examine([Document.read("r.md", text)])[0] if one.audit == "arithmetic"
    ]


@pytest.mark.parametrize(
    ("given", "total"),
    [
        ({"head": "seconds", "a": "10.0", "b": "20.0", "c": "30.0"}, "75.0"),
        ({"head": "time (s)", "a": "10.0 s", "b": "20.0 s", "c": "30.0 s"}, "1.5 min"),
        ({}, "9000"),
        ({"c": "2,500"}, "5,450"),
        ({"a": "300k", "b": "400k", "c": "500k"}, "1.4M"),
        ({"head": "FLOPs", "a": "1.0e15", "b": "2.0e15", "c": "3.0e15"}, "7.0e15"),
        ({"head": "runs", "a": "5", "b": "5", "c": "7"}, "25"),
    ],
)
def test_a_total_row_is_the_sum_of_its_column(given, total):
    ((severity, message),) = found(**given, last=f"**Total** | {total}")
    assert severity == "block"
    assert message.startswith("r.md:10: ")
    assert f"printed {total.split()[0]}" in message


@pytest.mark.parametrize(
    ("given", "last"),
    [
        ({"head": "seconds", "a": "10.0", "b": "20.0", "c": "30.0"}, "total | 60.0"),
        ({"head": "time (s)", "a": "10.04 s", "b": "20.04 s", "c": "30.04 s"}, "Total | 1.0 min"),
        ({"a": "300k", "b": "400k", "c": "500k"}, "Total | 1.2M"),
        ({"a": "~1", "b": "2", "c": "3"}, "Total | 6"),
        ({}, "Total | 3000"),  # rows of what was reached by then
        ({"head": "tokens per second"}, "Total | 2000"),
        ({"head": "mean time"}, "Total | 2000"),
        ({"head": "width"}, "Total | 7"),
        ({"head": "loss at step 100"}, "Total | 7"),
        ({"head": "cost", "a": "-"}, "Total | 9000"),
        ({"head": "cost", "a": "10%"}, "Total | 9000"),
        ({}, "Subtotal | 1000 |\n| Total | 6000"),
        ({}, "mean | 2000"),
    ],
)
def test_what_adds_up_or_need_not_is_quiet(given, last):
    assert found(**given, last=last) == []


def test_a_stated_total_is_its_columns_sum_or_that_on_every_seed():
    assert found(said="Total tokens: 6000") == []
    assert found(said="**Total training tokens**: 18,000") == []
    assert found(said="Total tokens: 3000") == [], "the last row's, of a running total"
    assert found(said="Total tokens per run: 9000") == []
    assert found(said="Total updates: 9000") == []
    assert found(said="Total tokens: 9000") == [], "it may hold other runs"
    ((severity, _),) = found(said="- Total tokens: 5000")
    assert severity == "block"


def test_a_campaigns_total_time_may_hold_more_than_its_runs():
    times = {"head": "seconds", "a": "10.0", "b": "20.0", "c": "30.0"}
    assert found(**times, said="Total time: 75.0 s") == []
    assert found(**times, said="Total time: 130.0 s") == []
    for wrong in ("75.0 minutes", "40.0 s"):
        ((severity, message),) = found(**times, said=f"Total time: {wrong}")
        assert severity == "block"
        assert f"the 3 times add up to 60 s = 1.0 minutes, printed {wrong}" in message
