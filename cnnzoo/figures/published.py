"""Learning curves that the authors of published metrics left as TensorBoard event files."""

from pathlib import Path

import pandas as pd

from cnnzoo.errors import UserError
from cnnzoo.results.run_folder import RunFileError, read_config

# The tags of University of Amsterdam deep-learning tutorial 5 and what they are called here; one value an epoch.
_TAGS = {"val_acc": "val_accuracy", "train_acc": "train_accuracy"}


def curve_folders(run: str, weights: Path, folder: Path | None) -> list[Path]:
    """Return where the published curves of a run's configuration may be; nothing if it names no published weights.

    They are in a folder named as the weights' file. That is in `folder`; without one, in `tensorboards` below the
    folder `weights`, with or without the collection's folder.
    """
    try:
        file = Path(read_config(Path(run))["published"]["weights"]["file"])
    except (UserError, KeyError, TypeError):
        return []
    parents = [folder] if folder else [weights / file.parent / "tensorboards", weights / "tensorboards"]
    return [parent / file.stem for parent in dict.fromkeys(parents)]


def read_curves(folder: Path) -> pd.DataFrame:
    """Read `val_accuracy` and `train_accuracy`, 0..1; the index is the epoch, from 1.

    Raises:
        RunFileError: `folder` holds no event file with them.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # takes a second
    from tensorboard.util.tensor_util import make_ndarray

    curves: dict[str, list[float]] = {name: [] for name in _TAGS.values()}
    try:
        for path in sorted(folder.glob("events.out.tfevents.*")):
            for event in EventFileLoader(str(path)).Load() if path.is_file() else ():
                for value in event.summary.value:
                    if value.tag in _TAGS:
                        curves[_TAGS[value.tag]].append(float(make_ndarray(value.tensor)))
    except Exception as error:  # a parser of a damaged file raises anything
        raise RunFileError(f"TensorBoard event files are damaged ({error})") from error
    if not all(curves.values()):
        raise RunFileError(f"no TensorBoard event file with {' and '.join(_TAGS)}")
    table = pd.DataFrame({name: pd.Series(values) for name, values in curves.items()})
    return table.set_axis(table.index + 1)
