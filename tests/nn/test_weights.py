"""Weights from files, runs, publications and collections, into the same network or one with another classifier."""

import hashlib
import http.server
import logging
import threading
import urllib.error
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from cnnzoo.config import Config, compose
from cnnzoo.config.schema import PublishedWeightsConfig
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.nn.weights import find_weights, load_initial_weights, load_weights, published_file

Compose = Callable[..., Config]


def lightning(net: nn.Module, **others: Tensor) -> dict[str, Any]:
    """A Lightning checkpoint with the network under `model.`, and `others`."""
    state = nn.ModuleDict({"model": net}).state_dict()
    state.update(others)
    return {"pytorch-lightning_version": "2.6.6", "epoch": 3, "state_dict": state}


# --- files


@pytest.mark.parametrize("form", ["state_dict", "lightning", "wrapped", "safetensors"])
def test_every_form_of_file_loads(form: str, tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(source.state_dict(), path)
    elif form == "lightning":
        torch.save(lightning(source, **{"loss.weight": torch.ones(2)}), path)
    elif form == "wrapped":
        torch.save({"state_dict": {f"model.{key}": value for key, value in source.state_dict().items()}}, path)
    else:
        torch.save(source.state_dict(), path)
    load_weights(target, path)
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize("wrap", [lambda net: net.state_dict(), lightning], ids=["state_dict", "lightning"])
def test_checkpoints_of_before_num_batches_tracked(wrap: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    """torch's batch norm before version 2 had no such buffer."""

    def content(version: int) -> Any:
        file = wrap(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))
        state = file.get("state_dict", file)
        (counter,) = (key for key in state if key.endswith("num_batches_tracked"))
        del state[counter]
        state._metadata[counter.rpartition(".")[0]]["version"] = version
        return file

    net, path = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), tmp_path / "old.pt"
    torch.save(content(version=1), path)
    load_weights(net, path)
    torch.save(content(version=2), path)  # the buffer got lost
    with pytest.raises(UserError, match=r"missing in the file: 1\.num_batches_tracked"):
        load_weights(net, path)


def test_weights_of_another_network_name_keys_and_shapes(published_weights: Path) -> None:
    config = compose(["model=resnet", "model.widths=[16,32,48]"])
    path = find_weights(replace(config, weights=str(published_weights / "uvadlc_tutorial5" / "ResNet.ckpt")))
    with pytest.raises(UserError, match=r"blocks\.6\.downsample\.bias \[64\] instead of \[48\]"):
        load_weights(build_model(config), path)
    with pytest.raises(UserError, match=r"missing in the file: .* more; unknown to the network: .*Choose the model="):
        load_weights(build_model(compose(["model=densenet"])), path)


class Code:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize("content", [b"", b"no weights", None], ids=["empty", "text", "code"])
def test_file_without_weights(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pt"
    if content is None:
        torch.save(Code(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_weights(nn.Linear(3, 2), path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"epoch,loss\n1,2\n", b"hello\n", b'{"a": 1}', b"\x89PNG\r\n\x1a\n" + b"0" * 99])
def test_other_files_as_weights(content: bytes, name: str, tmp_path: Path) -> None:
    """A message of what they are not, without torch's advice to load them unsafely."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as weights: it .* no file of weights\. Expected") as raised:
        load_weights(nn.Linear(3, 2), tmp_path / name)
    assert "weights_only" not in str(raised.value)


def test_objects_are_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"it holds torch\.nn\.modules\.linear\.Linear, .* run their code. Expected"):
        load_weights(nn.Linear(3, 2), tmp_path / "weights.pt")


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:torch.quantize", "ignore:TypedStorage", "ignore:Validating")
@pytest.mark.parametrize(
    "make",
    {
        "sparse": lambda dense: dense.to_sparse(),
        "compressed": lambda dense: dense.to_sparse_csr(),
        "complex": lambda dense: dense.to(torch.complex64),
        "meta": lambda dense: dense.to("meta"),
        "quantized": lambda dense: torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        "mapping": lambda dense: {"nested": dense},
        "text": lambda dense: "a text",
        "number": lambda dense: 1,
    }.items(),
    ids=lambda make: make[0],
)
def test_entries_that_are_no_dense_numbers(make: tuple[str, Callable[[Tensor], Any]], tmp_path: Path) -> None:
    torch.save({"weight": make[1](torch.zeros(2, 3)), "bias": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"'weight' is a .*not a dense tensor of numbers\. Expected"):
        load_weights(nn.Linear(3, 2), tmp_path / "weights.pt")


def test_checkpoint_of_another_configuration(tmp_path: Path) -> None:
    net, path = nn.Linear(3, 2), tmp_path / "best.ckpt"
    torch.save(lightning(net) | {"hyper_parameters": {"config_hash": "a"}}, path)
    load_weights(net, path)
    load_weights(net, path, config_hash="a")
    with pytest.raises(UserError, match=r"made by another configuration \(a\) than .*\(b\)"):
        load_weights(net, path, config_hash="b")
    torch.save(lightning(net), path)
    load_weights(net, path, config_hash="b")  # of another program, which knows no hash


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": [1]}])
def test_file_without_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        load_weights(nn.Linear(3, 2), tmp_path / "weights.pt")


# --- finding them


def test_file_and_run_folder(config: Compose, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    for weights in (tmp_path, checkpoint):
        assert find_weights(config(f"weights={weights}")) == checkpoint


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nowhere.ckpt", r"there is no file .*nowhere\.ckpt\. Expected .*'published' or 'cnnzoo'"),
        ("published", "names no published weights. Add the experiment"),
        ("pretrained", "only a training starts from these"),
    ],
)
def test_weights_that_are_not_there(weights: str, message: str, config: Compose) -> None:
    with pytest.raises(UserError, match=message):
        find_weights(config(f"weights={weights}"))


@pytest.fixture
def server() -> Iterator[tuple[str, str]]:
    """A web server on this machine with one file, `there`: its address, and the file's checksum."""
    content = b"weights"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()
            if self.path == "/there":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", hashlib.sha256(content).hexdigest()
        running.shutdown()


def test_published_file_is_downloaded_once_and_checked(server: tuple[str, str], tmp_path: Path) -> None:
    address, sha256 = server
    entry = PublishedWeightsConfig(file="collection/net.ckpt", url=f"{address}/there", sha256=sha256)
    path = published_file(entry, tmp_path)
    assert path.read_bytes() == b"weights"
    gone = replace(entry, url="http://127.0.0.1:9/")
    assert published_file(gone, tmp_path) == path  # found, no download
    assert published_file(gone, tmp_path / "collection") == path  # in the collection's own folder
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="sha256"):
        published_file(entry, tmp_path)


def test_failed_download_leaves_nothing(server: tuple[str, str], tmp_path: Path) -> None:
    address, sha256 = server
    with pytest.raises(UserError, match=f"{address}/gone could not be downloaded .HTTP 404.*CNNZOO_WEIGHTS"):
        published_file(PublishedWeightsConfig("net.ckpt", f"{address}/gone", sha256), tmp_path)
    with pytest.raises(UserError, match="is not the published file"):
        published_file(PublishedWeightsConfig("net.ckpt", f"{address}/there", "0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- fine-tuning


def initial(config: Config) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network of this configuration, and a copy of its initial weights."""
    torch.manual_seed(0)
    net = build_model(config)
    return net, {key: value.clone() for key, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("model", "classifiers"),
    [
        ("resnet", ["output_net.2"]),
        (
            "googlenet_v1 model.auxiliary_heads=true image_size=32",
            ["auxiliary.4a.net.7", "auxiliary.4d.net.7", "head.2"],
        ),
    ],
)
def test_only_the_classifiers_keep_their_initial_weights(
    model: str, classifiers: list[str], config: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = f"model={model}".split()
    source = build_model(config(*overrides, "dataset=cifar100"))
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    tuned = config(*overrides, "dataset=cifar10", f"weights={tmp_path}/weights.pt")
    net, before = initial(tuned)
    with caplog.at_level(logging.INFO):
        load_initial_weights(net, tuned)
    assert f"initial weights kept in {', '.join(classifiers)}: 100 classes there, 10 here" in caplog.text
    after, given = net.state_dict(), source.state_dict()
    kept = [key for key in after if after[key].shape != given[key].shape]
    assert kept == [f"{name}.{key}" for name in classifiers for key in ("weight", "bias")]
    for key in after:
        assert torch.equal(after[key], before[key] if key in kept else given[key])


def test_equal_number_of_classes_loads_everything(config: Compose, tmp_path: Path) -> None:
    run = tmp_path / "run" / "checkpoints" / "best.ckpt"
    run.parent.mkdir(parents=True)
    source = build_model(config("model=mlp"))
    torch.save(lightning(source), run)
    tuned = config("model=mlp", f"weights={tmp_path}/run")
    net, _ = initial(tuned)
    load_initial_weights(net, tuned)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widths=[16,32,48]", r"of another shape: .*\[64\] instead of \[48\]"),
        ("model.blocks_per_group=[3,3,4]", r"missing in the file: blocks\.9"),
        ("model.block=preact", "unknown to the network"),
    ],
)
def test_anything_but_the_classifier_must_fit(override: str, message: str, config: Compose, tmp_path: Path) -> None:
    torch.save(build_model(config("dataset=cifar100")).state_dict(), tmp_path / "weights.pt")
    tuned = config(override, f"weights={tmp_path}/weights.pt")
    with pytest.raises(UserError, match=message):
        load_initial_weights(build_model(tuned), tuned)


def test_no_weights_no_change(config: Compose) -> None:
    net, before = initial(config("model=mlp"))
    load_initial_weights(net, config("model=mlp"))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    "overrides",
    [("model=torchvision",), ("model._target_=torchvision.models.resnet18",)],
    ids=["get_model", "resnet18"],
)
def test_pretrained_of_torchvision(
    overrides: tuple[str, ...], config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    published = torchvision.models.resnet18().state_dict()  # 1,000 classes
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda self, **kwargs: published)
    tuned = config(*overrides, "weights=pretrained")
    net, before = initial(tuned)
    drawn = torch.get_rng_state()
    load_initial_weights(net, tuned)
    assert torch.equal(torch.get_rng_state(), drawn)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("fc.") else published[key])


def test_pretrained_of_timm(config: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = timm.create_model("resnet18").state_dict()
    path = tmp_path / "resnet18.pt"
    torch.save(published, path)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *args, **kwargs: OrderedDict(published))
    tuned = config("model=timm", "dataset=fashion_mnist", "weights=pretrained")
    net, before = initial(tuned)
    load_initial_weights(net, tuned)
    after = net.state_dict()
    assert torch.equal(after["fc.weight"], before["fc.weight"])
    assert torch.equal(after["layer4.1.conv2.weight"], published["layer4.1.conv2.weight"])
    # timm turns a first convolution for colour into one for grey images
    torch.testing.assert_close(after["conv1.weight"], published["conv1.weight"].sum(1, keepdim=True))


def test_pretrained_that_cannot_be_had(config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: Any, **kwargs: Any) -> Any:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    tuned = config("model=torchvision", "weights=pretrained")
    with pytest.raises(UserError, match=r"weights of resnet18 could not be downloaded .*no network.* set weights=FILE"):
        load_initial_weights(build_model(tuned), tuned)
    own = config("model=resnet", "weights=pretrained")
    with pytest.raises(UserError, match="expected a network of torchvision or timm"):
        load_initial_weights(build_model(own), own)
