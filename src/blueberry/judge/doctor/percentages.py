"""Whether a printed percentage follows from two printed numbers."""

import math

from blueberry.judge.doctor.printed import Number

ABOUT = 0.1
"""Slack of a number printed with ~, relative."""


def follows(stated: Number, a: Number, b: Number) -> bool:
    """Whether |b / a - 1| can be the percentage, given what rounding hid; or |b - a|, for points of percentages."""
    if is_of_points(stated, a, b):
        return True
    low, high = a.value - a.half, a.value + a.half
    if low <= 0:
        return True  # nothing can be said
    ends = [(b.value + sign * b.half) / base - 1 for sign in (-1, 1) for base in (low, high)]
    least = 0.0 if min(ends) <= 0 <= max(ends) else min(map(abs, ends))
    slack = 2 * stated.half + (ABOUT * abs(stated.value) if stated.is_about else 0.0)  # cut off is as good as rounded
    return least - slack - 1e-12 <= abs(stated.value) <= max(map(abs, ends)) + slack + 1e-12


def is_of_points(stated: Number, a: Number, b: Number) -> bool:
    both = a.is_percent and b.is_percent
    return both and abs(abs(b.value - a.value) - abs(stated.value)) <= stated.half + a.half + b.half + 1e-12


def relative(a: Number, b: Number) -> float:
    return b.value / a.value - 1 if a.value else math.inf
