"""The worked example of what a 1×1 convolution saves."""

import pytest
import torch

from cnnzoo.config import compose
from cnnzoo.nn.build import build_model, input_shape
from cnnzoo.nn.profile import macs


@pytest.mark.parametrize(
    ("bottleneck", "expected"),
    # 28²·5²·192·32 and 28²·(192·16 + 5²·16·32); the source's slide has 12,433,648 for the latter, off by one digit.
    [("null", 120_422_400), ("16", 12_443_648)],
)
def test_nine_tenths_are_saved(bottleneck: str, expected: int) -> None:
    size = ["dataset.channels=192", "dataset.num_classes=32", "image_size=28"]
    config = compose(["model=conv_example", *size, f"model.bottleneck={bottleneck}"])
    with torch.device("meta"):
        assert macs(build_model(config), input_shape(config)) == expected
