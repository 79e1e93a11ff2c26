"""Searches over Optuna: what they try, how they go on after being killed, what they stop and what they record."""

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from cnnzoo.compare import main as compare
from cnnzoo.config import CONF_DIR, to_plain
from cnnzoo.errors import UserError
from cnnzoo.results.record import locked, read_result, run_folder, write_result
from cnnzoo.results.sweeps import Planned, Progress, SweepRecord
from cnnzoo.run import run
from cnnzoo.search.space import read_overrides
from cnnzoo.search.study import make_sampler
from cnnzoo.search.trial import Trial

# A network small enough for a second, whose accuracy is far above chance after one epoch.
TINY = (
    "dataset=digits", "image_size=8", "model=mlp", "model.widths=[32]", "trainer.max_epochs=2", "logger=none",
    "trainer.progress_bar=false", "trainer.precision=32-true", "scheduler=none",
)  # fmt: skip
RATE = "optimizer.lr=tag(log,interval(1e-4,1))"


def search(task, *overrides: str) -> None:
    """A search on the command line, with `task` in place of the training of a run."""
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("run", create_config_search_path(str(CONF_DIR)))
    try:
        hydra.multirun("run", task, ["hydra/sweeper=optuna", *TINY, *overrides])
    finally:
        GlobalHydra.instance().clear()


def study(outputs: Path) -> optuna.Study:
    """The one study below a folder of outputs."""
    (path,) = outputs.glob(".searches/*/study.db")
    return optuna.load_study(study_name=path.parent.name, storage=f"sqlite:///{path}")


def states(found: optuna.Study) -> list[str]:
    return [trial.state.name for trial in found.trials]


class Task:
    """Accuracy that is highest for a learning rate of 0.01; keeps what it was asked."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.rates: list[float] = []
        self.dies_at = dies_at

    def __call__(self, cfg) -> float:
        self.rates.append(cfg.optimizer.lr)
        if len(self.rates) == self.dies_at:
            raise KeyboardInterrupt
        return 1 - abs(math.log10(cfg.optimizer.lr) + 2) / 10


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("x=interval(0,1)", FloatDistribution(0, 1)),
        ("x=tag(log,interval(1e-3,1))", FloatDistribution(1e-3, 1, log=True)),
        ("x=int(interval(2,8))", IntDistribution(2, 8)),
        ("x=tag(log,int(interval(2,8)))", IntDistribution(2, 8, log=True)),
        ("x=range(5,30,5)", IntDistribution(5, 25, step=5)),  # Python's range(5, 30, 5)
        ("x=range(3,0,-1)", IntDistribution(1, 3)),
        ("x=range(0.25,1.0,0.25)", FloatDistribution(0.25, 0.75, step=0.25)),
        ("x=relu,gelu", CategoricalDistribution(["relu", "gelu"])),
        ("+x=choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hydras_sweep_syntax(override, distribution):
    fixed, space = read_overrides(["x=1", "+x=2", "y=[1,2]", "~z", override], None)
    key = override.partition("=")[0]
    assert space == {key: distribution}
    assert {"y": "y=[1,2]", "~z": "~z"}.items() <= fixed.items()
    assert key not in fixed, "of one key, the last override holds"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "Nothing to search"),
        (("optimizer.lr=tag(log,interval(0,1))",), r"optimizer\.lr=.*low.*log"),
        (("optimizer.lr=interval(1,0.1)",), r"optimizer\.lr="),
        (("trainer.max_epochs=range(3,3)",), "empty"),
        (("optimizer.lr=tag(ln,interval(0.1,1))",), "'log'"),
        (("model=tag(log,choice(mlp,resnet))",), "'log'"),
        (("model=glob(nothing*)",), r"model=glob\(nothing\*\)"),
        ((RATE, "hydra.sweeper.n_trials=0"), "n_trials=0: expected a whole number"),
        ((RATE, "hydra.sweeper.n_jobs=two"), "n_jobs=two: expected a whole number"),
        ((RATE, "hydra.sweeper.sampler._target_=optuna.samplers.TPESampel"), "Did you mean 'TPESampler'"),
        ((RATE, "+hydra.sweeper.pruner.n_warmup=1"), "Did you mean 'n_warmup_steps'"),
        ((RATE, "hydra.sweeper.storage=nonsense"), r"hydra\.sweeper\.storage=nonsense"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_named_before_anything_is_run(overrides, message, tmp_path):
    task = Task()
    with pytest.raises(UserError, match=message):
        search(task, *overrides)
    assert not task.rates
    assert not list(tmp_path.rglob("*.db"))


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "cnnzoo\[optuna\]"'):
        search(Task(), RATE)


def test_hydras_start_does_not_wait_for_optuna():
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
def test_parameters_lie_in_their_range_on_its_scale(name):
    _, space = read_overrides([RATE], None)
    found = optuna.create_study()
    for number in range(40):
        found.sampler = make_sampler({"_target_": f"optuna.samplers.{name}", "seed": 0}, number)
        found.tell(found.ask(space), 0.5)
    rates = [trial.params["optimizer.lr"] for trial in found.trials]
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert len(set(rates)) == 40
    decades = [math.floor(math.log10(rate)) for rate in rates]
    # 10 of 40 are expected in each; of random draws, fewer than 3 would be one case in 2,000, and the seed is fixed
    assert all(decades.count(decade) >= 3 for decade in (-4, -3, -2, -1))


def test_it_says_what_is_best_and_how_to_repeat_it(tmp_path, capsys):
    task = Task()
    search(task, RATE, "hydra.sweeper.n_trials=4")
    best = min(task.rates, key=lambda rate: abs(math.log10(rate) + 2))
    found = study(tmp_path / "outputs")
    assert found.best_params == {"optimizer.lr": best}
    assert found.best_value == 1 - abs(math.log10(best) + 2) / 10
    out = capsys.readouterr().out
    assert f"optimizer.lr={best!r}" in out
    assert "4 trials: 4 completed" in out


def test_a_search_goes_on_where_it_was_and_ends_as_if_never_stopped(tmp_path, monkeypatch):
    first, second, nothing, whole = Task(), Task(), Task(), Task()
    search(first, RATE, "hydra.sweeper.n_trials=3")
    search(second, RATE, "hydra.sweeper.n_trials=5")
    search(nothing, RATE, "hydra.sweeper.n_trials=5")
    assert (len(first.rates), len(second.rates), len(nothing.rates)) == (3, 2, 0)
    monkeypatch.setenv("CNNZOO_OUTPUTS", str(tmp_path / "elsewhere"))
    search(whole, RATE, "hydra.sweeper.n_trials=5")
    assert first.rates + second.rates == whole.rates
    assert len(set(whole.rates)) == 5


def test_a_killed_trial_is_repeated(tmp_path):
    """The process dies by SIGKILL in its third trial; the lock on the study dies with it."""
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from test_search import *\n"
        "class Killed(Task):\n"
        "    def __call__(self, cfg):\n"
        "        return os.kill(os.getpid(), signal.SIGKILL) if len(self.rates) == 2 else super().__call__(cfg)\n"
        "search(Killed(), RATE, 'hydra.sweeper.n_trials=4')"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent)], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    before = study(tmp_path / "outputs")
    assert states(before) == ["COMPLETE", "COMPLETE", "RUNNING"]
    task = Task()
    search(task, RATE, "hydra.sweeper.n_trials=4")
    assert task.rates[0] == before.trials[2].params["optimizer.lr"]
    assert len(task.rates) == 2
    assert states(study(tmp_path / "outputs")) == ["COMPLETE"] * 4


def test_a_failed_trial_is_recorded_and_the_others_go_on(tmp_path):
    def task(cfg):
        if cfg.seed == 2:
            raise RuntimeError("no")
        return None if cfg.seed == 3 else 0.5

    search(task, "seed=1,2,3,-1", "hydra.sweeper.n_trials=8")  # -1 is refused when it is composed
    found = study(tmp_path / "outputs")
    assert {trial.params["seed"]: trial.state.name for trial in found.trials} == {
        "1": "COMPLETE", "2": "FAIL", "3": "FAIL", "-1": "FAIL",
    }  # fmt: skip
    assert len(found.trials) == 8


def test_a_sampler_that_has_tried_everything_goes_on_to_n_trials(tmp_path):
    brute_force = ("hydra.sweeper.sampler._target_=optuna.samplers.BruteForceSampler", "hydra/sweeper/sampler=random")
    search(lambda cfg: 0.5, "seed=1,2", "hydra.sweeper.n_trials=3", *brute_force)
    found = study(tmp_path / "outputs").trials
    assert {trial.params["seed"] for trial in found[:2]} == {"1", "2"}
    assert len(found) == 3


def test_a_batch_holds_each_run_once(tmp_path):
    batches = []

    def task(cfg):
        batches.append(cfg.optimizer.lr)
        return 0.5

    search(task, "optimizer.lr=0.1,0.2", "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=3")
    assert len(batches) == 5
    assert states(study(tmp_path / "outputs")) == ["COMPLETE"] * 5


def test_two_searches_never_share_a_study_unnoticed(tmp_path):
    outputs = tmp_path / "outputs"
    search(Task(), RATE, "hydra.sweeper.n_trials=1")
    search(Task(), RATE, "hydra.sweeper.n_trials=1", "seed=7")
    search(Task(), "optimizer.lr=interval(1e-4,1)", "hydra.sweeper.n_trials=1")
    assert len(list(outputs.glob(".searches/*"))) == 3
    search(Task(), RATE, "hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=mine")
    with pytest.raises(UserError, match=r"differ: optimizer\.lr\. .*study_name"):
        search(Task(), "optimizer.lr=0.1,0.2", "hydra.sweeper.study_name=mine")
    with pytest.raises(UserError, match=r"differ: seed, trainer\.max_epochs\."):
        search(Task(), RATE, "seed=7", "trainer.max_epochs=3", "hydra.sweeper.study_name=mine")
    with locked(outputs / ".searches" / "mine"), pytest.raises(UserError, match="Another process is at this search"):
        search(Task(), RATE, "hydra.sweeper.study_name=mine")


def test_a_search_from_a_file(tmp_path):
    """The command line wins over it; what it sets beside Hydra's part would not be in the run that repeats a trial."""
    (tmp_path / "search").mkdir()
    head = "# @package _global_\nhydra:\n  sweeper:\n    n_trials: 2\n    params: {optimizer.lr: '0.1,0.2', seed: 3}\n"
    (tmp_path / "search" / "good.yaml").write_text(head)
    (tmp_path / "search" / "bad.yaml").write_text(head + "loss:\n  label_smoothing: 0.1\n")
    seen = []

    def task(cfg):
        seen.append((cfg.optimizer.lr, cfg.seed))
        return 0.5

    where = f"hydra.searchpath=[file://{tmp_path}]"
    search(task, where, "search=good", "optimizer.lr=0.3,0.4")
    assert len(seen) == 2
    assert set(seen) <= {(0.3, 3), (0.4, 3)}
    with pytest.raises(UserError, match=r"search=bad sets loss\.label_smoothing"):
        search(task, where, "search=bad")


def test_runs_of_earlier_batches_count_as_ended(tmp_path):
    """A search adds to its sweep's record batch by batch, and what was pruned before stays pruned."""
    own = SweepRecord(tmp_path / "sweep")
    jobs = [Planned(("seed=1",), str(tmp_path / "one"), 2), Planned(("seed=2",), str(tmp_path / "two"), 2)]
    own.add("the command", jobs[:1])
    with own.running():
        write_result(tmp_path / "one", {"status": "pruned"})
    time.sleep(0.05)  # more than a tick of the file system's clock
    own.add("the command", jobs[1:])
    with own.running():
        state, _ = Progress(jobs, since=own.began).look()
    assert state.counts == {"pruned": 1, "to go": 1}


def real_run(cfg):
    return run(to_plain(cfg), "", Trial.of_this_process())["val_accuracy"]


def test_a_hopeless_trial_is_pruned_and_can_be_finished_later(tmp_path, config, capsys):
    """A learning rate of 1e-12 stays at chance, 0.01 is above 40 % after one epoch."""
    threshold = (
        "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner", "+hydra.sweeper.pruner.lower=0.4",
        "~hydra.sweeper.pruner.n_startup_trials", "hydra.sweeper.pruner.n_warmup_steps=0",
    )  # fmt: skip
    search(real_run, "optimizer.lr=0.01,1e-12", "hydra.sweeper.n_trials=4", *threshold)
    plain = {rate: config(*TINY, f"optimizer.lr={rate}") for rate in ("0.01", "1e-12")}
    results = {rate: read_result(run_folder(each)) for rate, each in plain.items()}
    trials = {trial.params["optimizer.lr"]: trial for trial in study(tmp_path / "outputs").trials}

    good, pruned = results["0.01"], results["1e-12"]
    assert (good["status"], good["epochs"]) == ("completed", 2)
    assert trials["0.01"].state == TrialState.COMPLETE
    assert trials["0.01"].value == good["val_accuracy"]

    assert (pruned["status"], pruned["epochs"]) == ("pruned", 1)
    assert not {"test_accuracy", "test_loss"} & pruned.keys()
    assert trials["1e-12"].state == TrialState.PRUNED
    assert pruned["val_accuracy"] == trials["1e-12"].value < 0.4

    out = status(tmp_path / "outputs", capsys)
    assert "2 runs: 1 done, 1 pruned" in out
    assert "1 run stopped early by a search" in table(tmp_path / "outputs", capsys)

    finished = run(plain["1e-12"], "")
    assert (finished["status"], finished["epochs"]) == ("completed", 2)
    assert "test_accuracy" in finished
    log = (run_folder(plain["1e-12"]) / "run.log").read_text()
    assert "going on from" in log


def status(outputs: Path, capsys) -> str:
    capsys.readouterr()
    assert compare([str(outputs), "--status"]) == 0
    return capsys.readouterr().out


def table(outputs: Path, capsys) -> str:
    capsys.readouterr()
    assert compare([str(outputs)]) == 0
    return capsys.readouterr().out


def test_a_study_sees_validation_accuracy_alone(tmp_path, config):
    search(real_run, "optimizer.lr=0.01,0.02", "hydra.sweeper.n_trials=2")
    for trial in study(tmp_path / "outputs").trials:
        each = config(*TINY, f"optimizer.lr={trial.params['optimizer.lr']}")
        rows = (run_folder(each) / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("val_accuracy")
        epochs = {number: float(row.split(",")[column]) for number, row in enumerate(rows[1:], start=1)}
        result = json.loads((run_folder(each) / "result.json").read_text())
        assert trial.intermediate_values in (epochs, {})  # nothing where the same run was finished by an earlier trial
        assert trial.value == max(epochs.values()) == result["val_accuracy"]


def test_a_search_on_the_command_line(cnnzoo, tmp_path):
    command = ("search=adam", *(word for word in TINY if "lr" not in word), "hydra.sweeper.n_trials=2")
    answer = cnnzoo("run", *command)
    assert answer.returncode == 0, answer.stderr
    assert "2 trials: 2 completed" in answer.stdout
    again = next(line for line in answer.stdout.splitlines() if line.startswith("the best again: "))
    best = shlex.split(again)[6:]
    assert not any("search" in word or "hydra" in word for word in best)
    once_more = cnnzoo("run", *best)
    assert once_more.returncode == 0, once_more.stderr
    assert "finished already" in once_more.stderr
    repeated = cnnzoo("run", *command)
    assert repeated.returncode == 0, repeated.stderr
    assert repeated.stdout == answer.stdout
