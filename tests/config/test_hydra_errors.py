"""One message for an error of Hydra or OmegaConf."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from cnnzoo.config.compose import CONF_DIR, compose
from cnnzoo.config.hydra_errors import explain
from cnnzoo.errors import UserError


def message(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        compose(overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr=0.1", "optimizer.lr"),
        ("epochs=3", "trainer.max_epochs"),
        ("batch_size=3", "dataset.batch_size"),
        ("model.lr=0.1", "optimizer.lr"),
        ("trainer.epochs=3", "trainer.max_epochs"),
        ("trainer.weight_decay=3", "optimizer.weight_decay"),
        ("optimzer.lr=3", "optimizer"),
    ],
)
def test_the_key_that_is_meant(typed: str, meant: str) -> None:
    assert f"no such key. Did you mean '{meant}'?" in message(typed)


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("name=ü", """'name="ü"'"""),
        ("paths.data=~/data", """'paths.data="~/data"'"""),
        ("paths.data=/a b(c)", """'paths.data="/a b(c)"'"""),
        ("name=a'b", """'name="a'"'"'b"'"""),
    ],
)
def test_texts_that_need_quotes(typed: str, quoted: str) -> None:
    text = message(typed)
    assert text.startswith(f"{typed}: ")
    assert text.endswith(f"needs quotes of its own: {quoted}")


def test_no_key_and_value() -> None:
    assert message("foo") == "foo: not of the form KEY=VALUE or GROUP=CHOICE."


FILES = {
    "no package": (
        "seed: 3",
        "no such key. experiment=CHOICE chooses a file of conf/experiment, and the first",
    ),
    "no YAML": ("# @package _global_\nmodel: [", "x.yaml, line 2: not YAML: "),
    "a tag": ("# @package _global_\nseed: !!python/name:os.system", "x.yaml, line 2: not YAML: could not determine a"),
    "twice": ("# @package _global_\nseed: 1\nseed: 2", "x.yaml, line 3: not YAML: found duplicate key seed"),
    "another encoding": ("# @package _global_\nname: \udcff", "A YAML file is not UTF-8"),
    "a default without override": (
        "# @package _global_\ndefaults:\n- model: densenet",
        "To choose from the group model, a file's defaults list has `override /model: densenet`.",
    ),
}


@pytest.mark.parametrize(("text", "expected"), FILES.values(), ids=FILES.keys())
def test_recipe_files(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "x.yaml").write_bytes(text.encode(errors="surrogateescape"))
    own = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=x"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), pytest.raises(Exception) as error:  # noqa: PT011
        hydra_compose("run", own)
    assert expected in explain(error.value, CONF_DIR)


def test_key_that_only_the_networks_of_a_sweep_have(cnnzoo: Callable[..., Any]) -> None:
    answer = cnnzoo("run", "-m", "model=densenet,densenet_bc", "model.growth_rate=4")
    assert answer.returncode == 1
    assert "in a sweep over model, ++model.growth_rate=VALUE sets it in each" in answer.stderr
    for network in ("densenet", "densenet_bc"):
        assert compose([f"model={network}", "++model.growth_rate=4"]).model["growth_rate"] == 4
