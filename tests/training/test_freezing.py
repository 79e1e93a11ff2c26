"""Patterns of parameter names that are not trained."""

import pytest
from torch import nn

from cnnzoo.errors import UserError
from cnnzoo.training.freezing import freeze_parameters


def net() -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    return nn.Sequential(stem, nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))


def frozen(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def test_patterns_match_dotted_names() -> None:
    model = net()
    fixed = freeze_parameters(model, ["0.*", "3.bias"])
    assert frozen(model) == ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "3.bias"]
    assert fixed == ["0.1", "0.2"]


def test_norm_that_is_trained_in_part_keeps_its_statistics_running() -> None:
    model = net()
    assert freeze_parameters(model, ["*.weight"]) == []
    assert freeze_parameters(net(), []) == []


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"freeze: 0\.0\.wieght matches none.*'0\.0\.weight'.*cnnzoo\.summary"):
        freeze_parameters(net(), ["0.*", "0.0.wieght"])
    with pytest.raises(UserError, match=r"freeze=\['\*'\] leaves no parameter"):
        freeze_parameters(net(), ["*"])
