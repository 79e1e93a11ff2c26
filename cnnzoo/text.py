"""Text that others wrote, made safe to show.

Terminals take some characters to be commands."""

import json


def clean(text: str) -> str:
    """One line that can be shown anywhere.

    What is not printable (control characters, those that turn the direction of reading or are invisible, lone
    surrogates, which no file can hold) is spelled out as in JSON.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _spelled_out(character) for character in text)


def clean_lines(text: str) -> str:
    """The same of several lines."""
    return "\n".join(map(clean, text.split("\n")))


def _spelled_out(character: str) -> str:
    return " " if character in "\n\r\t" else json.dumps(character)[1:-1]
