"""The `blueberry` command: runs the command line and turns what goes wrong into a line and an exit code.

0 done; 1 the honest answer is no; 2 the user's mistake, one line; 130 interrupted, everything finished is kept.
"""

import os
import sys
from typing import cast

import typer

from blueberry.cli import app
from blueberry.errors import BlueberryError

INTERRUPTED = 130

UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])
"""What the parser raises: the class typer itself brings, or click's, depending on typer's version."""


def main() -> None:
    """Run one command and exit."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer has turned Ctrl-C into a code
            raise KeyboardInterrupt
    except BlueberryError as error:
        code = _say(str(error), 2)
    except UsageError as error:
        code = _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = _say("interrupted; what had finished is kept; the same command goes on from there", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `blueberry ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _usage(error: Exception) -> int:
    """One line for a mistyped command; the whole help where no command was given."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "blueberry"
    if type(error).__name__ == "NoArgsIsHelpError":
        return _say(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    return _say(f"{path}: {error.format_message()} See {path} --help", 2)  # pyright: ignore[reportAttributeAccessIssue]


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
