"""What the picture of a network shows, and that it is drawn for networks of all kinds."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from cnnzoo.config import compose
from cnnzoo.config.schema import FiguresConfig
from cnnzoo.errors import UserError
from cnnzoo.figures.architecture import architecture, inside, rows
from cnnzoo.figures.model import draw
from cnnzoo.nn.build import build_model, input_shape
from cnnzoo.nn.profile import profile


def of(*overrides: str) -> tuple[nn.Module, Any]:
    config = compose(overrides, "figures_model")
    model = build_model(config)
    return model, profile(model, input_shape(config), config.dataset.num_classes)


def test_blocks_of_one_kind_and_size_are_folded() -> None:
    found = rows(*of("model=resnet"))
    assert [(row.count, row.title, row.shapes[-1]) for row in found] == [
        (1, "3×3 conv, 16 – BN – ReLU", (16, 32, 32)),
        (3, "BasicBlock", (16, 32, 32)),
        (3, "BasicBlock", (32, 16, 16)),
        (3, "BasicBlock", (64, 8, 8)),
        (1, "average pool – flatten", (64,)),
        (1, "linear, 10", (10,)),
    ]


def test_dense_layers_grow_within_a_block() -> None:
    found = [row for row in rows(*of("model=densenet")) if row.title == "DenseLayer"]
    assert [row.count for row in found] == [6, 6, 6, 6]
    assert [shape[0] for shape in found[0].shapes] == [48, 64, 80, 96, 112, 128]


@pytest.mark.parametrize(
    "model", ["resnet", "googlenet", "densenet", "googlenet_v1", "vgg11", "dpn_small", "airbench94"]
)
def test_rows_add_up_to_the_network(model: str) -> None:
    net, costs = of(f"model={model}")
    found = rows(net, costs)
    assert sum(row.macs for row in found) == costs.macs
    called = [layer for layer in costs.layers if layer.output_shape is not None]
    assert sum(row.params for row in found) == sum(layer.params for layer in called)
    assert len(found) <= 16


def test_inside_of_a_residual_block() -> None:
    net, _ = of("model=resnet")
    parts = inside(net.get_submodule("blocks.0"))
    assert parts is not None
    assert [part.words for part in parts] == [
        ["input"],
        ["3×3 conv, 16", "BN", "ReLU", "3×3 conv, 16", "BN"],
        ["+"],
        ["ReLU"],
    ]
    assert parts[2].inputs == [1, 0], "the shortcut begins at the input"


def test_inside_of_an_inception_block() -> None:
    net, _ = of("model=googlenet")
    parts = inside(net.get_submodule("inception_blocks.0"))
    assert parts is not None
    assert [part.words[-1] for part in parts] == ["input", "ReLU", "ReLU", "ReLU", "ReLU", "concatenate"]
    assert parts[-1].inputs == [1, 2, 3, 4]


class Stubborn(nn.Module):
    """Its code depends on numbers, so that it can only be run."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv2d(3, 3, 1)
        self.other = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.block if float(x.sum()) > 1 else self.other
        return branch(x)  # type: ignore[no-any-return]


def test_what_cannot_be_traced_is_drawn_without_its_inside() -> None:
    net = nn.Sequential(Stubborn(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert inside(net[0]) is None
    figure = architecture(net, profile(net, (3, 8, 8)), "own")
    words = {text.get_text() for text in figure.axes[0].texts}
    assert "Stubborn" in words


def test_too_many_blocks_for_a_page() -> None:
    net = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(100)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match=r"101 blocks.*room for 60"):
        architecture(net, profile(net, (3, 8, 8)), "own")


def test_command_writes_all_formats(tmp_path: Path) -> None:
    config = compose(["model=resnet", f"out={tmp_path}", "formats=[png,svg,pdf]"], "figures_model")
    assert isinstance(config, FiguresConfig)
    assert [path.name for path in draw(config)] == [f"resnet_architecture.{suffix}" for suffix in ("png", "svg", "pdf")]
    assert "3 × BasicBlock" in (tmp_path / "resnet_architecture.svg").read_text(encoding="utf-8")


def test_a_wrong_format_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    config = compose(["model=resnet", f"out={tmp_path}", "formats=[gif]"], "figures_model")
    assert isinstance(config, FiguresConfig)
    with pytest.raises(UserError, match="formats: gif"):
        draw(config)
