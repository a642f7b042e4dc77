"""What can go wrong, as a person would sort it.

BlueberryError            the user can mend it: one line, exit code 2, never a traceback
├── RecipeError           a recipe or a `key=value` override is wrong
├── LedgerError           a line of baselines has not what was asked of it
├── StudyError            a study file is wrong, or asks for what cannot be
├── DataError             a corpus or a tokenizer is missing, empty or unfit
├── StoreError            the store cannot be read or written
├── TrainerError          a trainer did not give one result for each recipe it was handed
├── TableError            a table of results has not what was asked of it
├── SinkError             a place to log to does not exist, or its library is not installed
└── ReportError           a report cannot be written where it was asked for

Every message reads `place: what was given; the rule it breaks; the remedy`. Our own bugs are
`assert` or whatever Python raises: they show a traceback because they should.
"""

import difflib
from collections.abc import Iterable


class BlueberryError(Exception):
    """A mistake the user can mend. Its text is one line, whatever was given."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class RecipeError(BlueberryError):
    """A recipe, or an override of one, breaks a rule."""


class StudyError(BlueberryError):
    """A study file breaks a rule."""


class LedgerError(BlueberryError):
    """A line of baselines has not, or cannot do, what was asked of it."""


class DataError(BlueberryError):
    """A corpus, a tokenizer or a split is not fit to train on."""


class StoreError(BlueberryError):
    """The store is missing, unwritable, corrupt or of another version."""


class TrainerError(BlueberryError):
    """A trainer did not return what its contract promises."""


class TableError(BlueberryError):
    """A table of results lacks a column or holds what cannot be read."""


class SinkError(BlueberryError):
    """A place to log to does not exist, or its library is not installed."""


class ReportError(BlueberryError):
    """A report cannot be written where it was asked for."""


MOST_NAMES = 40
"""That one line lists."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` with the nearest known name; where none is near, the known ones or their sections."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    if len(known) > MOST_NAMES:
        known = sorted({name.partition(".")[0] for name in known})
    return f"; known: {', '.join(known)}" if known else ""
