"""The network summary: parameters and MACs against published figures and hand formulas, the command, its messages."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cnnzoo import summary
from cnnzoo.config import compose
from cnnzoo.errors import UserError
from cnnzoo.models.build import build_model
from cnnzoo.models.profile import Profile, count, macs, profile

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., tuple[str, str]]


def published(name: str) -> dict:
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


NETS = {
    "attention": (Attention, (3, 2, 2)),
    "weight_norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 10, 4)), nn.Flatten()),
        (3, 4, 4),
    ),
    "vit": (lambda: torchvision.models.VisionTransformer(16, 8, 2, 2, 12, 24, num_classes=10), (3, 16, 16)),
    "auxiliary heads": (lambda: torchvision.models.googlenet(init_weights=False, num_classes=10), (3, 96, 96)),
    **{
        name: (lambda name=name: build_model(compose([f"model={name}"])), (3, 32, 32))
        for name in ("googlenet", "resnet", "preact_resnet", "densenet")
    },
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
def test_torchvision_publishes_the_same_figures(name: str) -> None:
    with torch.device("meta"):  # no time for initial weights
        net = torchvision.models.get_model(name)
    result = profile(net, (3, 224, 224), num_classes=1000)
    assert result.params == count(net) == published(name)["num_params"]
    assert result.macs / 1e9 == pytest.approx(published(name)["_ops"], abs=5.01e-4)


@pytest.mark.parametrize(
    ("name", "params"),
    [("googlenet", 260_650), ("resnet", 272_378), ("preact_resnet", 272_250), ("densenet", 239_146)],
)
def test_published_parameters(name: str, params: int) -> None:
    assert count(build_model(compose([f"model={name}"]))) == params


def test_the_1x1_convolution_example() -> None:
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
    assert count(net) == 12 + 970
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


def test_the_network_stays_as_it_is() -> None:
    net = build_model(compose(["model=resnet"])).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    random = torch.get_rng_state()
    profile(net, (3, 32, 32))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in net.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_networks_that_need_real_numbers() -> None:
    class Branching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() >= 0 else -x)

    net = Branching(nn.Flatten(), nn.Linear(12, 10))
    assert macs(net, (3, 2, 2)) == 120
    assert net.training


def test_an_image_that_does_not_fit() -> None:
    with torch.device("meta"):
        net = torchvision.models.alexnet(num_classes=10)
    with pytest.raises(UserError, match=r"AlexNet .* 3×32×32 .*too small\. It works with image_size=64\."):
        profile(net, (3, 32, 32), num_classes=10)
    with pytest.raises(UserError, match=r"1×224×224 .*It works with dataset\.channels=3\."):
        profile(net, (1, 224, 224), num_classes=10)
    with pytest.raises(UserError, match=r"It works with image_size=64 dataset\.channels=3\."):
        profile(net, (1, 28, 28), num_classes=10)


def test_an_output_that_is_no_logits() -> None:
    with pytest.raises(UserError, match=r"shape \[1, 7\]; expected logits of shape \[1, 10\]\. model\.num_classes"):
        profile(nn.Sequential(nn.Flatten(), nn.Linear(4, 7)), (1, 2, 2), num_classes=10)
    with pytest.raises(UserError, match=r"shape \[1, 1, 2, 2\]; expected logits"):
        profile(nn.Identity(), (1, 2, 2))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model._target_=torchvision.models.resnet81"], "torchvision.models has no resnet81. Did you mean 'resnet18'"),
        (["model._target_=elsewhere.Net"], "needs the module elsewhere"),
        (["model._target_=timm.create_model"], "pip install 'cnnzoo[timm]'"),
        (["model._target_=torchvision.models.resnet18", "+model.depth=3"], "unexpected keyword argument 'depth'"),
        (["model._target_=collections.Counter"], "made a Counter; expected a torch.nn.Module"),
        (["model=resnet", "model.widths=[16,32]"], "widths=[16, 32], shortcut='projection'"),
    ],
)
def test_networks_that_cannot_be_built(overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(UserError) as error:
        build_model(compose(overrides))
    assert message in str(error.value)


def test_lazy_layers_take_their_sizes_from_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "Lazy", lambda num_classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), raising=False)
    net = build_model(compose(["dataset=cifar10", "model._target_=torch.nn.Lazy"]))
    assert count(net) == 3 * 32 * 32 * 10 + 10
    assert net.training


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command in this process, from an empty folder: stdout and stderr."""

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", ["summary", *arguments])
        summary.main()
        assert not list(tmp_path.iterdir())  # a summary leaves nothing behind
        return capsys.readouterr()

    return run


def test_json(run: Run) -> None:
    result = json.loads(run("model=resnet", "dataset=digits", "format=json")[0])
    assert list(result) == [
        *("model", "dataset", "input_shape", "layers", "params"),
        *("trainable_params", "non_trainable_params", "buffers", "macs"),
    ]
    assert (result["model"], result["dataset"], result["input_shape"]) == ("resnet", "digits", [1, 32, 32])
    assert result["params"] == 272_378 - 2 * 9 * 16  # the stem sees one channel instead of three
    assert result["layers"][0] == {
        "name": "input_net.0",
        "type": "Conv2d",
        "output_shape": [16, 32, 32],
        "params": 9 * 16,
        "macs": 9 * 16 * 32 * 32,
    }
    assert sum(layer["macs"] for layer in result["layers"]) == result["macs"]


def test_nothing_but_json_on_stdout() -> None:
    command = [sys.executable, "-m", "cnnzoo.summary", "model=googlenet", "format=json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["params"] == 260_650


def test_a_table_in_a_pipe_is_not_cut(run: Run) -> None:
    out = run("model._target_=torchvision.models.vit_b_32", "image_size=224")[0]
    name = "encoder.layers.encoder_layer_10.self_attention.out_proj"
    assert any(
        name in line and "NonDynamicallyQuantizableLinear" in line and "590,592" in line for line in out.split("\n")
    )
    assert f"{published('vit_b_32')['num_params'] - 990 * 769:,}" in out  # 10 classes instead of 1,000
    assert "3×224×224" in out


def test_markdown(run: Run) -> None:
    lines = run("format=md")[0].split("\n")
    assert "272,378" in "".join(lines)
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + len(profile(build_model(compose()), (3, 32, 32)).layers)


def test_an_unknown_format(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("format=jsn")
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert "Did you mean 'json'?" in err
    assert not out


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from cnnzoo.summary import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Powered by Hydra" in done.stdout
