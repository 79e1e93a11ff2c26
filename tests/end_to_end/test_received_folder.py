"""A run's folder that somebody else has sent: what it names is not run, and its data are those of this machine."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import cnnzoo as package
from cnnzoo.config import Config, compose, config_hash, run_folder
from cnnzoo.config.compose import from_dict
from cnnzoo.errors import UserError
from cnnzoo.evaluate import as_trained, evaluate_weights
from cnnzoo.results.run_folder import read_config
from cnnzoo.run import run

Command = Callable[..., Any]
Tamper = Callable[[dict[str, Any]], None]

RUN = (
    "dataset=digits",
    "model=mlp",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "trainer.progress_bar=false",
    "logger=none",
)
FOREIGN = (
    "from pathlib import Path\n\nfrom torch import nn\n\nPath({!r}).touch()\n\n\nclass Net(nn.Linear):\n    pass\n"
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    config = compose([*RUN, f"paths.outputs={tmp_path_factory.mktemp('outputs')}"])
    run(config)
    return run_folder(config)


@pytest.fixture
def received(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "received"))


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that code of `foreign_package`, which Python finds, leaves when it is imported."""
    trace = tmp_path / "trace"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "foreign_package.py").write_text(FOREIGN.format(str(trace)))
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.delitem(sys.modules, "foreign_package", raising=False)
    return trace


def tamper(folder: Path, change: Tamper, *, consistently: bool) -> None:
    """Change a folder's configuration, and if `consistently` its hash in every file as well."""
    values = yaml.safe_load((folder / "config.yaml").read_text())
    change(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    if consistently:
        digest = config_hash(from_dict(Config, read_config(folder)))
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(result | {"config_hash": digest}))
        checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        checkpoint["hyper_parameters"]["config_hash"] = digest
        torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")


def evaluate(folder: Path, *overrides: str) -> dict[str, Any]:
    return evaluate_weights(compose([f"weights={folder}", "trainer=cpu", *overrides], "evaluate"))


def commands(file: Path) -> dict[str, Tamper]:
    """Ways to name a program that leaves `file`."""
    touch = {"_target_": "os.system", "command": f"touch {file}"}
    source = {"_code": "def forward(self): pass"}
    execute = {
        "_target_": "torch.fx.graph_module.reduce_graph_module",
        "body": source,
        "import_block": f"open({str(file)!r}, 'w')\n",
    }
    foreign = {"_target_": "foreign_package.Net", "in_features": 1, "out_features": 1}
    trusting = {"trusted_packages": ["foreign_package", "os", "posix", "torch"]}

    def source_is(node: dict[str, Any]) -> Tamper:
        return lambda values: values["dataset"].update(source=node)

    def model_is(node: dict[str, Any], **others: Any) -> Tamper:
        return lambda values: values.update(model=node, **others)

    return {
        "source": source_is(touch),
        "source of a foreign package": source_is(foreign),
        "model": model_is(touch),
        "model that trusts itself": model_is(touch | {"_target_": "torch.os.system"}, **trusting),
        "argument": lambda values: values["model"].update(activation=touch),
        "list in an argument": lambda values: values["model"].update(widths=[[touch]]),
        "partial": lambda values: values["model"].update(activation=touch | {"_partial_": True}),
        "positional": model_is({"_target_": "torch.nn.Sequential", "_args_": [touch]}),
        "alias": model_is(touch | {"_target_": "torch.serialization.os.system"}),
        "annotated function": model_is(execute),
        "annotated function that the folder trusts": model_is(execute, **trusting),
        "foreign package": model_is(foreign),
        "foreign package that the folder trusts": model_is(foreign, **trusting),
        "foreign package in an argument": lambda values: values["model"].update(activation=foreign),
    }


@pytest.mark.parametrize("consistently", [False, True])
@pytest.mark.parametrize("way", commands(Path()))
def test_nothing_that_a_folder_names_is_run(way: str, consistently: bool, received: Path, trace: Path) -> None:
    tamper(received, commands(trace)[way], consistently=consistently)
    message = "_target_=.*[Nn]o(t called|thing of it was imported)" if consistently else "config.yaml is not the config"
    with pytest.raises(UserError, match=message):
        evaluate(received)
    if "source" not in way:  # which is no part of a network
        with pytest.raises(UserError, match=message):
            package.load_model(received)
    assert not trace.exists()


def test_network_of_a_package_that_the_user_names(received: Path, trace: Path) -> None:
    """Typed in any of the two ways, it is imported; that this one does not fit is found later."""
    tamper(received, commands(trace)["foreign package"], consistently=True)
    for trusting in ("trusted_packages=[foreign_package]", "model._target_=foreign_package.Net"):
        trace.unlink(missing_ok=True)
        sys.modules.pop("foreign_package", None)
        with pytest.raises(UserError, match="do not fit Net"):
            evaluate(received, trusting)
        assert trace.exists()
    with pytest.raises(UserError, match="do not fit Net"):
        package.load_model(received, trusted_packages=["foreign_package"])


def test_definitions_of_timm_that_would_be_fetched(received: Path) -> None:
    node = {"_target_": "timm.create_model", "model_name": "hf-hub:somebody/something"}
    tamper(received, lambda values: values.update(model=node), consistently=True)
    with pytest.raises(UserError, match="Expected a name of timm's own"):
        evaluate(received)


@pytest.mark.parametrize("without", ["result.json", "config_hash"])
def test_checkpoint_of_another_configuration(without: str, received: Path) -> None:
    """The checkpoint has the hash, too."""
    tamper(received, lambda values: values["optimizer"].update(lr=0.5), consistently=False)
    result = json.loads((received / "result.json").read_text())
    (received / "result.json").unlink()
    if without == "config_hash":
        del result["config_hash"]
        (received / "result.json").write_text(json.dumps(result))
        with pytest.raises(UserError, match="made by another configuration"):
            package.load_model(received)
    with pytest.raises(UserError, match="made by another configuration"):
        evaluate(received)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['touch trace']", "cannot be read"),
        ("a: &a [*a]", "cannot be read"),
        ("[1]", "does not hold a configuration"),
        ("name: ../../x", "config.yaml is not the configuration of a run"),
        ("", "does not hold a configuration"),
    ],
)
def test_other_files(text: str, message: str, received: Path) -> None:
    (received / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        evaluate(received)


def test_interpolations_are_text(received: Path, trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREIGN", "foreign_package.Net")
    tamper(received, lambda values: values["model"].update(_target_="${oc.env:FOREIGN}"), consistently=True)
    with pytest.raises(UserError, match=r"\$\{oc\.env:FOREIGN\}"):
        evaluate(received)
    assert not trace.exists()


# --- a run of another machine


@pytest.mark.parametrize("root", ["elsewhere", "another"])
def test_standard_set_lies_where_this_machine_has_it(root: str, received: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    source = {"_target_": "cnnzoo.data.sources.torchvision_set", "name": "MNIST", "root": elsewhere}
    tamper(
        received, lambda values: values["dataset"].update(source=source, root=f"{tmp_path}/{root}"), consistently=True
    )
    _, config = as_trained(compose(["paths.data=/here"], "evaluate"), received)
    assert (config.dataset.root, config.dataset.cache, config.paths.data) == ("/here", "/here", "/here")
    assert "root" not in config.dataset.source
    with pytest.raises(UserError, match=f"MNIST is missing or damaged in {tmp_path}/here"):
        evaluate(received, f"paths.data={tmp_path}/here")
    assert not Path(elsewhere).exists()


def test_folder_of_images_that_lies_elsewhere_here(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "there" / name).mkdir(parents=True)
    trained = compose(["dataset=image_folder", f"dataset.root={tmp_path}/there"])
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(trained)))
    (tmp_path / "there").rename(tmp_path / "here")
    with pytest.raises(UserError, match=rf"images lay in {tmp_path}/there.*dataset\.root=FOLDER"):
        as_trained(compose([], "evaluate"), folder)
    original, config = as_trained(compose([f"dataset.root={tmp_path}/here"], "evaluate"), folder)
    assert config.dataset.source["root"] == config.dataset.root == f"{tmp_path}/here"
    assert config.dataset.name == "there"
    assert original == trained


def test_run_on_images_that_lie_elsewhere_here(tmp_path: Path) -> None:
    """Where they lie is part of the run's identity, which is that of the machine that trained."""
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / "there" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (100 * index, 10 * number, 0)).save(tmp_path / "there" / name / f"{number}.png")
    trained = compose([*RUN[1:], "dataset=image_folder", f"dataset.root={tmp_path}/there", "dataset.image_size=8"])
    result = run(trained)
    (tmp_path / "there").rename(tmp_path / "here")
    evaluation = evaluate(run_folder(trained), f"dataset.root={tmp_path}/here")
    assert evaluation["test_loss"] == result["test_loss"]
    assert not (tmp_path / "there").exists()


# --- networks that end the process

EXITS = """
import sys
from torch import nn

class Constructor(nn.Module):
    def __init__(self):
        super().__init__()
        sys.exit()

class Forward(nn.Linear):
    def __init__(self):
        super().__init__(1, 10)
    def forward(self, x):
        sys.exit(0)

class Quit(SystemExit):
    pass

class Subclass(Forward):
    def forward(self, x):
        raise Quit()
"""


@pytest.mark.parametrize(
    ("verb", "name"), [("summary", "Constructor"), ("summary", "Forward"), ("summary", "Subclass"), ("run", "Subclass")]
)
def test_exit_is_a_failure(verb: str, name: str, cnnzoo: Command, tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text(EXITS)
    others = [override for override in RUN if not override.startswith("model=")]
    seeds = ("-m", "seed=1,2") if verb == "run" else ()
    answer = cnnzoo(verb, *seeds, *others, "model=mlp", f"model._target_=exits.{name}", "~model.num_classes")
    assert answer.returncode == 1, answer.stderr
    assert re.search(r"called sys\.exit\(|failed: SystemExit", answer.stderr)
    assert "Traceback" not in answer.stderr
    if verb == "run":  # the second job ran as well
        assert len(list(tmp_path.glob("outputs/digits/*/*/result.json"))) == 2


# --- files of a recipe


def test_recipe_file_runs_nothing(cnnzoo: Command, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    copy = f"{{_target_: shutil.copyfile, src: {tmp_path}/kept, dst: {tmp_path}/trace}}"
    handler = f"{{'()': shutil.copyfile, src: {tmp_path}/kept, dst: {tmp_path}/trace}}"
    recipes = {
        "callbacks": f"hydra: {{callbacks: {{mine: {copy}}}}}",
        "logging": f"hydra: {{job_logging: {{handlers: {{mine: {handler}}}, root: {{handlers: [mine]}}}}}}",
        "early_logging": f"hydra: {{hydra_logging: {{handlers: {{mine: {handler}}}, root: {{handlers: [mine]}}}}}}",
        "source": f"dataset: {{source: {copy}}}",
        "trusting": "trusted_packages: [shutil]",
    }
    (tmp_path / "recipes" / "experiment").mkdir(parents=True)
    for name, text in recipes.items():
        (tmp_path / "recipes" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
        answer = cnnzoo("run", *RUN, f"experiment={name}", "--config-dir", str(tmp_path / "recipes"))
        assert answer.returncode == int(name in ("source", "trusting")), answer.stderr
        assert "Traceback" not in answer.stderr
        assert not (tmp_path / "trace").exists(), name
    answer = cnnzoo("run", *RUN, f"+hydra.callbacks.x={copy.replace(': ', ':').replace(', ', ',')}")
    assert (answer.returncode, (tmp_path / "trace").exists()) == (1, False)
    assert "callbacks.NAME._target_" in answer.stderr


@pytest.mark.parametrize(
    "param", ["trusted_packages: '[shutil]'", "model._target_: my_nets.Net", "model: '{_target_: a.B}'"]
)
def test_recipe_file_cannot_type_for_the_user(param: str, cnnzoo: Command, tmp_path: Path) -> None:
    """What a sweep adds to each run looks like a typed override there, and that would be trusted."""
    (tmp_path / "my_nets.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()\n")
    (tmp_path / "recipes" / "experiment").mkdir(parents=True)
    recipe = tmp_path / "recipes" / "experiment" / "sweeping.yaml"
    recipe.write_text(f"# @package _global_\nhydra: {{sweeper: {{params: {{{param}}}}}}}\n")
    answer = cnnzoo("run", "-m", *RUN, "experiment=sweeping", "--config-dir", str(tmp_path / "recipes"))
    assert answer.returncode == 1
    assert "hydra.sweeper.params" in answer.stderr
    assert "on the command line itself" in answer.stderr
    assert not (tmp_path / "trace").exists()
