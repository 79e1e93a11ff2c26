"""Searches over Optuna: what they try, how they resume, what they stop and what they record."""

import json
import math
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from cnnzoo.compare import main as compare
from cnnzoo.config import CONF_DIR, Config, run_folder
from cnnzoo.errors import UserError
from cnnzoo.io import exclusive_lock
from cnnzoo.results.run_folder import read_metrics, read_result, write_config, write_result
from cnnzoo.run import run
from cnnzoo.sweep.loop import run_jobs as launch_jobs
from cnnzoo.sweep.space import read_overrides
from cnnzoo.sweep.study import make_sampler

# A network small enough for a second, whose accuracy is far above chance after one epoch.
TINY = (
    "dataset=digits",
    "image_size=8",
    "model=mlp",
    "model.widths=[32]",
    "trainer.max_epochs=2",
    "logger=none",
    "trainer.progress_bar=false",
    "trainer.precision=32-true",
    "scheduler=none",
)
RATE = "optimizer.lr=tag(log,interval(1e-4,1))"


def search(*overrides: str) -> None:
    """A search on the command line, in this process."""
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("run", create_config_search_path(str(CONF_DIR)))
    try:
        hydra.multirun("run", lambda cfg: None, ["hydra/sweeper=optuna", *TINY, *overrides])
    finally:
        GlobalHydra.instance().clear()


class Accuracies:
    """Stands in for `run`: an accuracy that is highest for a learning rate of 0.01, written as a run writes it."""

    def __init__(self, accuracy: Callable[[Config], float | None] | None = None) -> None:
        self.accuracy = accuracy or (lambda config: 1 - abs(math.log10(config.optimizer["lr"]) + 2) / 10)
        self.configs: list[Config] = []

    @property
    def rates(self) -> list[float]:
        return [config.optimizer["lr"] for config in self.configs]

    def __call__(self, config: Config, command: str, pruning: Any) -> None:
        self.configs.append(config)
        folder = run_folder(config)
        write_config(folder, config)
        done = {"model": "mlp", "dataset": "digits", "seed": config.seed, "images_per_second": 1.0}
        write_result(folder, done | {"status": "completed", "val_accuracy": self.accuracy(config)})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Accuracies]:
    """Put `Accuracies` in the place of real runs from now on."""

    def replace(*args: Any) -> Accuracies:
        fake = Accuracies(*args)
        monkeypatch.setattr("cnnzoo.run.run", fake)
        return fake

    return replace


Runs = Callable[..., Accuracies]


def study(outputs: Path) -> optuna.Study:
    """The one study below a folder of outputs."""
    (path,) = outputs.glob(".searches/*/study.db")
    return optuna.load_study(study_name=path.parent.name, storage=f"sqlite:///{path}")


def states(found: optuna.Study) -> list[str]:
    return [trial.state.name for trial in found.trials]


SPACES = [
    ("x=interval(0,1)", FloatDistribution(0, 1)),
    ("x=tag(log,interval(1e-3,1))", FloatDistribution(1e-3, 1, log=True)),
    ("x=int(interval(2,8))", IntDistribution(2, 8)),
    ("x=tag(log,int(interval(2,8)))", IntDistribution(2, 8, log=True)),
    ("x=range(5,30,5)", IntDistribution(5, 25, step=5)),  # Python's range(5, 30, 5)
    ("x=range(3,0,-1)", IntDistribution(1, 3)),
    ("x=range(0.25,1.0,0.25)", FloatDistribution(0.25, 0.75, step=0.25)),
    ("x=relu,gelu", CategoricalDistribution(["relu", "gelu"])),
    ("+x=choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
]


@pytest.mark.parametrize(("override", "distribution"), SPACES, ids=[override for override, _ in SPACES])
def test_hydras_sweep_syntax(override: str, distribution: BaseDistribution) -> None:
    fixed, space = read_overrides(["x=1", "+x=2", "y=[1,2]", "~z", override], None)  # type: ignore[arg-type]
    key = override.partition("=")[0]
    assert space == {key: distribution}
    assert {"y": "y=[1,2]", "~z": "~z"}.items() <= fixed.items()
    assert key not in fixed, "of one key, the last override holds"


MISTAKES = [
    ((), "Nothing to search"),
    (("optimizer.lr=tag(log,interval(0,1))",), r"optimizer\.lr=.*low.*log"),
    (("optimizer.lr=interval(1,0.1)",), r"optimizer\.lr="),
    (("trainer.max_epochs=range(3,3)",), "empty"),
    (("optimizer.lr=tag(ln,interval(0.1,1))",), "'log'"),
    (("model=tag(log,choice(mlp,resnet))",), "'log'"),
    (("model=glob(nothing*)",), r"model=glob\(nothing\*\)"),
    ((RATE, "dataset.val_size=0"), "a search chooses by validation accuracy"),
    ((RATE, "hydra.sweeper.n_trials=0"), "n_trials=0: expected a whole number"),
    ((RATE, "hydra.sweeper.n_jobs=two"), "n_jobs=two: expected a whole number"),
    ((RATE, "hydra.sweeper.sampler._target_=optuna.samplers.TPESampel"), "Did you mean 'TPESampler'"),
    ((RATE, "hydra.sweeper.sampler._target_=os.system"), "expected a class of optuna's BaseSampler"),
    ((RATE, "+hydra.sweeper.pruner.n_warmup=1"), "Did you mean 'n_warmup_steps'"),
    ((RATE, "hydra.sweeper.storage=nonsense"), r"hydra\.sweeper\.storage=nonsense"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_before_anything_is_run(overrides: tuple[str, ...], message: str, tmp_path: Path, runs: Runs) -> None:
    fake = runs()
    with pytest.raises(UserError, match=message):
        search(*overrides)
    assert not fake.configs
    assert not list(tmp_path.rglob("*.db"))


def test_optuna_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "cnnzoo\[optuna\]"'):
        search(RATE)


def test_hydras_start_imports_no_optuna() -> None:
    code = (
        "import sys; from hydra.core.plugins import Plugins; from hydra.plugins.sweeper import Sweeper;"
        "print([s.__name__ for s in Plugins.instance().discover(Sweeper)], 'optuna' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF_DIR.parent
    )
    assert "OptunaSweeper" in answer.stdout
    assert answer.stdout.strip().endswith("False")


@pytest.mark.parametrize("name", ["RandomSampler", "TPESampler", "QMCSampler"])
def test_parameters_cover_their_range(name: str) -> None:
    _, space = read_overrides([RATE], None)  # type: ignore[arg-type]
    found = optuna.create_study()
    for number in range(40):
        sampler = make_sampler({"_target_": f"optuna.samplers.{name}", "seed": 0}, number)
        assert sampler is not None
        found.sampler = sampler
        found.tell(found.ask(dict(space)), 0.5)
    rates = [trial.params["optimizer.lr"] for trial in found.trials]
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert len(set(rates)) == 40
    decades = [math.floor(math.log10(rate)) for rate in rates]
    # 10 of 40 are expected in each; of random draws, fewer than 3 would be one case in 2,000, and the seed is fixed
    assert all(decades.count(decade) >= 3 for decade in (-4, -3, -2, -1))


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: Runs) -> None:
    fake = runs()
    search(RATE, "hydra.sweeper.n_trials=4")
    best = min(fake.rates, key=lambda rate: abs(math.log10(rate) + 2))
    found = study(tmp_path / "outputs")
    assert found.best_params == {"optimizer.lr": best}
    assert found.best_value == 1 - abs(math.log10(best) + 2) / 10
    out = capsys.readouterr().out
    assert f"optimizer.lr={best!r}" in out
    assert "4 trials: 4 completed" in out


def test_interrupted_search_ends_as_if_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Runs
) -> None:
    parts = []
    for trials in (3, 5, 5):
        fake = runs()
        search(RATE, f"hydra.sweeper.n_trials={trials}")
        parts.append(fake.rates)
    assert [len(part) for part in parts] == [3, 2, 0]
    monkeypatch.setenv("CNNZOO_OUTPUTS", str(tmp_path / "elsewhere"))
    whole = runs()
    search(RATE, "hydra.sweeper.n_trials=5")
    assert parts[0] + parts[1] == whole.rates
    assert len(set(whole.rates)) == 5


def test_killed_trial_is_repeated(tmp_path: Path, runs: Runs) -> None:
    """The process dies by SIGKILL in its third trial; the lock on the study dies with it."""
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from test_search import *\n"
        "import cnnzoo.run\n"
        "class Killed(Accuracies):\n"
        "    def __call__(self, *args):\n"
        "        return os.kill(os.getpid(), signal.SIGKILL) if len(self.rates) == 2 else super().__call__(*args)\n"
        "sys.modules['cnnzoo.run'].run = Killed()\n"
        "search(RATE, 'hydra.sweeper.n_trials=4')"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent)], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    before = study(tmp_path / "outputs")
    assert states(before) == ["COMPLETE", "COMPLETE", "RUNNING"]
    fake = runs()
    search(RATE, "hydra.sweeper.n_trials=4")
    assert fake.rates[0] == before.trials[2].params["optimizer.lr"]
    assert len(fake.rates) == 2
    assert states(study(tmp_path / "outputs")) == ["COMPLETE"] * 4


def test_failed_trial_is_recorded(tmp_path: Path, runs: Runs) -> None:
    def accuracy(config: Config) -> float | None:
        if config.seed == 2:
            raise RuntimeError("no")
        return None if config.seed == 3 else 0.5

    runs(accuracy)
    search("seed=1,2,3,-1", "hydra.sweeper.n_trials=8")  # -1 is refused when it is composed
    found = study(tmp_path / "outputs")
    outcomes = {trial.params["seed"]: trial.state.name for trial in found.trials}
    assert outcomes == {"1": "COMPLETE", "2": "FAIL", "3": "FAIL", "-1": "FAIL"}
    assert len(found.trials) == 8


def test_exhausted_sampler_goes_on_to_n_trials(tmp_path: Path, runs: Runs) -> None:
    runs(lambda config: 0.5)
    brute_force = ("hydra.sweeper.sampler._target_=optuna.samplers.BruteForceSampler", "hydra/sweeper/sampler=random")
    search("seed=1,2", "hydra.sweeper.n_trials=3", *brute_force)
    found = study(tmp_path / "outputs").trials
    assert {trial.params["seed"] for trial in found[:2]} == {"1", "2"}
    assert len(found) == 3


def test_a_batch_holds_each_run_once(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(lambda config: 0.5)
    batches: list[list[Path]] = []

    def run_jobs(jobs: Any, *args: Any) -> None:
        batches.append([job.folder for job in jobs])
        launch_jobs(jobs, *args)

    monkeypatch.setattr("cnnzoo.sweep.search.run_jobs", run_jobs)
    search("optimizer.lr=0.1,0.2", "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=3")
    assert sum(map(len, batches)) == 5
    assert all(len(set(batch)) == len(batch) for batch in batches)
    assert max(map(len, batches)) == 2  # three trials at once, of two possible runs
    assert states(study(tmp_path / "outputs")) == ["COMPLETE"] * 5


def test_two_searches_share_no_study(tmp_path: Path, runs: Runs) -> None:
    runs()
    outputs = tmp_path / "outputs"
    search(RATE, "hydra.sweeper.n_trials=1")
    search(RATE, "hydra.sweeper.n_trials=1", "seed=7")
    search("optimizer.lr=interval(1e-4,1)", "hydra.sweeper.n_trials=1")
    assert len(list(outputs.glob(".searches/*"))) == 3
    search(RATE, "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine")
    with pytest.raises(UserError, match=r"differ: optimizer\.lr\. .*study_name"):
        search("optimizer.lr=0.1,0.2", "hydra.sweeper.study_name=mine")
    with pytest.raises(UserError, match=r"differ: seed, trainer\.max_epochs\."):
        search(RATE, "seed=7", "trainer.max_epochs=3", "hydra.sweeper.study_name=mine")
    with (
        exclusive_lock(outputs / ".searches" / "mine" / ".lock"),
        pytest.raises(UserError, match="Another process is at this search"),
    ):
        search(RATE, "hydra.sweeper.study_name=mine")


def test_search_from_a_file(tmp_path: Path, runs: Runs) -> None:
    """The command line wins over it; what it sets next to Hydra's part would not be in the run that repeats a trial."""
    (tmp_path / "search").mkdir()
    head = "# @package _global_\nhydra:\n  sweeper:\n    n_trials: 2\n    params: {optimizer.lr: '0.1,0.2', seed: 3}\n"
    (tmp_path / "search" / "good.yaml").write_text(head)
    (tmp_path / "search" / "bad.yaml").write_text(head + "loss:\n  label_smoothing: 0.1\n")
    fake = runs()
    where = f"hydra.searchpath=[file://{tmp_path}]"
    search(where, "search=good", "optimizer.lr=0.3,0.4")
    assert 1 <= len(fake.configs) <= 2  # two trials, which may be of the same run
    assert {(config.optimizer["lr"], config.seed) for config in fake.configs} <= {(0.3, 3), (0.4, 3)}
    with pytest.raises(UserError, match=r"search=bad sets loss\.label_smoothing"):
        search(where, "search=bad")


def test_hopeless_trial_is_pruned_and_can_be_finished_later(
    tmp_path: Path, config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate of 1e-12 stays at chance, 0.01 is above 40 % after one epoch."""
    threshold = (
        "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
        "+hydra.sweeper.pruner.lower=0.4",
        "~hydra.sweeper.pruner.n_startup_trials",
        "hydra.sweeper.pruner.n_warmup_steps=0",
    )
    search("optimizer.lr=0.01,1e-12", "hydra.sweeper.n_trials=4", *threshold)
    plain = {rate: config(*TINY, f"optimizer.lr={rate}") for rate in ("0.01", "1e-12")}
    results = {rate: read_result(run_folder(each)) or {} for rate, each in plain.items()}
    trials = {trial.params["optimizer.lr"]: trial for trial in study(tmp_path / "outputs").trials}

    good, pruned = results["0.01"], results["1e-12"]
    assert (good["status"], good["epochs"]) == ("completed", 2)
    assert trials["0.01"].state == TrialState.COMPLETE
    assert trials["0.01"].value == good["val_accuracy"]

    assert (pruned["status"], pruned["epochs"]) == ("pruned", 1)
    assert not {"test_accuracy", "test_loss"} & pruned.keys()
    assert trials["1e-12"].state == TrialState.PRUNED
    assert pruned["val_accuracy"] == trials["1e-12"].value
    assert pruned["val_accuracy"] < 0.4

    assert "2 runs: 1 done, 1 pruned" in _compared(capsys, str(tmp_path / "outputs"), "--status")
    assert "1 run stopped early by a search" in _compared(capsys, str(tmp_path / "outputs"))

    finished = run(plain["1e-12"])
    assert (finished["status"], finished["epochs"]) == ("completed", 2)
    assert "test_accuracy" in finished
    assert "resuming from" in (run_folder(plain["1e-12"]) / "run.log").read_text()


def _compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert compare(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_study_sees_validation_accuracy_alone(tmp_path: Path, config: Callable[..., Config]) -> None:
    search("optimizer.lr=0.01,0.02", "hydra.sweeper.n_trials=2")
    for trial in study(tmp_path / "outputs").trials:
        each = config(*TINY, f"optimizer.lr={trial.params['optimizer.lr']}")
        accuracies = dict(enumerate(read_metrics(run_folder(each))["val_accuracy"], start=1))
        result = json.loads((run_folder(each) / "result.json").read_text())
        # nothing was reported where the same run was finished by an earlier trial
        assert trial.intermediate_values in (accuracies, {})
        assert trial.value == max(accuracies.values()) == result["val_accuracy"]


def test_command_line(cnnzoo: Callable[..., Any], tmp_path: Path) -> None:
    command = ("search=adam", *(word for word in TINY if "lr" not in word), "hydra.sweeper.n_trials=2")
    answer = cnnzoo("run", *command)
    assert answer.returncode == 0, answer.stderr
    assert "2 trials: 2 completed" in answer.stdout
    again = next(line for line in answer.stdout.splitlines() if line.startswith("the best again: "))
    best = shlex.split(again)[6:]
    assert not any("search" in word or "hydra" in word for word in best)
    once_more = cnnzoo("run", *best)
    assert once_more.returncode == 0, once_more.stderr
    assert "already finished" in once_more.stderr
    repeated = cnnzoo("run", *command)
    assert repeated.returncode == 0, repeated.stderr
    assert repeated.stdout == answer.stdout
