"""The console script: `cnnzoo <verb> ...` is `python -m cnnzoo.<verb> ...`."""

import importlib
import os
import sys

from cnnzoo import __version__
from cnnzoo.errors import exit_code, nearest

VERBS = {
    "run": "train, test and record one network, or a sweep with -m",
    "evaluate": "accuracy of given weights: a file, a run's folder, or published ones",
    "predict": "classes of image files, by a trained run",
    "export": "a trained run for other programs: ONNX, torch.export, safetensors",
    "summary": "a network's layers: output shapes, parameters, MACs",
    "bench": "throughput compared with the alternatives",
    "figures": "pictures of data sets and of runs",
    "compare": "a sweep's comparison table, at any time",
}


def main() -> None:
    """Import the module of the verb that is typed, and no other."""
    sys.exit(exit_code(_main))


def _main() -> int:
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        lines = "\n".join(f"  {name:10} {text}" for name, text in VERBS.items())
        print(f"usage: cnnzoo VERB ...\n\n{lines}\n\ncnnzoo VERB --help has the details.")
    elif verb == "--version":
        print(__version__)
    elif verb == "-sc":
        _complete()
    elif verb in VERBS:
        sys.argv = [f"cnnzoo {verb}", *sys.argv[2:]]
        return importlib.import_module(f"cnnzoo.{verb}").main() or 0
    else:
        print(f"error: {verb}: no such verb.{nearest(verb, VERBS)} There are {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    return 0


def _complete() -> None:
    """Tab completion, after `eval "$(cnnzoo -sc install=bash)"`: of verbs here, of what follows them by Hydra.

    Hydra completes the line of a program without verbs, so it is given the line without the verb.
    """
    words = os.environ.get("COMP_LINE", "").split()
    installing = sys.argv[2:] and sys.argv[2].startswith(("install", "uninstall"))
    if not installing and len(words) > 1 and words[1] in VERBS:
        os.environ["COMP_LINE"] = os.environ["COMP_LINE"].replace(f" {words[1]}", "", 1)
    elif not installing:
        typed = words[1] if len(words) > 1 else ""
        print(" ".join(verb for verb in VERBS if verb.startswith(typed)))
        return
    sys.argv[0] = "cnnzoo"
    importlib.import_module(f"cnnzoo.{'run' if installing else words[1]}").main()


if __name__ == "__main__":
    main()
