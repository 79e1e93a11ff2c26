"""The console script: `cnnzoo <verb> ...` is `python -m cnnzoo.<verb> ...`."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable

from cnnzoo import __version__
from cnnzoo.errors import exit_code, nearest

VERBS = {
    "run": "train, test and record one network, or a sweep with -m",
    "compare": "runs in a comparison table or a report page, at any time",
    "list": "the networks, data sets and experiments that there are",
    "summary": "a network's layers: output shapes, parameters, MACs",
    "evaluate": "accuracy of given weights: a file, a run's folder, or published ones",
    "predict": "classes of image files, by a trained run",
    "export": "a trained run for other programs: ONNX, torch.export, safetensors",
    "figures": "pictures of data sets, networks and runs",
    "bench": "throughput compared with the alternatives",
    "clean": "delete what failed, debugging and broken-off runs have left",
}
_OF_HYDRA = ("run", "summary", "evaluate", "bench")

_GRAMMAR = """\
run, summary, evaluate, bench and `figures data` compose a configuration: they take
GROUP=CHOICE and KEY=VALUE. The others read what is there: they take --options, and
KEY=VALUE chooses among runs.

cnnzoo VERB --help has the details; eval "$(cnnzoo -sc install=bash)" turns on tab
completion (fish and zsh too)."""


def main() -> None:
    """Import the module of the verb that is typed, and no other."""
    sys.exit(exit_code(_main))


def _main() -> int:
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        lines = "\n".join(f"  {name:10} {text}" for name, text in VERBS.items())
        print(f"usage: cnnzoo VERB ...\n\n{lines}\n\n{_GRAMMAR}")
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
    """Tab completion, after `eval "$(cnnzoo -sc install=bash)"`.

    Verbs, kinds and --options are completed here; configurations by Hydra, which knows programs without
    verbs, so it is given the line without the verb. For all other words the shell offers files.
    """
    sys.argv[0] = "cnnzoo"
    if sys.argv[2:] and sys.argv[2].startswith(("install", "uninstall")):
        return importlib.import_module("cnnzoo.run").main()  # type: ignore[no-any-return]
    line = os.environ.get("COMP_LINE", "")
    complete, typed = line.split()[1:], ""  # the words before the one that is being typed
    if complete and not line.endswith(" "):
        typed = complete.pop()
    module = ".".join(["cnnzoo", *complete[: 2 if complete[:1] == ["figures"] else 1]])
    if not complete:
        return _offer(typed, VERBS)
    if importlib.util.find_spec(module) is None:
        return None
    if complete[0] in _OF_HYDRA or complete[:2] == ["figures", "data"]:
        for word in module.split(".")[1:]:
            os.environ["COMP_LINE"] = os.environ["COMP_LINE"].replace(f" {word}", "", 1)
        return importlib.import_module(module).main()  # type: ignore[no-any-return]
    verb = importlib.import_module(module)
    if hasattr(verb, "KINDS") and len(complete) == 1:
        return _offer(typed, verb.KINDS)
    if hasattr(verb, "parser") and typed.startswith("-"):
        return _offer(typed, verb.parser().options)
    return None


def _offer(typed: str, choices: Iterable[str]) -> None:
    print(" ".join(choice for choice in choices if choice.startswith(typed)))


if __name__ == "__main__":
    main()
