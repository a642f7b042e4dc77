"""How a finding is made. Each has its audit's name, what was found, and what would mend it."""

from collections.abc import Iterable

from blueberry.judge.judgement import Audit


def block(name: str, message: str, remedy: str) -> Audit:
    """The claim is withheld."""
    return Audit(audit=name, severity="block", message=message, remedy=remedy)


def warn(name: str, message: str, remedy: str) -> Audit:
    """Said, and no more."""
    return Audit(audit=name, severity="warn", message=message, remedy=remedy)


def blocking_first(found: Iterable[Audit]) -> tuple[Audit, ...]:
    """Each finding once, in order, those that block before the rest."""
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.severity != "block"))
