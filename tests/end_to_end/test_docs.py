"""What README and docs/ show works: commands compose or run, code runs, links lead somewhere, the site builds."""

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from cnnzoo.cli import VERBS
from cnnzoo.config import CONF_DIR, compose
from tests.factories import PUBLISHED, config, write_completed

ROOT = CONF_DIR.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# verbs that compose a configuration, and its file in conf/
COMPOSING = ("run", "evaluate", "summary", "bench", "figures data", "figures model")
PRIMARY = {verb: verb.replace(" ", "_") for verb in COMPOSING}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    fences = [
        Block(page, *match.groups())
        for page in PAGES
        for match in re.finditer(r"^```(\S*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    return [block for block in fences if block.language in languages]


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def _inline(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", _prose(page))


LINES = sorted({re.sub(r"\s+# .*", "", line) for block in blocks("bash") for line in block.text.splitlines()} - {""})
# in the text too, but those with a placeholder
INLINE = {text for page in PAGES for text in _inline(page) if re.match(r"python -m cnnzoo\.\w+ [^…]+$", text)}
COMMANDS = sorted({line for line in {*LINES, *INLINE} if line.startswith("python -m cnnzoo.")})


def _verb(command: str) -> tuple[str, list[str]]:
    verb, *words = shlex.split(command.removeprefix("python -m cnnzoo."))
    return (f"figures {words[0]}", words[1:]) if verb == "figures" else (verb, words)


COMPOSED = [c for c in COMMANDS if _verb(c)[0] in PRIMARY and "--config-dir" not in c]
ON_RUNS = [c for c in COMMANDS if _verb(c)[0] in ("compare", "figures runs", "clean")]
PARSED = [c for c in COMMANDS if _verb(c)[0] not in PRIMARY]


def test_every_verb_is_shown() -> None:
    assert {_verb(command)[0].split()[0] for command in COMMANDS} == set(VERBS)


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_of_a_known_kind(line: str) -> None:
    """So that no command goes untested."""
    makefile = (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    match shlex.split(line):
        case ["python", "-m", module, *_]:
            assert module.startswith("cnnzoo."), line
        case ["python", script, *_]:
            assert (ROOT / script).is_file(), line
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), line
        case ["pip", "install", what]:
            assert set(re.findall(r"\w+", what)) <= {*extras}, line
        case _:
            assert line == "source .venv/bin/activate"


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of images that the text has for an example."""
    for name in ("daisy", "rose"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "flowers" / name / "1.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMPOSED)
@pytest.mark.usefixtures("flowers")
def test_a_command_composes(command: str) -> None:
    if "dataset=huggingface" in command:
        pytest.importorskip("datasets", reason="needs the extra huggingface")
    verb, words = _verb(command)
    words = [word for word in words if word not in ("-m", "--cfg", "job", "--help")]
    # of a sweep its first job, and of a search one trial
    first = [word if "[" in word else word.split(",")[0] for word in words if not word.endswith("))")]
    compose([word.replace("glob(uvadlc/*)", "uvadlc/resnet") for word in first if not _is_own(word)], PRIMARY[verb])


def _is_own(word: str) -> bool:
    """Whether it is about the network that the page shows, which a test below trains."""
    return "my_nets." in word or word.startswith("+model.")


@pytest.mark.parametrize("command", PARSED)
def test_a_command_parses(command: str) -> None:
    verb, words = _verb(command)
    importlib.import_module(f"cnnzoo.{verb.replace(' ', '.')}").parser().parse(words)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for dataset in ("cifar10", "digits"):
        for model, test in {"resnet": 0.91, "densenet": 0.90}.items():
            for seed in (1, 2, 3):
                settings = config(model, dataset, seed)
                root, accuracy = Path("outputs") / dataset, test + 0.002 * (seed % 3)
                folder = write_completed(root, model, seed, accuracy, config=settings, published=PUBLISHED)
                rows = [f"{epoch},{accuracy},{accuracy}" for epoch in range(3)]
                (folder / "metrics.csv").write_text("\n".join(["epoch,val_accuracy,train_accuracy", *rows]) + "\n")


@pytest.mark.parametrize("command", [c for c in ON_RUNS if "--watch" not in c])
@pytest.mark.usefixtures("runs")
def test_a_command_on_runs_runs(command: str) -> None:
    verb, words = _verb(command)
    assert importlib.import_module(f"cnnzoo.{verb.replace(' ', '.')}").main(words) in (None, 0)


@cache
def _settings() -> list[str]:
    """`KEY=VALUE` in the text; `KEY=A|B` is two of them."""
    # without first cells of tables, which have what another library calls it
    texts = [re.sub(r"^\| [^|]+\|", "", _prose(page), flags=re.MULTILINE) for page in PAGES]
    typed = re.findall(r"`([a-z_][\w./]*)=([^\s…<>A-Z`]+)`", "\n".join(texts))
    return sorted({f"{key}={value}" for key, values in typed for value in values.split("|")})


# What else must be chosen, so that a key is there.
CONTEXT = {
    "model.growth_rate": ["model=densenet"],
    "model.name": ["model=torchvision"],
    "model.width": ["model=mlp", "+model.width=1"],  # of a network that the page shows
    "dataset.source.unreadable": ["dataset=image_folder", "dataset.root=flowers"],
    "dataset.source.test_size": ["dataset=image_folder", "dataset.root=flowers"],
    "hydra.launcher.n_jobs": ["hydra/launcher=joblib"],
    "hydra.launcher.ray.remote.num_cpus": ["hydra/launcher=ray"],
    "hydra.sweeper.n_jobs": ["hydra/sweeper=optuna"],
}


@pytest.mark.parametrize("setting", _settings())
@pytest.mark.usefixtures("flowers")
def test_a_setting_in_the_text_composes(setting: str) -> None:
    key = setting.partition("=")[0]
    compose([*CONTEXT.get(key, []), setting], "figures_data" if key == "formats" else "run")


def _write_files(page: Path, folder: Path) -> list[Path]:
    """The files that a page shows, by the comments of their first lines."""
    written = []
    for block in blocks("python", "yaml"):
        if block.page == page and (name := re.match(r"# ([\w/]+\.(?:py|yaml))\n", block.text)):
            written.append(folder / name[1])
            written[-1].parent.mkdir(parents=True, exist_ok=True)
            written[-1].write_text(block.text)
    return written


@pytest.mark.parametrize("page", ["networks.md", "data.md"])
def test_files_of_ones_own_train(page: str, tmp_path: Path, cnnzoo: Callable[..., Any]) -> None:
    assert len(_write_files(ROOT / "docs" / page, tmp_path)) == 2
    (command,) = [c for c in COMMANDS if "--config-dir my_conf" in c and c in (ROOT / "docs" / page).read_text()]
    words = [word for word in _verb(command)[1] if word != "-m"]
    last = [re.sub("=.*,", "=", word) for word in words]
    answer = cnnzoo("run", *last, "trainer=cpu", "trainer.max_epochs=1", "logger=none")
    assert answer.returncode == 0, answer.stderr
    assert "test accuracy" in answer.stderr + answer.stdout


CODE = [block for block in blocks("python") if not re.match(r"# [\w/]+\.py\n", block.text)]


@pytest.mark.parametrize("block", CODE, ids=lambda block: block.page.name)
def test_code_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block.page), "exec"), {})


def _links(page: Path) -> Iterator[tuple[str, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", _prose(page)):
        path, _, anchor = (target[0] or target[1]).partition("#")
        if not re.match(r"[a-z]+:", path):
            yield path, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page: Path) -> None:
    for path, anchor in _links(page):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in map(_slug, re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)), f"{path}#{anchor}"
    for text in _inline(page):
        if re.fullmatch(r"(?:conf|tests|benchmarks|cnnzoo|docs)/[a-z\d/_.-]+", text):
            assert (ROOT / text).exists(), text


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_in_the_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [*PAGES[1:], *NOTEBOOKS]
    names = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in pages} - {"index"}
    contents = re.findall(r"^[\w/-]+$", "".join(re.findall(r"```{toctree}(.*?)```", index, re.DOTALL)), re.MULTILINE)
    assert sorted(contents) == sorted(names)
    readme = (ROOT / "README.md").read_text()
    assert all(f"docs/{page.relative_to(ROOT / 'docs')}" in readme for page in pages if page.stem != "index")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra docs")
    nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra docs")
    pytest.importorskip("ipykernel", reason="notebooks need the extra docs")
    monkeypatch.setenv("CNNZOO_OUTPUTS", "outputs")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells), "keep no outputs"
    done = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    texts = [str(output) for cell in done.cells for output in cell.get("outputs", [])]
    expected = "image/png" if path.stem == "sweep" else "small_net"
    assert any(expected in text for text in texts), texts


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path: Path) -> None:
    """`make docs`, but the notebooks, which have their own test."""
    pytest.importorskip("myst_nb", reason="the site needs the extra docs")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "nb_execution_mode=off"]
    answer = subprocess.run([*build, str(ROOT / "docs"), str(tmp_path / "html")], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    reference = (tmp_path / "html" / "api.html").read_text()
    for name in ("cnnzoo.compose", "cnnzoo.run", "cnnzoo.load_results", "cnnzoo.load_model"):
        assert f'id="{name}"' in reference
