"""When a study that grows by what it sees may look: planned and judged by one rule."""

LOOKS = (3, 5, 8, 12, 16)
"""Seeds at each look; beyond, half as many again each time."""


def looks_of(search: int, maximum: int) -> tuple[int, ...]:
    """Numbers of seeds at which a design is judged: from `search` (three at least) to `maximum`, ascending.

    A design that may not grow, or not beyond three seeds, has one look.
    """
    first = max(search, LOOKS[0])
    looks = [first] if first < maximum else []
    ahead: list[int] = [*LOOKS]
    while ahead[-1] < maximum:
        ahead.append(ahead[-1] + ahead[-1] // 2)
    return (*looks, *(n for n in ahead if first < n < maximum), maximum)
