"""The exceptions for mistakes that a user can mend and for signals, how a command ends, and suggestions."""

import difflib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable

from cnnzoo.text import clean_lines


class UserError(Exception):
    """A mistake that the user can mend. The message: what was wrong, what was expected, what to do next."""


class Interrupted(KeyboardInterrupt):
    """A signal, the argument, has ended a run, which the same command resumes."""

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + int(self.args[0])


def exit_code(work: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Do the work of a command, and return its exit code: never a traceback for a mistake, Ctrl-C or a closed pipe.

    Args:
        interrupted: what Ctrl-C is answered with.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123  (closed by whoever started this)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every locale has a ±
    try:
        code = work()
        sys.stdout.flush()
        return code or 0
    except UserError as error:
        print("error:", clean_lines(str(error)), file=sys.stderr)
    except KeyboardInterrupt as error:
        print(interrupted, file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else 130
    except OSError as error:
        if not is_of_stream(error):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more
        if not isinstance(error, BrokenPipeError):  # … | head
            print(f"error: the output cannot be written: {error.strerror}.", file=sys.stderr)
    return 1


def is_of_stream(error: BaseException) -> bool:
    """Whether an error is that of writing to stdout: the reader of its pipe has gone, or its disk is full."""
    return isinstance(error, OSError) and error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC)


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choice closest to `word`, or an empty string where none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
