"""Command lines of options, of the verbs that Hydra does not read: a wrong word is answered as it is elsewhere."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from cnnzoo.errors import nearest
from cnnzoo.text import clean_lines


class Parser(argparse.ArgumentParser):
    """The options of one verb; `description` is its module's docstring."""

    def __init__(self, prog: str, description: str | None) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse what was typed; options may stand between the other words. Exits with 2 where it cannot."""
        arguments, unknown = self.parse_known_intermixed_args(argv)
        if unknown:
            word = unknown[0].partition("=")[0]
            self.error(f"{word}: no such option.{nearest(word, self.options)} It has {', '.join(self.options)}.")
        return arguments

    def add_trust(self) -> None:
        """Add the option for packages that a received run may be from, once for each."""
        words = "a package of your own that the run's network may be imported from"
        self.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=words)

    @property
    def options(self) -> list[str]:
        """All options, those of groups included; argparse keeps them in no public place."""
        return [text for action in self._actions for text in action.option_strings if text.startswith("--")]

    def error(self, message: str) -> NoReturn:
        self.exit(2, clean_lines(f"error: {message}\n  {self.prog} --help has the details.") + "\n")


def one_of(choices: Sequence[str]) -> dict[str, Any]:
    """What `add_argument` needs for an option that takes one of `choices`."""

    def choice(text: str) -> str:
        if text not in choices:
            suggestion = nearest(text, choices)
            raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(choices)}.{suggestion}")
        return text

    return {"type": choice, "metavar": f"{{{','.join(choices)}}}"}
