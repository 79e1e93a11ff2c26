"""The exception for mistakes that a user can mend, and suggestions for misspelt words."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. The message: what was wrong, what was expected, what to do next."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the choice closest to `word`, or an empty string where none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
