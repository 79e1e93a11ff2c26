"""The tricks of the speed recipes, each against a plain reference, and the script that measures them."""

import json
import math
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnzoo.config import compose
from cnnzoo.data.augment import Augmentation, Crops, shift
from cnnzoo.data.batches import Batches
from cnnzoo.data.sources import Images
from cnnzoo.errors import UserError
from cnnzoo.models.airbench import identity_conv, patch_covariance, whitening_filters
from cnnzoo.models.build import build_model
from cnnzoo.results.files import read_metrics
from cnnzoo.results.record import config_hash, run_folder
from cnnzoo.run import run
from cnnzoo.training.muon import COEFFICIENTS, Muon, orthogonalize
from cnnzoo.training.optimizers import build_optimizer, freeze
from cnnzoo.training.predict import predict, views
from cnnzoo.training.schedules import triangular

# The recipes at the size of seconds: bundled digits, thin blocks.
SMALL = (
    "dataset=digits", "dataset.val_size=0", "dataset.batch_size=200", "image_size=16", "model.widths=[8,16,16]",
    "trainer.precision=32-true", "trainer.progress_bar=false", "trainer=cpu",
)  # fmt: skip


# --- network


def test_whitened_patches_are_uncorrelated_with_variance_one():
    images = F.avg_pool2d(torch.randn(200, 3, 18, 18, generator=torch.manual_seed(0)), 3, 1)  # neighbours alike
    filters = whitening_filters(patch_covariance([images], 2), 3, eps=0.0).float()
    assert filters.shape == (12, 3, 2, 2)
    outputs = F.conv2d(images, filters).permute(0, 2, 3, 1).reshape(-1, 12).double()
    np.testing.assert_allclose(outputs.T @ outputs / len(outputs), np.eye(12), atol=1e-4)


def test_patch_covariance_is_numpys_patch_by_patch_and_batch_by_batch():
    images = torch.randn(5, 2, 4, 6, generator=torch.manual_seed(0))
    patches = np.stack([
        image[:, y : y + 2, x : x + 2].numpy().ravel() for image in images for y in range(3) for x in range(5)
    ]).astype(np.float64)  # fmt: skip
    np.testing.assert_allclose(
        patch_covariance([images[:3], images[3:]], 2), patches.T @ patches / len(patches), rtol=1e-5, atol=1e-6
    )


def test_the_network_whitens_with_as_many_images_as_it_is_told():
    net = build_model(compose([*SMALL, "model=airbench94", "model.whitening_images=5", "dataset.channels=3"]))
    images = torch.randn(12, 3, 16, 16)
    net.initialize_from((batch, torch.zeros(4)) for batch in images.split(4))
    expected = whitening_filters(patch_covariance([images[:5]], 2), 3, 5e-4).float()
    torch.testing.assert_close(net.whitening.weight, torch.cat([expected, -expected]))
    assert not net.whitening.weight.requires_grad
    assert net.whitening.bias.requires_grad


def test_a_convolution_begins_as_identity_and_batch_norm_without_a_scale():
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(identity_conv(4, 9)(x)[:, :4], x)
    net = build_model(compose([*SMALL, "model=airbench94"]))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert (norm.weight == 1).all()
        assert not norm.weight.requires_grad
        norm(torch.full((1, norm.num_features, 2, 2), 5.0))
        torch.testing.assert_close(norm.running_mean, torch.full_like(norm.running_mean, 0.4 * 5))  # keeps 0.6


def test_head_at_a_standard_deviation_of_its_own():
    net = build_model(compose([*SMALL, "model=airbench94", "model.head_std=1.0"]))
    assert net.head.weight.std().item() == pytest.approx(1, rel=1e-5)


# --- augmentation


@pytest.mark.parametrize(("top", "left"), [(0, 0), (-2, 1), (2, 2), (1, -2)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_shift_is_a_crop_of_the_reflect_padded_image(top, left, flip):
    images = torch.randint(0, 256, (3, 3, 8, 10), dtype=torch.uint8)
    crops = Crops(*(torch.tensor([float(v)]) for v in (top, left, 8, 10)), torch.tensor([flip]))
    padded = F.pad(images[2:].float(), (2, 2, 2, 2), mode="reflect")
    reference = padded[:, :, 2 + top : 10 + top, 2 + left : 12 + left]
    reference = reference.flip(3) if flip else reference
    assert torch.equal(shift(images[2:], crops).float(), reference)


def alternating(epoch: int, seed: int = 3, **options) -> dict[int, bool]:
    """Which image was flipped in an epoch, by label; an image's pixels grow from left to right."""
    images = torch.arange(8, dtype=torch.uint8).expand(64, 1, 8, 8).contiguous()
    loader = Batches(
        Images(images, torch.arange(64)), torch.zeros(1), torch.ones(1), image_size=8, batch_size=16, shuffle=True,
        augmentation=Augmentation(flip=0.5, flip_mode="alternating"), seed=seed, epoch=epoch, **options,
    )  # fmt: skip
    return {
        int(label): bool(image[0, 0, 0] > image[0, 0, -1]) for x, y in loader for image, label in zip(x, y, strict=True)
    }


def test_every_image_is_flipped_in_exactly_every_second_epoch():
    first, second, third, fourth = (alternating(epoch) for epoch in range(4))
    assert first == third
    assert second == fourth == {label: not flipped for label, flipped in first.items()}
    assert 16 < sum(first.values()) < 48
    assert alternating(0, seed=4) != first


def test_processes_flip_as_one():
    shares = [alternating(1, rank=rank, world_size=2) for rank in range(2)]
    assert shares[0] | shares[1] == alternating(1)


def test_shifts_within_batches_reach_every_offset():
    """One bright pixel in the middle shows the shift; the mirrored border never reaches it."""
    images = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 255
    augmentation = Augmentation(padding=2, padding_mode="reflect")
    loader = Batches(
        Images(images, torch.zeros(2000)), torch.zeros(1), torch.ones(1), image_size=9, batch_size=2000,
        augmentation=augmentation, channels_last=True,
    )  # fmt: skip
    x, _ = next(iter(loader))
    assert x.is_contiguous(memory_format=torch.channels_last)
    places, counts = np.unique(x.flatten(1).argmax(1), return_counts=True)
    assert places.tolist() == [9 * row + column for row in range(2, 7) for column in range(2, 7)]
    assert counts.min() > 40  # 80 expected


# --- optimizer groups


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01}


def sizes(optimizer: torch.optim.Optimizer) -> list[list[tuple[int, ...]]]:
    return [[tuple(p.shape) for p in group["params"]] for group in optimizer.param_groups]


def test_groups_select_by_name_module_and_dimensions():
    model = net()
    groups = {
        "biases": {"names": "*.bias", "lr": 0.3},
        "norms": {"modules": ["BatchNorm2d"], "ndim": 1, "weight_decay": 0.0},
        "head": {"names": ["3.*"], "modules": "Linear", "ndim": 2, "frozen_after": 2},
    }
    optimizer = build_optimizer(model, {**SGD, "groups": groups})
    # the rest first; of those that several groups fit, the last one takes them
    assert {tuple(shapes) for shapes in map(tuple, sizes(optimizer))} == {
        ((2, 1, 3, 3),), ((3, 8),), ((2,), (2,)), ((2,), (3,)),
    }  # fmt: skip
    assert sizes(optimizer)[0] == [(2, 1, 3, 3)]
    by_size = {tuple(shapes): group for shapes, group in zip(sizes(optimizer), optimizer.param_groups, strict=True)}
    assert (by_size[(2,), (3,)]["lr"], by_size[(2,), (3,)]["weight_decay"]) == (0.3, 0.01)
    assert (by_size[(2,), (2,)]["lr"], by_size[(2,), (2,)]["weight_decay"]) == (0.1, 0.0)


def test_a_frozen_group_stays_as_it_is():
    model = net()
    optimizer = build_optimizer(
        model, {**SGD, "momentum": 0.9, "groups": {"first": {"names": "0.*", "frozen_after": 1}}}
    )
    before = []
    for epoch in range(3):
        freeze(optimizer, epoch)
        before.append([p.detach().clone() for p in model.parameters()])
        optimizer.zero_grad()
        model(torch.randn(4, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    changed = [[not torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(before)]
    assert changed[0] == [True] * 6
    assert changed[1][:2] == [False] * 2
    assert all(changed[1][2:])


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"a": {"names": "nothing.*"}}, ["groups.a (names=nothing.*)", "0.weight", "cnnzoo.summary"]),
        ({"a": {"names": "*"}, "b": {"modules": "Conv1d"}}, ["groups.b (modules=Conv1d)"]),
        ({"a": {"names": "*", "weight_decy": 0.1}}, ["groups.a.weight_decy", "'weight_decay'"]),
    ],
)
def test_groups_that_cannot_be_are_named(groups, words):
    with pytest.raises(UserError) as error:
        build_optimizer(net(), {**SGD, "groups": groups})
    for word in words:
        assert word in str(error.value)


# --- Muon


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (3, 8, 8)])
def test_newton_schulz_moves_the_singular_values_alone(shape):
    """The reference applies the polynomial to the singular values of a decomposition, one by one."""
    matrix = torch.randn(shape, generator=torch.manual_seed(0), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalize(matrix, 5, eps=0.0), u @ torch.diag_embed(s) @ vh, atol=1e-9, rtol=1e-9)
    if shape != (3, 8, 8):  # a square Gaussian matrix has singular values near zero
        nearly = torch.linalg.svdvals(orthogonalize(matrix, 5))
        assert 0.65 < nearly.min() <= nearly.max() < 1.25  # the bounds of the iteration's own paper


def muon(params, **options) -> Muon:
    defaults = {
        "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "orthogonalize": True, "normalize": False,
        "ns_steps": 5,
    }  # fmt: skip
    return Muon(params, **defaults | options)


def descend(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        parameter.grad = torch.randn(parameter.shape, generator=torch.manual_seed(step))
        optimizer.step()


def test_without_orthogonalizing_it_is_torchs_sgd():
    ours, theirs = (nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    descend(muon([ours], orthogonalize=False, weight_decay=0.1), ours, 5)
    descend(torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), theirs, 5)
    torch.testing.assert_close(ours, theirs)


def test_steps_are_torchs_muon_on_matrices():
    torch_muon = pytest.importorskip("torch.optim", reason="").__dict__.get("Muon")
    if torch_muon is None:
        pytest.skip("torch.optim.Muon is there since torch 2.9")
    # square, for torch's rate depends on the ratio of the sides; torch weighs the new gradient with 1 - momentum,
    # which the normalisation undoes, and computes in bfloat16
    ours, theirs = (nn.Parameter(torch.eye(16)) for _ in range(2))
    descend(muon([ours], weight_decay=0.1), ours, 3)
    descend(torch_muon([theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), theirs, 3)
    torch.testing.assert_close(ours, theirs, atol=0.03, rtol=0)


def test_filters_are_the_rows_of_a_matrix_and_keep_their_norm():
    conv = nn.Parameter(torch.randn(4, 2, 3, 3, generator=torch.manual_seed(0)).to(memory_format=torch.channels_last))
    optimizer = muon([conv], lr=0.0, normalize=True)
    descend(optimizer, conv, 1)
    assert conv.norm().item() == pytest.approx(2, rel=1e-5)  # √4
    optimizer.param_groups[0]["lr"] = 1.0
    before = conv.detach().clone()
    descend(optimizer, conv, 1, start=1)
    values = torch.linalg.svdvals((before - conv.detach()).flatten(1))
    assert 0.65 < values.min() <= values.max() < 1.25


def test_muon_goes_on_from_its_state():
    whole, halves = (nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    descend(muon([whole]), whole, 4)
    first = muon([halves])
    descend(first, halves, 2)
    second = muon([halves])
    second.load_state_dict(first.state_dict())
    descend(second, halves, 2, start=2)
    assert torch.equal(whole, halves)


def test_vectors_cannot_be_orthogonalized():
    with pytest.raises(ValueError, match="orthogonalize=false"):
        muon([nn.Parameter(torch.ones(3))])


# --- schedule


@pytest.mark.parametrize(("pct_start", "start", "end"), [(0.23, 0.2, 0.07), (0.0, 1.0, 0.0)])
def test_triangular_is_numpys_interpolation(pct_start, start, end):
    total = 476
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [parameter], "lr": 2.0}], lr=1.0)
    schedule = triangular(optimizer, total, pct_start, start, end)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    points = {0: start, int(pct_start * total): 1.0, total: end}
    np.testing.assert_allclose(rates, 2 * np.interp(range(total), list(points), list(points.values())), rtol=1e-6)


# --- test-time augmentation


def test_views_are_weighted_as_published():
    """Six views: half of the weight on the image in its place, half on the two shifts; each half mirrored."""
    images = torch.arange(16.0).view(1, 1, 4, 4)
    shares, seen = zip(*views(images, "mirror_translate"), strict=True)
    assert shares == (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)
    padded = np.pad(images[0, 0].numpy(), 1, mode="reflect")
    expected = [
        image for plain in (images[0, 0].numpy(), padded[:4, :4], padded[2:, 2:]) for image in (plain, plain[:, ::-1])
    ]
    for ours, theirs in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(ours[0, 0], theirs)


def test_mirrored_predictions_do_not_see_left_and_right():
    part = Images(torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8), torch.arange(20))
    mirrored = Images(part.images.flip(3), part.labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    ours, theirs = (
        predict(model, Batches(p, torch.zeros(1), torch.ones(1), image_size=8, batch_size=7), "mirror").logits
        for p in (part, mirrored)
    )
    torch.testing.assert_close(ours, theirs)
    plain = predict(model, Batches(part, torch.zeros(1), torch.ones(1), image_size=8, batch_size=7)).logits
    assert not torch.allclose(ours, plain)


# --- runs


@pytest.fixture
def recipe(config):
    return lambda name, *overrides: config(f"experiment=speedrun/{name}", *SMALL, *overrides)


def checkpoint(config: dict, name: str = "best") -> dict:
    return torch.load(run_folder(config) / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_a_recipe_trains_without_validation_within_an_epoch(recipe):
    config = recipe("cifar10_94_sgd", "trainer.max_epochs=6.4", "trainer.checkpoint_every_n_epochs=7")
    result = run(config, "")
    assert result["val_accuracy"] is None
    assert result["val_loss"] is None
    assert result["best_epoch"] == result["epochs"] == 7
    assert result["test_accuracy"] > 0.5
    assert result["test_accuracy_tta"] != result["test_accuracy"]
    assert result["train_seconds"] > 0
    assert result["test_seconds"] > 0
    rows = read_metrics(run_folder(config))
    # 1437 images make 7 batches of 200; 0.4 of them are 3
    assert [row["step"] for row in rows] == [7, 14, 21, 28, 35, 42, 45]
    assert all(row["val_accuracy"] is None for row in rows)
    last, best = checkpoint(config, "last"), checkpoint(config)
    assert all(torch.equal(last["state_dict"][key], value) for key, value in best["state_dict"].items())
    # the end of the schedule: one step before 0.07 of the rate
    schedule = triangular(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.5), 45, 0.23, 0.2, 0.07)
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1.5 * schedule.lr_lambdas[0](45))


def test_the_published_hyperparameters(config):
    """The source's, in its own terms: lr 11.5, weight decay 0.0153, bias scaler 64, momentum 0.85; loss summed."""
    sgd = config("experiment=speedrun/cifar10_94_sgd")["optimizer"]
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    lr, decay = 11.5 / kilostep, 0.0153 * 1024 / kilostep
    assert sgd["lr"] == pytest.approx(1024 * lr)
    assert sgd["lr"] * sgd["weight_decay"] == pytest.approx(decay)
    norms = sgd["groups"]["norms"]
    assert norms["lr"] == pytest.approx(64 * 1024 * lr)
    assert norms["lr"] * norms["weight_decay"] == pytest.approx(decay)
    cfg = config("experiment=speedrun/cifar10_94")
    for name, rate in (("vectors", 0.053), ("whitening", 0.053), ("head", 0.67)):
        group = cfg["optimizer"]["groups"][name]
        assert group["lr"] == pytest.approx(2000 * rate)
        assert group["lr"] * group["weight_decay"] == pytest.approx(2e-6 * 2000)
        assert (group["momentum"], group["orthogonalize"]) == (0.85, False)
    assert config("experiment=speedrun/cifar10_94_sgd")["callbacks"]["lookahead"]["decay"] == pytest.approx(0.95**5)


@pytest.mark.parametrize("name", ["cifar10_94", "cifar10_94_sgd"])
def test_an_interrupted_recipe_goes_on_and_ends_as_one_left_alone(recipe, name, monkeypatch):
    """Frozen bias, flips, momenta, schedule and running average: all of it comes from the checkpoint or the epoch."""
    config = recipe(name, "trainer.max_epochs=4.5", "trainer.checkpoint_every_n_epochs=1")
    alone = run(config, "")
    weights = checkpoint(config)["state_dict"]
    from cnnzoo.training.classifier import Classifier

    untouched = Classifier.training_step

    def interrupted(self, batch, index):
        if self.current_epoch == 3:
            raise RuntimeError("pulled the plug")
        return untouched(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="plug"):
        run({**config, "rerun": True}, "")
    monkeypatch.setattr(Classifier, "training_step", untouched)
    assert checkpoint(config, "last")["epoch"] == 2
    resumed = run(config, "")
    assert resumed["epochs"] == 5
    assert resumed["test_loss"] == alone["test_loss"]
    assert all(torch.equal(weights[key], value) for key, value in checkpoint(config)["state_dict"].items())


def test_the_whitening_bias_stops_after_its_epochs_and_the_filters_never_move(recipe):
    states = [
        checkpoint(config)["state_dict"]
        for epochs in (1, 3, 4)
        if run(config := recipe("cifar10_94", "scheduler=none", f"trainer.max_epochs={epochs}",
                                "trainer.checkpoint_every_n_epochs=1"), "")
    ]  # fmt: skip
    one, three, four = (state["model.whitening.bias"] for state in states)
    assert not torch.equal(one, three)
    assert torch.equal(three, four)
    filters = [state["model.whitening.weight"] for state in states]
    assert torch.equal(filters[0], filters[2])
    assert not torch.equal(states[1]["model.head.weight"], states[2]["model.head.weight"])


def test_lookahead_is_the_published_scheme_step_by_step(recipe):
    """A run with it against a loop by hand: the average and the weights it leaves behind, on a linear network."""
    from cnnzoo.data.dataset import load_dataset
    from cnnzoo.data.module import train_batches

    config = recipe(
        "cifar10_94_sgd", "model=mlp", "model.widths=[]", "augmentation=none", "~optimizer.groups", "image_size=8",
        "optimizer.lr=0.1", "scheduler=none", "callbacks.lookahead.every_n_steps=3", "callbacks.lookahead.decay=0.8",
        "trainer.max_epochs=2", "trainer.checkpoint_every_n_epochs=2", "tta=none",
    )  # fmt: skip
    run(config, "")
    import pytorch_lightning as pl
    from omegaconf import OmegaConf

    pl.seed_everything(config["seed"], verbose=False)
    model = build_model(OmegaConf.create(config))
    optimizer = build_optimizer(model, config["optimizer"])
    average = [p.detach().clone() for p in model.parameters()]
    step, dataset = 0, load_dataset(config["dataset"])
    for epoch in range(2):
        for images, labels in train_batches(dataset, config, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels, label_smoothing=0.2).backward()
            optimizer.step()
            step += 1
            if step % 3 == 0:
                decay = 0.8 * (step / 14) ** 3
                for a, p in zip(average, model.parameters(), strict=True):
                    a.copy_(decay * a + (1 - decay) * p.detach())
                    p.data.copy_(a)
    assert step == 14
    for a, (key, value) in zip(average, checkpoint(config)["state_dict"].items(), strict=True):
        torch.testing.assert_close(a, value, msg=key)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("augmentation.flip_mode=alternate", ["flip_mode=alternate", "'alternating'"]),
        ("augmentation.padding_mode=mirror", ["padding_mode=mirror", "reflect"]),
        ("tta=mirrors", ["tta=mirrors", "'mirror'"]),
        ("trainer.max_epochs=0.5", ["trainer.max_epochs=0.5", "at least 1"]),
        ("trainer.compile_mode=fast", ["compile_mode=fast", "max-autotune"]),
        ("trainer.checkpoint_every_n_epochs=7", ["checkpoint_every_n_epochs=7", "180"]),
        ("trainer.check_val_every_n_epoch=181", ["check_val_every_n_epoch=181", "180", "val_size=0"]),
        ("dataset.val_size=-1", ["val_size=-1", "0: no validation"]),
        ("+optimizer.groups=[1]", ["optimizer.groups=[1]", "a name and settings"]),
        ("+optimizer.groups.a.lr=1", ["optimizer.groups.a", "names, modules or ndim"]),
        ("+optimizer.groups.a={names: '*', lr: fast}", ["optimizer.groups.a.lr=fast"]),
        ("+optimizer.groups.a={names: '*', frozen_after: 0}", ["frozen_after=0", "at least 1"]),
    ],
)
def test_a_mistake_is_named(typed, words):
    with pytest.raises(UserError) as error:
        compose([typed])
    for word in words:
        assert word in str(error.value)


def test_options_that_came_later_leave_earlier_runs_where_they_are(config):
    """A configuration from before them has none of their keys."""
    now = config()
    before = {key: value for key, value in now.items() if key != "tta"}
    before["augmentation"] = {k: v for k, v in now["augmentation"].items() if not k.endswith("_mode")}
    before["trainer"] = {
        k: v for k, v in now["trainer"].items() if k not in ("compile_mode", "checkpoint_every_n_epochs")
    }
    assert config_hash(before) == config_hash(now)
    for other in ("tta=mirror", "augmentation.flip_mode=alternating", "trainer.compile_mode=max-autotune"):
        assert config_hash(config(other)) != config_hash(now)
    saved = config("trainer.checkpoint_every_n_epochs=90")
    assert config_hash(saved) == config_hash(now)


def test_the_script_reports_what_its_runs_measured(tmp_path):
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "speedrun.py"))
    out = tmp_path / "speedrun.json"
    script["main"]([
        "--runs", "2", "--out", str(out), *SMALL, "trainer.max_epochs=2", "trainer.checkpoint_every_n_epochs=2",
    ])  # fmt: skip
    report = json.loads(out.read_text())
    runs = report["runs"]
    assert [entry["seed"] for entry in runs] == [1, 2]
    for key in ("test_accuracy", "test_accuracy_tta", "seconds"):
        values = [entry[key] for entry in runs]
        assert report[key]["mean"] == pytest.approx(np.mean(values))
        assert report[key]["std"] == pytest.approx(np.std(values, ddof=1))
        low, high = report[key]["interval95"]
        half = 12.706 * np.std(values, ddof=1) / math.sqrt(2)  # Student's t with one degree of freedom
        assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), rel=1e-3)
    for entry in runs:
        assert entry["seconds"] == pytest.approx(entry["train_seconds"] + entry["test_seconds"])
    assert report["warm_up_seconds"] > 0
    assert {"device", "versions", "command", "precision", "git_commit", "config"} <= report.keys()
