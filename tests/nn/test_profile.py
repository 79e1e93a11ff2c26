"""Parameters and MACs against published numbers and hand formulas, and messages for what cannot be profiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cnnzoo.config import compose
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.nn.profile import Profile, count_parameters, macs, profile


def published(name: str) -> Any:
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta


def rows(result: Profile) -> dict[str, tuple[tuple[int, ...] | None, int, int]]:
    return {layer.name: (layer.output_shape, layer.params, layer.macs) for layer in result.layers}


class Attention(nn.Module):
    """Parameters of its own, one that two layers share, a layer used twice, a functional product, an unused head."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.first, self.tied = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.tied.weight = self.first.weight
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.auxiliary = nn.Linear(6, 10)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = x.flatten(2).transpose(1, 2)[..., :1] * self.scale  # [N, 4, 6]
        x = self.tied(self.first(self.first(x)))
        x = self.attention(x, x, x, need_weights=False)[0] @ self.first.weight
        logits = self.head(x.mean(1))
        return (logits, self.auxiliary(x.mean(1))) if self.training else logits


def network(model: str) -> nn.Module:
    return build_model(compose([f"model={model}"]))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "attention": (Attention, (3, 2, 2)),
    "weight_norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 10, 4)), nn.Flatten()),
        (3, 4, 4),
    ),
    "vit": (lambda: torchvision.models.VisionTransformer(16, 8, 2, 2, 12, 24, num_classes=10), (3, 16, 16)),
    "auxiliary heads": (lambda: torchvision.models.googlenet(init_weights=False, num_classes=10), (3, 96, 96)),
    **{name: (partial(network, name), (3, 32, 32)) for name in ("googlenet", "resnet", "preact_resnet", "densenet")},
}


@pytest.mark.parametrize("name", NETS)
def test_layers_add_up_to_the_network(name: str) -> None:
    make, shape = NETS[name]
    net = make()
    result = profile(net, shape, num_classes=10)
    assert sum(layer.params for layer in result.layers) == result.params == sum(p.numel() for p in net.parameters())
    assert sum(layer.macs for layer in result.layers) == result.macs == macs(net, shape) > 0
    assert len({layer.name for layer in result.layers}) == len(result.layers)


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "vgg11", "vit_b_16", "densenet121", "convnext_tiny"])
def test_torchvision_publishes_the_same(name: str) -> None:
    with torch.device("meta"):  # no time for initial weights
        net = torchvision.models.get_model(name)
    result = profile(net, (3, 224, 224), num_classes=1000)
    assert result.params == count_parameters(net) == published(name)["num_params"]
    assert result.macs / 1e9 == pytest.approx(published(name)["_ops"], abs=5.01e-4)


@pytest.mark.parametrize(
    ("name", "params"),
    [("googlenet", 260_650), ("resnet", 272_378), ("preact_resnet", 272_250), ("densenet", 239_146)],
)
def test_published_parameters(name: str, params: int) -> None:
    assert count_parameters(build_model(compose([f"model={name}"]))) == params


def test_1x1_convolution_example() -> None:
    """192 → 32 channels by 5×5 on 28×28, directly and through 16 channels.

    The widespread slide has 12,433,648 for the second, a slip: 28² · (192 · 16 + 5² · 16 · 32) is 12,443,648.
    """
    direct = nn.Conv2d(192, 32, 5, padding=2)
    through = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert macs(nn.Sequential(direct, *pool), (192, 28, 28)) == 120_422_400
    assert macs(nn.Sequential(through, *pool), (192, 28, 28)) == 28**2 * (192 * 16 + 5**2 * 16 * 32) == 12_443_648


def test_layers_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),  # 8×8 → 4×4, each output sees two channels
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    net[0].requires_grad_(False)
    result = profile(net, (4, 8, 8), num_classes=10)
    assert rows(result) == {
        "0": ((6, 4, 4), 6 * 2 * 9 + 6, 6 * 4 * 4 * 2 * 9),
        "1": ((6, 4, 4), 12, 0),
        "2": ((6, 4, 4), 0, 0),
        "3": ((96,), 0, 0),
        "4": ((10,), 96 * 10 + 10, 96 * 10),
    }
    assert [layer.type for layer in result.layers] == ["Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear"]
    assert (result.non_trainable_params, result.trainable_params) == (114, 12 + 970)
    assert count_parameters(net) == 12 + 970
    assert result.buffers == 6 + 6 + 1  # running mean, running variance, batches seen


def test_shared_unused_and_own_parameters() -> None:
    result = rows(profile(Attention(), (3, 2, 2)))
    # Four tokens of width 6: q, k, v and output projections, then scores and weighted sum of two heads of width 3.
    attention = 4 * (4 * 6 * 6) + 2 * 2 * (4 * 4 * 3)
    assert list(result.items()) == [
        ("(root)", ((10,), 6, 4 * 6 * 6)),
        ("first", ((4, 6), 36, 2 * (4 * 6 * 6))),
        ("tied", ((4, 6), 0, 4 * 6 * 6)),
        ("attention", ((4, 6), 3 * 6 * 6 + 3 * 6, attention)),
        ("attention.out_proj", (None, 6 * 6 + 6, 0)),
        ("auxiliary", (None, 70, 0)),
        ("head", ((10,), 70, 60)),
    ]


def test_resnet18_buffers() -> None:
    with torch.device("meta"):
        net = torchvision.models.resnet18()
    channels = 64 + 4 * 64 + 5 * 128 + 5 * 256 + 5 * 512  # table 1 of the paper, with three projections
    assert profile(net, (3, 64, 64)).buffers == 2 * channels + 20


def test_network_stays_as_it_is() -> None:
    net = build_model(compose(["model=resnet"])).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    random = torch.get_rng_state()
    profile(net, (3, 32, 32))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in net.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_networks_that_need_real_numbers() -> None:
    class Branching(nn.Flatten):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() >= 0 else -x)

    net = nn.Sequential(Branching(), nn.Linear(12, 10))
    assert macs(net, (3, 2, 2)) == 120
    assert net.training


def test_image_that_does_not_fit() -> None:
    with torch.device("meta"):
        net = torchvision.models.alexnet(num_classes=10)
    with pytest.raises(UserError, match=r"AlexNet .* 3×32×32 .*too small\. It works with image_size=64\."):
        profile(net, (3, 32, 32), num_classes=10)
    with pytest.raises(UserError, match=r"1×224×224 .*It works with dataset\.channels=3\."):
        profile(net, (1, 224, 224), num_classes=10)
    with pytest.raises(UserError, match=r"It works with image_size=64 dataset\.channels=3\."):
        profile(net, (1, 28, 28), num_classes=10)


def test_output_that_is_no_logits() -> None:
    with pytest.raises(UserError, match=r"shape \[1, 7\]; expected logits of shape \[1, 10\]\. model\.num_classes"):
        profile(nn.Sequential(nn.Flatten(), nn.Linear(4, 7)), (1, 2, 2), num_classes=10)
    with pytest.raises(UserError, match=r"shape \[1, 1, 2, 2\]; expected logits"):
        profile(nn.Identity(), (1, 2, 2))
