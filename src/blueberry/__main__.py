"""The `blueberry` command: runs the command line and turns what goes wrong into a line and an exit code.

0 done; 1 the honest answer is no; 2 the user's mistake, one line; 130 interrupted, everything finished is kept.
"""

import os
import sys
from contextlib import suppress
from typing import cast

import typer

from blueberry.cli import app, say
from blueberry.errors import BlueberryError

INTERRUPTED = 130

UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])
"""What the parser raises: the class typer itself brings, or click's, depending on typer's version."""


def main() -> None:
    """Run one command and exit."""
    _hold_closed_streams()
    try:
        _refuse_names_that_are_no_text(sys.argv[1:])
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer has turned Ctrl-C into a code
            raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()
    except BlueberryError as error:
        code = _say(str(error), 2)
    except UsageError as error:
        code = _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = _say("interrupted; what had finished is kept; the same command goes on from there", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `blueberry ... | head`
        _forget_output()
        code = 0
    except OSError as error:
        if error.errno is None:
            raise  # no disk or folder, but a mistake of ours
        remedy = "the command cannot go on without it; mend its name, its permissions or its disk"
        code = _say(f"{error.filename or 'blueberry'}: {error.strerror}; {remedy}", 2)
        _forget_output()
    sys.exit(code)


def _hold_closed_streams() -> None:
    """Where standard input, output or error is closed, no file that is opened later may get its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)


def _forget_output() -> None:
    """What could not be written is not tried once more when Python ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse_names_that_are_no_text(words: list[str]) -> None:
    """Names are kept in results, stores and pages, all of them UTF-8. Raises: BlueberryError."""
    for word in words:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise BlueberryError(f"{word}: not UTF-8; names here are text; rename it")


def _usage(error: Exception) -> int:
    """One line for a mistyped command; the whole help where no command was given."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "blueberry"
    if type(error).__name__ == "NoArgsIsHelpError":
        return _say(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    return _say(f"{path}: {error.format_message()} See {path} --help", 2)  # pyright: ignore[reportAttributeAccessIssue]


def _say(line: str, code: int) -> int:
    with suppress(OSError):  # a full disk behind standard error: the code still says it
        say(line)
    return code


if __name__ == "__main__":
    main()
