"""The one exception that a user is meant to read, and the search for the word that they meant."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right; its text says what was wrong, what was expected, and what to do next."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the choice closest to `word`, or an empty string where none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
