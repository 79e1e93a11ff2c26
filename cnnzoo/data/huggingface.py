"""Image classification sets in Hugging Face's format: from the Hub, from folders, and from parquet files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from cnnzoo.config import huggingface as stored
from cnnzoo.data.decoding import Encoded, decode_once, divide
from cnnzoo.data.sources import Source


def huggingface(
    path: str,
    image_size: int,
    channels: Literal[1, 3],
    test_size: float,
    val_size: float,
    split_seed: int,
    unreadable: Literal["refuse", "skip"],
    cache: str,
    config: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
) -> Source:
    """Images and labels of a data set, as `image_size` squares.

    Args:
        path: a name on the Hub, or an absolute path: of a folder of images, parquet files or what `save_to_disk` has
            written, or of one file.
        image_size, channels: of the decoded images.
        test_size, val_size, split_seed, unreadable, cache: as for `image_folder`.
        config: which of several configurations of the data set.
        revision: branch, tag or commit on the Hub.
        image_column, label_column: None: the only one with the feature Image or ClassLabel.
        train, val, test: names of the splits; None: found by their names. If there is no test split, or none to
            validate on, it is drawn from train.

    Raises:
        UserError: it cannot be loaded or has no such columns or splits, images are unreadable, or a class is too small.
    """
    found = stored.read(path, config, revision, image_column, label_column, train, val, test)
    images = _EncodedImages(found.tables)
    splits = [split for split, labels in found.labels.items() for _ in labels]
    labels = [label for labels in found.labels.values() for label in labels]
    identity = json.dumps([path, config, revision, image_column, train, val, test]).encode()
    state = [_state(file) for file in (*found.files, *images.paths())]
    decoded = decode_once(images, Path(path).name, identity, state, image_size, channels, Path(cache))
    return divide(
        decoded,
        splits,
        labels,
        found.classes,
        name=path,
        image_name=images.name,
        contents=[splits, labels, found.classes],
        test_size=test_size,
        val_size=val_size,
        split_seed=split_seed,
        unreadable=unreadable,
    )


class _EncodedImages:
    """The images of several tables of one column, one after the other: the contents of a file, or its path."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self._tables = tables

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def __getitem__(self, index: int) -> Encoded:
        split, row = self._place(index)
        (image,) = self._tables[split][row].values()
        if image is None or image["bytes"] is image["path"] is None:
            raise ValueError("no image in this row")
        encoded: Encoded = image["path"] if image["bytes"] is None else image["bytes"]
        return encoded

    def name(self, index: int) -> str:
        """Where to find the image, for messages."""
        split, row = self._place(index)
        path = (self._tables[split][row].popitem()[1] or {}).get("path")
        return f"{split}, row {row}" + (f" ({path})" if path else "")

    def paths(self) -> Iterator[str]:
        """The files whose contents are not in the tables."""
        for table in self._tables.values():
            for chunk in table.with_format("arrow")[:].column(0).chunks:
                yield from chunk.field("path").filter(chunk.field("bytes").is_null()).drop_null().to_pylist()

    def _place(self, index: int) -> tuple[str, int]:
        """The split and the row in it."""
        for split, table in self._tables.items():
            if index < len(table):
                return split, index
            index -= len(table)
        raise IndexError(index)


def _state(file: str) -> tuple[str, int, int]:
    """What differs once the file has changed: path, size and time of change."""
    try:
        status = Path(file).stat()
        return file, status.st_size, status.st_mtime_ns
    except OSError:
        return file, -1, -1  # decoding reports it
