import math

import pytest

from blueberry.judge import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04466836, "0.0447"),
        (0.1, "0.1"),
        (1.0, "1"),
        (1234567.0, "1234567"),
        (16, "16"),
        (True, "True"),
        ("wsd", "wsd"),
    ],
)
def test_settings(value, text):
    assert words.setting_value(value) == text


def test_a_loss_has_the_digits_its_interval_supports():
    assert words.metric_value(3.41234, (3.40134, 3.42334), "val_loss") == "3.412 nats [3.401, 3.423]"
    assert words.metric_value(3.41234, (3.1, 3.7), "val_loss") == "3.41 nats [3.10, 3.70]"
    assert words.metric_value(3.41234, None, "val_loss") == "3.412 nats"
    assert words.metric_value(math.inf, None, "val_loss") == "diverged"
    assert words.metric_value(30.2, (20.1, 40.3), "val_perplexity") == "30 [20, 40]"


def test_a_difference_has_its_sign():
    assert words.difference(-0.012, (-0.019, -0.005), "val_loss") == "-0.0120 nats [-0.0190, -0.0050]"


def test_counts_and_lists():
    assert (words.count(1, "seed"), words.count(2, "seed")) == ("1 seed", "2 seeds")
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(list("abcdefg")) == "a, b, c, d and 3 more"
