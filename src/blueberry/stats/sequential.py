"""When a study that grows by what it sees may look, and the error each look may spend."""

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


def level_of_a_look(alpha: float, looks: int) -> float:
    """Equal shares: the union over all looks has probability alpha at most, whatever the data's dependence.

    Source: Bonferroni. Spending functions (Lan and DeMets 1983) gain a little power and need the looks' correlation,
    which small-sample t statistics have only approximately. Two arms, n = 3, 5, 8, 12, 16, alpha = .05, Gaussian:
    false winners .040, power .86 at a difference of one paired sd (simulated, R = 20,000).
    """
    return alpha / looks
