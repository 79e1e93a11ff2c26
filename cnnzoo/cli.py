"""The console script: `cnnzoo <verb> ...` is `python -m cnnzoo.<verb> ...`."""

import importlib
import sys

from cnnzoo import __version__
from cnnzoo.errors import nearest

VERBS = {
    "run": "train, test and record one network, or a sweep with -m",
    "evaluate": "accuracy of given weights: a file, a run's folder, or published ones",
    "summary": "a network's layers: output shapes, parameters, MACs",
    "compare": "a sweep's comparison table, at any time",
}


def main() -> None:
    """Imports the verb's module only, so that no command waits for what it does not use."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        lines = "\n".join(f"  {name:10} {text}" for name, text in VERBS.items())
        print(f"usage: cnnzoo VERB ...\n\n{lines}\n\ncnnzoo VERB --help tells more.")
    elif verb == "--version":
        print(__version__)
    elif verb in VERBS:
        sys.argv = [f"cnnzoo {verb}", *sys.argv[2:]]
        sys.exit(importlib.import_module(f"cnnzoo.{verb}").main())
    else:
        print(f"error: {verb}: no such verb.{nearest(verb, VERBS)} There are {', '.join(VERBS)}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
