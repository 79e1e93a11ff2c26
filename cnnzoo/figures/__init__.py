"""Figures for papers and slides: `python -m cnnzoo.figures KIND ...`.

python -m cnnzoo.figures data dataset=cifar10 augmentation=flip_crop
python -m cnnzoo.figures data dataset=image_folder dataset.root=/path/to/folder formats=[png,pdf]
python -m cnnzoo.figures runs outputs
"""

import importlib
import sys

from cnnzoo.errors import nearest

# Each is a module of this package with a function `main`.
KINDS = {
    "data": "a data set: images, their augmentation, class balance, channel statistics",
    "runs": "a sweep: learning curves, accuracy against cost, accuracy of each class",
}


def main() -> None:
    """Import the module of the kind that is typed, and no other, and hand the rest of the command line to it."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if kind in ("-h", "--help"):
        lines = "\n".join(f"  {name:10} {text}" for name, text in KINDS.items())
        print(f"usage: cnnzoo figures KIND ...\n\n{lines}\n\ncnnzoo figures KIND --help has the details.")
    elif kind in KINDS:
        sys.argv = [f"cnnzoo figures {kind}", *sys.argv[2:]]
        sys.exit(importlib.import_module(f"cnnzoo.figures.{kind}").main())
    else:
        print(
            f"error: {kind}: no such kind of figure.{nearest(kind, KINDS)} There are {', '.join(KINDS)}.",
            file=sys.stderr,
        )
        sys.exit(2)
