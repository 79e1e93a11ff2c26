"""Figures of one trained run: how it learned, what it confuses, how sure it is, and where it looks.

    python -m cnnzoo.figures run outputs/cifar10/resnet/seed42-...
    python -m cnnzoo.figures run RUN --images cat.png dog.png --layer blocks.0 --formats png,pdf

Writes into DIR
    curves        loss, accuracy and learning rate by epoch
    confusion     test images of each class by predicted class
    reliability   accuracy by confidence, with the expected calibration error
    gallery       test images: the first right ones, and the wrong ones that the network is surest of
    filters       of the first convolution
    maps          feature maps of a layer for one image
    grad_cam      where in an image the evidence for its class lies (Selvaraju et al. 2017, arxiv.org/abs/1610.02391)
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from cnnzoo.arguments import Parser
from cnnzoo.errors import UserError, exit_code, nearest
from cnnzoo.figures import run_plots, style
from cnnzoo.results.calibration import calibration
from cnnzoo.results.run_folder import RunFileError, read_metrics, read_predictions, read_result
from cnnzoo.text import clean

if TYPE_CHECKING:  # torch is imported once there is something to do
    from torch import Tensor, nn

    from cnnzoo.trained import TrainedModel

_SHOWN = 20  # images of each kind in the gallery
_EXPLAINED = 8  # images of Grad-CAM


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return exit_code(lambda: _run(parser().parse(argv)))


def parser() -> Parser:
    parser = Parser("cnnzoo figures run", __doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a finished run")
    add("--images", nargs="+", type=Path, metavar="FILE", help="for maps and grad_cam; default: test images")
    add(
        "--layer",
        metavar="NAME",
        help="for maps and grad_cam; default: the last layer whose output is still an image",
    )
    add("--out", type=Path, metavar="DIR", help="default: the folder figures of the run")
    add("--formats", default="png", metavar="A,B,…", help="png (the default), pdf, svg")
    parser.add_trust()
    return parser


def _run(arguments: argparse.Namespace) -> None:
    formats = arguments.formats.split(",")
    style.check_formats(formats)
    with style.look():
        figures, notes = draw(arguments.run, arguments.images, arguments.layer, arguments.trust)
        for path in style.save(figures, arguments.out or arguments.run / "figures", formats):
            print(path)
    for note in notes:
        print(clean(note), file=sys.stderr)


def draw(
    run: Path, images: Sequence[Path] | None = None, layer: str | None = None, trusted_packages: Sequence[str] = ()
) -> tuple[dict[str, Figure], list[str]]:
    """Return the figures of a finished run by name, and why some are left out.

    Args:
        images: image files for `maps` and `grad_cam`; None: the first test image of each class.
        layer: the name of a module of the network, for the same two; None: `default_layer`.

    Raises:
        UserError: the run is not finished, or there is no such layer.
    """
    from cnnzoo.trained import load_model

    model = load_model(run, trusted_packages)
    layer = _checked(layer, model.network) if layer else default_layer(model)
    accuracy = (read_result(run) or {}).get("test_accuracy")
    figures: dict[str, Figure] = {}
    notes: list[str] = []

    def attempt(name: str, make: Callable[[], Figure]) -> None:
        try:
            figures[name] = make()
        except (RunFileError, UserError, OSError) as error:
            notes.append(f"{name} is left out: {error}")

    title = f"{model.config.name} on {model.config.dataset.name}"
    attempt("curves", lambda: run_plots.curves(read_metrics(run), title))
    predictions: list[Any] = []
    attempt("confusion", lambda: _confusion(run, accuracy, model.classes, predictions))
    attempt("reliability", lambda: run_plots.reliability(calibration(*_known(predictions))))
    test: list[Any] = []
    attempt("gallery", lambda: _gallery(model, *_known(predictions), test))
    attempt("filters", lambda: run_plots.filters(first_filters(model.network)))
    pictures, names = _explained(model, images, test)
    if layer is None:
        notes.append("maps and grad_cam are left out: this network has no layer whose output is still an image")
    elif len(pictures):
        attempt("maps", lambda: run_plots.maps(layer_maps(model, pictures[:1], layer), _picture(pictures[0]), layer))
        attempt("grad_cam", lambda: _grad_cam_figure(model, pictures, names, layer))
    return figures, notes


def _known(predictions: list[Any]) -> tuple[Any, Any]:
    if not predictions:
        raise RunFileError("there are no predictions")
    return predictions[0], predictions[1]


def _confusion(run: Path, accuracy: float | None, classes: Sequence[str], predictions: list[Any]) -> Figure:
    predictions += read_predictions(run, accuracy)
    return run_plots.confusion(predictions[0], predictions[1], classes)


def _gallery(model: "TrainedModel", logits: Any, labels: Any, test: list[Any]) -> Figure:
    """Draw it; the test split, once it is read, is left in `test`."""
    import torch

    from cnnzoo.data.dataset import load_dataset

    split = load_dataset(model.config.dataset, model.config.trusted_packages).test
    if len(split) != len(labels):
        raise UserError(f"this machine has {len(split)} test images, the run was tested on {len(labels)}.")
    test.append(split)
    right, wrong = run_plots.examples(logits, labels, _SHOWN)
    ((images, _),) = split.fetch(torch.from_numpy(np.concatenate([right, wrong])), [slice(None)])
    return run_plots.gallery(_picture(images), logits, labels, right, wrong, model.classes)


def _picture(images: "Tensor") -> Any:
    """`[..., C, H, W] uint8` as matplotlib shows it: `[..., H, W, C]`, grey repeated."""
    pixels = images.movedim(-3, -1).numpy()
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]


def _explained(model: "TrainedModel", files: Sequence[Path] | None, test: list[Any]) -> tuple[Any, list[str]]:
    """Images `[N, C, H, W] uint8` and their names: those of `files`, else the first test image of each class."""
    import torch

    if files:
        try:
            return torch.cat([model.decode(file) for file in files]), [file.name for file in files]
        except Exception as error:  # a damaged file can make a decoder raise anything
            raise UserError(f"--images: {error}") from error
    if not test:
        return torch.zeros(0), []
    labels = test[0].labels.numpy()
    index = np.array([np.flatnonzero(labels == label)[0] for label in np.unique(labels)[:_EXPLAINED]])
    ((images, _),) = test[0].fetch(torch.from_numpy(index), [slice(None)])
    return images, [model.classes[label] for label in labels[index]]


def _checked(layer: str, network: "nn.Module") -> str:
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        raise UserError(f"--layer {layer}: the network has no such layer.{nearest(layer, names)}")
    return layer


def default_layer(model: "TrainedModel") -> str | None:
    """Return the name of the last module whose output is a map with more than one place, `[N, C, H, W]`, if any is."""
    outputs: dict[str, Any] = {}
    _observe(model, _blank(model), lambda name, output: outputs.update({name: output}))
    found = [name for name, output in outputs.items() if _is_map(output)]
    return found[-1] if found else None


def layer_maps(model: "TrainedModel", images: "Tensor", layer: str) -> Any:
    """Return what a layer makes of one image `[1, C, H, W] uint8`: `[channels, height, width] float32`."""
    outputs: dict[str, Any] = {}
    _observe(model, model.preprocess(images), lambda name, output: outputs.update({name: output}))
    if not _is_map(outputs.get(layer)):
        raise UserError(f"--layer {layer}: its output is no map of places, [N, C, H, W].")
    return outputs[layer][0].numpy()


def _is_map(output: Any) -> bool:
    return getattr(output, "ndim", 0) == 4 and output.shape[2] * output.shape[3] > 1


def _blank(model: "TrainedModel") -> "Tensor":
    import torch

    return torch.zeros(1, len(model.mean), model.image_size, model.image_size)


def _observe(model: "TrainedModel", images: "Tensor", see: Callable[[str, Any], None]) -> None:
    """Show every module's output, in the order in which they end."""
    import torch

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: see(name, output))
        for name, module in model.network.named_modules()
        if name
    ]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()


def first_filters(network: "nn.Module") -> Any:
    """Return the weights `[filters, C, k, k]` of the first convolution that sees images.

    Raises:
        UserError: there is none.
    """
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach().numpy()
    raise UserError("the network has no convolution.")


def grad_cam(model: "TrainedModel", images: "Tensor", layer: str) -> tuple[Any, Any, Any]:
    """Return Grad-CAM of the predicted class of images `[N, C, H, W] uint8`.

    Returns:
        Maps `[N, h, w]` of 0..1 at the layer's own resolution, the predicted classes and their probabilities.

    Raises:
        UserError: torchcam is not installed, or the layer's output is no map.
    """
    import torch

    try:
        from torchcam.methods import GradCAM
    except ImportError:
        raise UserError("grad_cam needs torchcam: pip install 'cnnzoo[pictures]'.") from None
    layer_maps(model, images[:1], layer)  # for its message
    network, inputs = model.network, model.preprocess(images)
    with GradCAM(network, network.get_submodule(layer), input_shape=tuple(inputs.shape[1:])) as extract:
        logits = network(inputs)
        predicted = logits.argmax(dim=1)
        (maps,) = extract(predicted.tolist(), logits)
    shares = logits.detach().softmax(dim=1).gather(1, predicted[:, None])[:, 0]
    return torch.nan_to_num(maps.detach()).numpy(), predicted.numpy(), shares.numpy()


def _grad_cam_figure(model: "TrainedModel", images: "Tensor", names: Sequence[str], layer: str) -> Figure:
    maps, predicted, shares = grad_cam(model, images, layer)
    titles = [f"{model.classes[label]} {100 * share:.0f} %" for label, share in zip(predicted, shares, strict=True)]
    return run_plots.grad_cam(_picture(images), maps, titles, names, layer)


if __name__ == "__main__":
    sys.exit(main())
