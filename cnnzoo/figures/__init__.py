"""Figures for papers and slides: `python -m cnnzoo.figures KIND ...`.

python -m cnnzoo.figures data dataset=cifar10 augmentation=flip_crop
python -m cnnzoo.figures data dataset=image_folder dataset.root=/path/to/folder formats=[png,pdf]
python -m cnnzoo.figures model model=resnet dataset=cifar10 formats=[svg]
python -m cnnzoo.figures run outputs/cifar10/resnet/seed42-...
python -m cnnzoo.figures runs outputs
"""

import importlib
import sys

from cnnzoo.errors import exit_code, nearest

# Each is a module of this package with a function `main`.
KINDS = {
    "data": "a data set: images, their augmentation, class balance, channel statistics",
    "model": "a network: its blocks with output shapes, parameters and MACs, and what is in a block",
    "run": "one trained run: confusion, calibration, mistakes, filters, feature maps, Grad-CAM",
    "surface": "the loss around trained networks, along two random directions",
    "runs": "a sweep: learning curves, accuracy against cost, accuracy of each class",
}


def main() -> None:
    """Import the module of the kind that is typed, and no other, and hand the rest of the command line to it."""
    sys.exit(exit_code(_main))


def _main() -> int:
    kind = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if kind in ("-h", "--help"):
        lines = "\n".join(f"  {name:10} {text}" for name, text in KINDS.items())
        print(f"usage: cnnzoo figures KIND ...\n\n{lines}\n\ncnnzoo figures KIND --help has the details.")
    elif kind in KINDS:
        sys.argv = [f"cnnzoo figures {kind}", *sys.argv[2:]]
        return importlib.import_module(f"cnnzoo.figures.{kind}").main() or 0
    else:
        print(
            f"error: {kind}: no such kind of figure.{nearest(kind, KINDS)} There are {', '.join(KINDS)}.",
            file=sys.stderr,
        )
        return 2
    return 0
