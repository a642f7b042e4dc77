"""How much of the y-axis a picture shows, so that one bad arm does not flatten the differences that matter."""

MAX_HEIGHT_IN_VALLEYS = 4.0
"""A picture shows at most this many times the height of what matters in it (the better half of the arms),"""
WORTH_CUTTING = 1.5
"""unless everything would fit into one this many times as high."""


def picture_range(low: float, high: float, valley_height: float) -> tuple[float, float]:
    """Bottom and top, with a margin, for data between low and high of which the lowest `valley_height` matters."""
    top = low + MAX_HEIGHT_IN_VALLEYS * valley_height
    if high <= low + WORTH_CUTTING * (top - low):
        top = high
    margin = 0.07 * (top - low) or 0.05 * abs(low) or 1.0
    return (low - margin, top + margin)
