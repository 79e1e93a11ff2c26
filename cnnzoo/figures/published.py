"""Learning curves that the author of a published figure left as TensorBoard event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnzoo.results.files import Unreadable

# The tags of University of Amsterdam deep-learning tutorial 5 and what they are called here; one value an epoch.
_TAGS = {"val_acc": "val_accuracy", "train_acc": "train_accuracy"}


def curve_folder(published: Mapping[str, Any] | None, weights: Path, folder: Path | None) -> Path | None:
    """Where the curves of a configuration's `published` weights would be: a folder named as the weights' file.

    It is in `folder`, else in `tensorboards` beside the file below `weights`.
    """
    if not published or not published.get("weights"):
        return None
    file = weights / published["weights"]["file"]
    return (folder or file.parent / "tensorboards") / file.stem


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """`val_accuracy` and `train_accuracy`, each by epoch (from 1), 0..1.

    Raises:
        Unreadable: `folder` holds no event file with them.
    """
    # yields the events alone; the usual EventAccumulator also reads the graph, and warns about it
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    curves: dict[str, dict[int, float]] = {name: {} for name in _TAGS.values()}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag in _TAGS:
                    curve = curves[_TAGS[value.tag]]
                    curve[len(curve) + 1] = value.simple_value
    if not all(curves.values()):
        raise Unreadable(f"no TensorBoard event file with {' and '.join(_TAGS)}")
    return curves
