"""Weights from files, runs and publications; the published table, to the last digit."""

import hashlib
import http.server
import json
import threading

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cnnzoo.config import compose
from cnnzoo.errors import UserError
from cnnzoo.models.build import build_model
from cnnzoo.training.weights import find_weights, load_weights, published_file

# test and validation accuracy: University of Amsterdam deep-learning tutorial 5
PUBLISHED = {
    "googlenet": (0.8970, 0.9040),
    "resnet": (0.9106, 0.9184),
    "preact_resnet": (0.9107, 0.9180),
    "densenet": (0.9023, 0.9072),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_the_published_weights_give_the_published_table(network, cnnzoo, cifar10, published_weights):
    answer = cnnzoo("evaluate", f"experiment=uvadlc/{network}", "weights=published", "format=json")
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert (result["test_accuracy"], result["val_accuracy"]) == PUBLISHED[network]
    assert result["published"]["test_accuracy"] == PUBLISHED[network][0]
    assert result["published"]["val_accuracy"] == PUBLISHED[network][1]
    assert result["params"] == result["published"]["params"]


def test_weights_of_another_network_name_keys_and_shapes(published_weights):
    net = build_model(compose(["model=resnet", "model.widths=[16,32,48]"]))
    path = find_weights(str(published_weights / "uvadlc_tutorial5" / "ResNet.ckpt"), {})
    with pytest.raises(UserError, match=r"blocks\.6\.downsample\.bias \[64\] instead of \[48\]"):
        load_weights(net, path)
    with pytest.raises(UserError, match=r"missing in the file: .*unknown to the network"):
        load_weights(build_model(compose(["model=densenet"])), path)


@pytest.mark.parametrize("form", ["state_dict", "lightning", "safetensors"])
def test_every_form_of_file_loads(form, tmp_path):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(source.state_dict(), path)
    elif form == "lightning":
        torch.save({"epoch": 3, "state_dict": {f"model.{k}": v for k, v in source.state_dict().items()}}, path)
    else:
        torch.save(source.state_dict(), path)
    load_weights(target, path)
    assert torch.equal(source.weight, target.weight)


class _Code:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", [b"", b"no weights", None], ids=["empty", "text", "code"])
def test_a_file_that_holds_no_weights(content, tmp_path, capsys):
    path = tmp_path / "weights.pt"
    if content is None:
        torch.save(_Code(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_weights(nn.Linear(3, 2), path)
    assert "executed" not in capsys.readouterr().out


def test_a_missing_file_and_missing_publication(config):
    with pytest.raises(UserError, match="there is no file"):
        find_weights("nowhere.ckpt", config())
    with pytest.raises(UserError, match="names no published weights"):
        find_weights("published", config())


@pytest.fixture
def server(tmp_path):
    """A web server on this machine with one file, `there`."""
    content = b"weights"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/there" else 404)
            self.end_headers()
            if self.path == "/there":
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", hashlib.sha256(content).hexdigest()
        running.shutdown()


def test_published_weights_are_downloaded_once_and_checked(server, tmp_path):
    address, sha256 = server
    entry = {"file": "collection/net.ckpt", "url": f"{address}/there", "sha256": sha256}
    path = published_file(entry, tmp_path)
    assert path.read_bytes() == b"weights"
    assert published_file({**entry, "url": "http://127.0.0.1:9/"}, tmp_path) == path  # found, no download
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="sha256"):
        published_file(entry, tmp_path)


def test_a_failed_download_leaves_nothing_and_says_what_to_do(server, tmp_path):
    address, sha256 = server
    with pytest.raises(UserError, match=f"{address}/gone could not be downloaded .HTTP 404.*CNNZOO_WEIGHTS"):
        published_file({"file": "net.ckpt", "url": f"{address}/gone", "sha256": sha256}, tmp_path)
    with pytest.raises(UserError, match="is not the published file"):
        published_file({"file": "net.ckpt", "url": f"{address}/there", "sha256": "0" * 64}, tmp_path)
    assert list(tmp_path.iterdir()) == []
