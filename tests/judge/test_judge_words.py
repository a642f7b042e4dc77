import math

import pytest

from blueberry.judge import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04466836, "0.04467"),
        (0.0630957, "0.0631"),
        (0.1258925, "0.1259"),
        (0.00199, "0.00199"),
        (0.1, "0.1"),
        (1.0, "1"),
        (1e-5, "1e-05"),
        (1234567.0, "1234567"),
        (1234.5, "1234.5"),
        (16, "16"),
        (True, "True"),
        ("wsd", "wsd"),
    ],
)
def test_settings_have_four_digits_and_no_more_than_they_need(value, text):
    assert words.setting_value(value) == text


def test_a_metric_has_the_digits_of_what_matters():
    assert words.metric_value(3.41234, (3.40134, 3.42334), "val_loss", 0.005) == "3.4123 nats [3.4013, 3.4233]"
    assert words.metric_value(3.41234, (3.1, 3.7), "val_loss", 0.02) == "3.412 nats [3.100, 3.700]"
    assert words.metric_value(math.inf, None, "val_loss") == "diverged"
    assert words.metric_value(30.2, (20.1, 40.3), "val_perplexity", 1) == "30.2 [20.1, 40.3]"
    assert words.metric_value(1.06136, None, "val_bits_per_byte") == "1.0614 bits per byte"
    assert [words.decimals(effect) for effect in (0, 0.0001, 0.005, 0.05, 1, 20)] == [4, 5, 4, 3, 1, 1]


def test_a_difference_has_its_sign():
    assert words.difference(-0.012, (-0.019, -0.005), "val_loss") == "-0.0120 nats [-0.0190, -0.0050]"


def test_metrics_have_one_name_and_one_unit():
    metrics = ("val_loss", "test_bits_per_byte", "train_seconds", "sets.code.loss", "core_score")
    assert [words.metric_axis(one) for one in metrics] == [
        "validation loss (nats per token)",
        "test bits per byte",
        "training time (seconds)",
        "sets.code.loss (nats per token)",
        "core score",
    ]
    assert words.difference_axis("val_bits_per_byte", "a") == "validation bits per byte minus that of a"


def test_counts_and_lists():
    assert (words.count(1, "seed"), words.count(2, "seed")) == ("1 seed", "2 seeds")
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(list("abcdefg")) == "a, b, c, d and 3 more"


def test_amounts():
    assert (words.quantity(1_234_000, "tokens"), words.quantity(2e9, "FLOP")) == ("1.23 M tokens", "2 GFLOP")
    assert (words.quantity(512, "B"), words.quantity(0)) == ("512 B", "0")
    assert [words.duration(one) for one in (0.08, 8.24, 45, 126, 11_520)] == [
        "80 ms",
        "8.2 s",
        "45 s",
        "2.1 min",
        "3.2 h",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.00004, "+0.00004"), (-0.0000096, "-0.000010"), (0.0, "+0.0000"), (0.00012, "+0.0001"), (1e-17, "+0.0000")],
)
def test_a_difference_that_is_not_0_does_not_read_as_0(value, said):
    assert words.number(value, 4, sign=True) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.2e-6, "0.000001"),
        (0.00004, "0.00004"),
        (0.00012, "0.0001"),
        (0.0, "0.0000"),
        (1e-17, "0.0000"),
        (3.4, "3.4000"),
    ],
)
def test_a_value_that_is_not_0_does_not_read_as_0(value, said):
    assert words.number(value, 4) == said
    assert words.metric_value(value, None, "val_loss", 0.005) == f"{said} nats"
