"""Write a trained run in a format of other programs.

    python -m cnnzoo.export outputs/cifar10/resnet/seed42-... --format onnx
    python -m cnnzoo.export RUN --format safetensors --out resnet/

onnx:          model.onnx: `images` float32 [N, C, S, S] of 0..1 to `logits` [N, classes], any N, normalisation inside
torch_export:  model.pt2, the same for torch.export.load, which runs code of the file: load none that you were sent
safetensors:   model.safetensors, the weights, with config.json and a model card, README.md

What is written is first run against the original on test images, and refused if a logit differs by more than 1e-4.
"""

import argparse
import contextlib
import inspect
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnzoo import __version__
from cnnzoo.arguments import Parser, one_of
from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError, exit_code
from cnnzoo.results.model_card import model_card
from cnnzoo.results.run_folder import read_result

if TYPE_CHECKING:  # torch is imported once there is something to do
    from torch import Tensor, nn

    from cnnzoo.trained import TrainedModel

log = logging.getLogger("cnnzoo.export")

FORMATS = ("onnx", "torch_export", "safetensors")
TOLERANCE = 1e-4  # of a logit
_CHECKED = 1000  # test images

# From the exported file and images `[N, C, S, S]` in 0..1 to logits, by whatever will read the file.
Reader = Callable[["Tensor"], "Tensor"]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse(argv)
    set_up_logging()
    return exit_code(lambda: _run(arguments))


def parser() -> Parser:
    parser = Parser("cnnzoo export", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a finished run")
    add("--format", **one_of(FORMATS), required=True)
    add("--out", type=Path, metavar="FOLDER", help="default: the folder export/ of the run")
    parser.add_trust()
    return parser


def _run(arguments: argparse.Namespace) -> None:
    for path in export(arguments.run, arguments.format, arguments.out, arguments.trust):
        print(path)


def export(run: Path, format: str, out: Path | None = None, trusted_packages: Sequence[str] = ()) -> list[Path]:
    """Write the files of `format` into the folder `out`, and return their paths.

    Raises:
        UserError: the run is not finished, its test images or a package that the format needs are missing, or what was
            exported answers otherwise than the original.
    """
    import torch

    from cnnzoo.trained import load_model

    model = load_model(run, trusted_packages)
    images = _test_images(model)
    with torch.inference_mode():
        expected = torch.cat([model(model.normalize(part)) for part in torch.split(images, 100)])
    out = out or run / "export"
    with tempfile.TemporaryDirectory(prefix="cnnzoo-export-") as temporary:
        read = _WRITERS[format](model, run, Path(temporary))
        answers = torch.cat([read(part) for part in torch.split(images, 100)])
        _check(answers, expected, format)
        out.mkdir(parents=True, exist_ok=True)
        return [_move(path, out / path.name) for path in sorted(Path(temporary).iterdir())]


def _test_images(model: "TrainedModel") -> "Tensor":
    """The first test images of the run's data set, as an exported network takes them: 0..1."""
    import torch

    from cnnzoo.data.dataset import load_dataset

    config = model.config
    test = load_dataset(config.dataset, config.trusted_packages).test
    index = torch.arange(min(len(test), _CHECKED))
    ((images, _),) = test.fetch(index, [slice(None)])
    return model.resize(images) / 255


def _check(answers: "Tensor", expected: "Tensor", format: str) -> None:
    difference = (answers - expected).abs().max().item()
    agree = (answers.argmax(dim=1) == expected.argmax(dim=1)).sum().item()
    report = f"on {len(expected)} test images, logits differ by at most {difference:.1e} and {agree} classes agree"
    if not difference <= TOLERANCE:
        raise UserError(
            f"{format}: {report}: more than the {TOLERANCE:g} that rounding explains, so nothing was written. Another"
            " --format may carry this network."
        )
    log.info("%s: %s", format, report)


def _move(source: Path, target: Path) -> Path:
    from cnnzoo.io import atomic_path

    with atomic_path(target) as temporary:
        temporary.write_bytes(source.read_bytes())
    return target


def _portable(model: "TrainedModel") -> "nn.Module":
    """The network with its normalisation, from images in 0..1 to logits."""
    from torch import nn

    class Portable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: "Tensor") -> "Tensor":
            return self.model(self.model.normalize(images))  # type: ignore[no-any-return]

    return Portable().eval()


def _write_onnx(model: "TrainedModel", run: Path, folder: Path) -> Reader:
    import torch

    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise UserError(f"--format onnx needs {error.name}: pip install 'cnnzoo[export]'.") from None
    path = folder / "model.onnx"
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            _portable(model),
            (_example(model),),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    program = onnx.load(path)
    onnx.helper.set_model_props(program, _metadata(model, run))
    onnx.save(program, path)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _write_torch_export(model: "TrainedModel", run: Path, folder: Path) -> Reader:
    import torch

    shapes = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(_portable(model), (_example(model),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2", extra_files={"metadata.json": json.dumps(_metadata(model, run))})
    module = program.module()  # not read back: that may run code of the file
    return lambda images: module(images).detach()


def _write_safetensors(model: "TrainedModel", run: Path, folder: Path) -> Reader:
    import torch
    from safetensors.torch import load_file, save_file

    from cnnzoo.nn.build import build_model

    result = read_result(run) or {}
    path = folder / "model.safetensors"
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    save_file(state, path, {"format": "pt", **_metadata(model, run)})
    config = {
        "architecture": model.config.name,
        "model": _offered(model) | model.config.model,
        "num_classes": len(model.classes),
        "label_names": list(model.classes),
        "input_size": [len(model.mean), model.image_size, model.image_size],
        "mean": model.mean.tolist(),
        "std": model.std.tolist(),
        "library_name": "cnnzoo",
        "library_version": __version__,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").write_text(model_card(result, config))
    network = build_model(model.config).eval()
    network.load_state_dict(load_file(path))

    @torch.inference_mode()
    def read(images: "Tensor") -> "Tensor":
        answer: Tensor = network(model.normalize(images))
        return answer

    return read


def _offered(model: "TrainedModel") -> dict[str, int]:
    """The arguments that a network gets from the data set, if it has them and its configuration does not name them."""
    from hydra.utils import get_object

    channels, size, classes = len(model.mean), model.image_size, len(model.classes)
    offered = {"in_channels": channels, "num_classes": classes, "image_size": size}
    parameters = inspect.signature(get_object(model.config.model["_target_"])).parameters
    return {name: value for name, value in offered.items() if name in parameters}


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep what these packages say about their own steps to themselves."""
    loggers = {name: logging.getLogger(name) for name in names}
    levels = {name: logger.level for name, logger in loggers.items()}
    try:
        for logger in loggers.values():
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])


_WRITERS = {"onnx": _write_onnx, "torch_export": _write_torch_export, "safetensors": _write_safetensors}


def _example(model: "TrainedModel") -> "Tensor":
    import torch

    return torch.zeros(2, len(model.mean), model.image_size, model.image_size)


def _metadata(model: "TrainedModel", run: Path) -> dict[str, str]:
    """What a program, and whoever finds the file, must know: texts, as the formats have them."""
    result = read_result(run) or {}
    known = ("model", "dataset", "seed", "test_accuracy", "config_hash", "git_commit", "command")
    return {
        "classes": json.dumps(model.classes),
        "image_size": str(model.image_size),
        "images": f"float32 [N, {len(model.mean)}, {model.image_size}, {model.image_size}], 0..1",
        "run": run.name,
        **{key: str(result[key]) for key in known if result.get(key) is not None},
    }


if __name__ == "__main__":
    sys.exit(main())
