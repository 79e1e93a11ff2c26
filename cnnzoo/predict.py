"""Predict the classes of image files with a trained run.

    python -m cnnzoo.predict outputs/cifar10/resnet/seed42-... photo.jpg more_photos/
    python -m cnnzoo.predict RUN photo.jpg --top 3 --format json --out predictions.json
    python -m cnnzoo.predict RUN --demo

A folder stands for all images in it and below. Images of any size and mode are prepared as the run's own test images
were. A file that cannot be read is named, the others are done, and the exit code is 1.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import track

from cnnzoo.arguments import Parser, one_of
from cnnzoo.console import console
from cnnzoo.errors import UserError, exit_code
from cnnzoo.io import write_atomically
from cnnzoo.results import render
from cnnzoo.text import clean

if TYPE_CHECKING:  # torch is imported once there is something to do
    from torch import Tensor

    from cnnzoo.trained import TrainedModel

FORMATS = ("table", "csv", "json")
_BATCH_SIZE = 128


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: _run(parser().parse(argv)))


def parser() -> Parser:
    parser = Parser("cnnzoo predict", __doc__)
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished run")
    add("files", nargs="*", type=Path, metavar="FILE", help="image files, and folders of them")
    add(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="how many classes to list for each image (default: 5)",
    )
    add("--format", **one_of(FORMATS), help="default: by the suffix of --out, else a table")
    add("--out", type=Path, metavar="FILE", help="write there instead of on stdout")
    parser.add_trust()
    add(
        "--demo",
        action="store_true",
        help="a page to drop images on, on this machine alone: pip install 'cnnzoo[demo]'",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    style = arguments.format or (arguments.out.suffix[1:] if arguments.out else "table")
    if style not in FORMATS:
        raise UserError(f"--out {arguments.out}: cannot tell the format from the name; add --format csv or json.")
    if arguments.top < 1:
        raise UserError(f"--top {arguments.top}: expected at least 1.")
    if not arguments.files and not arguments.demo:
        raise UserError("no image files: name some, or folders of them, after the run's folder.")
    files = list(_image_files(arguments.files))
    from cnnzoo.trained import load_model

    model = load_model(arguments.run, arguments.trust)
    if arguments.demo:
        _demo(model, arguments.top)
        return 0
    answers, failures = predict_files(model, files, arguments.top)
    text = _show(answers, style)
    if arguments.out is None:
        print(text, end="")
    else:
        write_atomically(arguments.out, text)
    for file, reason in failures.items():
        print("error:", clean(f"{file} cannot be read: {reason}"), file=sys.stderr)
    return 1 if failures else 0


def _image_files(paths: Iterable[Path]) -> Iterator[Path]:
    from cnnzoo.data.image_folder import image_files

    for path in paths:
        if path.is_dir():
            found = image_files(path)
            if not found:
                raise UserError(f"{path}: no image files in this folder.")
            yield from found
        else:
            yield path


def predict_files(
    model: "TrainedModel", files: Sequence[Path], top: int = 5
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Classify image files, on the training device of this machine.

    Returns:
        One `{"file": ..., "predictions": [{"class": ..., "probability": 0..1}, ...]}` a file, the most probable class
        first, and why each of the others could not be read.
    """
    import torch

    from cnnzoo.data.decoding import decoding_failure
    from cnnzoo.training.devices import training_device

    device = training_device("auto")
    model = model.to(device)

    def read(file: Path) -> "Tensor | str":
        try:
            return model.preprocess(file)
        except Exception as error:  # a damaged file can make a decoder raise anything
            return decoding_failure(error)

    answers: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    starts = range(0, len(files), _BATCH_SIZE)
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for start in track(starts, "predicting", console=console, transient=True, disable=not console.is_terminal):
            names = [str(file) for file in files[start : start + _BATCH_SIZE]]
            images = dict(zip(names, pool.map(read, map(Path, names)), strict=True))
            failures |= {name: image for name, image in images.items() if isinstance(image, str)}
            readable = {name: image for name, image in images.items() if not isinstance(image, str)}
            if not readable:
                continue
            logits = model(torch.cat([*readable.values()]).to(device))
            best = logits.double().softmax(dim=1).cpu().topk(min(top, len(model.classes)))
            for name, shares, indices in zip(readable, best.values.tolist(), best.indices.tolist(), strict=True):
                pairs = zip(indices, shares, strict=True)
                predictions = [{"class": model.classes[index], "probability": share} for index, share in pairs]
                answers.append({"file": name, "predictions": predictions})
    return answers, failures


def _show(answers: Sequence[dict[str, Any]], style: str) -> str:
    if style == "json":
        return render.as_json(answers)
    rows = [
        {"file": answer["file"], "rank": rank} | prediction
        for answer in answers
        for rank, prediction in enumerate(answer["predictions"], 1)
    ]
    if style == "csv":
        return render.as_csv(rows)
    body = [[row["file"] if row["rank"] == 1 else "", row["class"], render.percent(row["probability"])] for row in rows]
    return render.markdown([render.Grid("", ["file", "class", "probability %"], body, [True, True, False])], [])


def _demo(model: "TrainedModel", top: int) -> None:
    """Serve a page for one image at a time, to this machine alone, until Ctrl-C."""
    try:
        import gradio
    except ImportError:
        raise UserError("--demo needs gradio: pip install 'cnnzoo[demo]'.") from None

    def classify(image: Any) -> dict[str, float] | None:
        if image is None:  # it was cleared
            return None
        shares = model(model.preprocess(image)).softmax(dim=1)[0].tolist()
        return dict(zip(model.classes, shares, strict=True))

    page = gradio.Interface(
        classify,
        gradio.Image(type="pil", label="image"),
        gradio.Label(num_top_classes=top, label="class"),
        title=f"{model.config.name} on {model.config.dataset.name}",
        live=True,  # as soon as there is an image
        flagging_mode="never",
        analytics_enabled=False,
    )
    page.launch(server_name="127.0.0.1")


if __name__ == "__main__":
    sys.exit(main())
