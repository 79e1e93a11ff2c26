"""Sweeps: skipping, launchers, failures, processes that die, edits meanwhile, and what is reported."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# A network that trains in no time; of two learning rates, no optimizer takes the second.
SWEEP = (
    "-m",
    "model=mlp",
    "model.widths=[16]",
    "dataset=digits",
    "image_size=8",
    "trainer.max_epochs=1",
    "logger=none",
    "trainer.accelerator=cpu",
)
Command = Callable[..., "subprocess.CompletedProcess[str]"]
Alone = tuple[Path, "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that runs may share the cores: sums come out the same to the last bit only with the same number of threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def table(cnnzoo: Command, folder: str = "outputs") -> list[dict[str, Any]]:
    """The comparison's accuracies."""
    rows = json.loads(cnnzoo("compare", folder, "--format", "json").stdout)
    keys = ("model", "n", "test_accuracy_mean", "test_accuracy_std", "val_accuracy_mean")
    return [{key: row[key] for key in keys} for row in rows]


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


def errors(stderr: str) -> list[str]:
    """Messages and commands, without the launcher that they were reached through."""
    lines = [line for line in stderr.splitlines() if line.startswith(("error:", "  again with:"))]
    words = [[word for word in line.split() if word != "-m" and "hydra" not in word] for line in lines]
    return sorted(" ".join(line) for line in words)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The same sweep in one process: exit code, stderr and table are what the others must give."""
    folder = tmp_path_factory.mktemp("alone")
    answer = subprocess.run(
        [sys.executable, "-m", "cnnzoo.run", *SWEEP, "seed=1,2", "optimizer.lr=0.01,1e30"],
        cwd=folder,
        env=os.environ | {"CNNZOO_OUTPUTS": str(folder / "outputs"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return folder, answer


def test_failures_stop_nothing(alone: Alone) -> None:
    folder, answer = alone
    assert answer.returncode == 1
    assert sorted(result["status"] for result in results(folder)) == ["completed", "completed", "failed", "failed"]
    listed = errors(answer.stderr)
    assert len(listed) == 4
    assert all("The training loss is nan" in line for line in listed if line.startswith("error:"))
    assert [line.split("seed=")[1].split()[0] for line in listed if line.startswith("again")] == ["1", "2"]
    logs = [line.partition("its log: ")[2] for line in answer.stderr.splitlines() if "its log: " in line]
    assert all("The training loss is nan" in Path(log).read_text() for log in logs)
    assert len(logs) == 2
    assert "4 runs: 2 done, 2 failed" in answer.stderr
    assert answer.stderr.count("The training loss is nan") == 2, "each failure is explained once"


def test_finished_runs_of_other_code_are_named(cnnzoo: Command, tmp_path: Path) -> None:
    words = ("-m", "dataset=digits", "model=mlp", "trainer.max_epochs=1", "logger=none", "seed=1,2")
    assert cnnzoo("run", *words).returncode == 0
    path = next((tmp_path / "outputs").rglob("result.json"))
    result = json.loads(path.read_text())
    result["source_digests"]["cnnzoo.models.keras"] = "of another file"
    path.write_text(json.dumps(result))
    answer = cnnzoo("run", *words)
    assert "cnnzoo.models.keras has changed since 1 of these runs (rerun=true trains them again)" in answer.stderr
    answer = cnnzoo("evaluate", f"weights={path.parent}")
    assert "the run's code has changed since: cnnzoo.models.keras" in answer.stderr


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_every_launcher_gives_the_same(launcher: str, cnnzoo: Command, alone: Alone) -> None:
    pytest.importorskip({"submitit_local": "submitit"}.get(launcher, launcher))
    through = [f"hydra/launcher={launcher}", *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else [])]
    answer = cnnzoo("run", *SWEEP, *through, "seed=1,2", "optimizer.lr=0.01,1e30")
    assert answer.returncode == 1, answer.stderr
    folder, in_process = alone
    assert errors(answer.stderr) == errors(in_process.stderr)
    assert f"again with: python -m cnnzoo.run -m hydra/launcher={launcher}" in answer.stderr
    assert table(cnnzoo) == table(cnnzoo, str(folder / "outputs"))
    # what is finished does not go to the launcher again
    again = cnnzoo("run", *SWEEP, *through, "seed=1,2", "optimizer.lr=0.01")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.count("\n") == 2
    assert "2 of 2 runs are already finished" in again.stderr
    assert again.stderr.endswith("their table: python -m cnnzoo.compare outputs/digits/mlp\n")


def test_finished_sweep_needs_no_torch(alone: Alone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A torch that cannot be imported is not imported."""
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch is imported')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("CNNZOO_OUTPUTS", str(alone[0] / "outputs"))
    command = [sys.executable, "-m", "cnnzoo.run", *SWEEP, "optimizer.lr=0.01"]
    done = subprocess.run([*command, "seed=1,2"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    new = subprocess.run([*command, "seed=1,3"], capture_output=True, text=True, cwd=tmp_path)
    assert "torch is imported" in new.stderr


def test_killed_sweep_resumes(cnnzoo: Command, tmp_path: Path) -> None:
    sweep = (*SWEEP, "trainer.max_epochs=3", "seed=1,2,3", "model.widths=[16],[32]", "optimizer.lr=0.01")
    process = subprocess.Popen([sys.executable, "-m", "cnnzoo.run", *sweep], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(results(tmp_path)) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert 3 <= len(done) < 6
    status = cnnzoo("compare", "outputs", "--status").stdout
    assert "to go" in status
    assert "again with: python -m cnnzoo.run -m model=mlp" in status
    second = cnnzoo("run", *sweep)
    assert second.returncode == 0, second.stderr
    assert f"{len(done)} of 6 runs are already finished" in second.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    killed = table(cnnzoo)
    undisturbed = cnnzoo("run", *sweep, env=os.environ | {"CNNZOO_OUTPUTS": str(tmp_path / "alone")})
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert killed == table(cnnzoo, "alone")
    assert "to go" not in cnnzoo("compare", "outputs", "--status").stdout


@pytest.mark.slow
def test_table_does_not_depend_on_how_the_sweep_was_run(
    cnnzoo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ResNet and DenseNet, three seeds: left alone; killed twice and started again; through each launcher."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    sweep = ("-m", "model=resnet,densenet", "seed=1,2,3", "dataset=digits", "trainer.max_epochs=3")

    def environment(name: str) -> dict[str, str]:
        return os.environ | {"CNNZOO_OUTPUTS": str(tmp_path / name)}

    def markdown(name: str) -> list[list[str]]:
        text = cnnzoo("compare", name, "--columns", "model,n,val,test,best,worst", "--sort", "model").stdout
        return [line.split("|") for line in text.splitlines() if line.startswith("|")]

    assert cnnzoo("run", *sweep, env=environment("alone")).returncode == 0
    for enough in (1, 4):
        command = [sys.executable, "-m", "cnnzoo.run", *sweep]
        process = subprocess.Popen(command, env=environment("killed"), stderr=subprocess.DEVNULL, cwd=tmp_path)
        while process.poll() is None and len(results(tmp_path / "killed")) < enough:
            time.sleep(0.01)
        time.sleep(2)  # into the next run
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(results(tmp_path / "killed")) < 6
    assert cnnzoo("run", *sweep, env=environment("killed")).returncode == 0
    third = cnnzoo("run", *sweep, env=environment("killed"))
    assert (third.returncode, "6 of 6 runs are already finished" in third.stderr) == (0, True)
    assert len(markdown("alone")) == 4  # two rows under a header
    assert markdown("killed") == markdown("alone")
    for launcher in ("joblib", "submitit_local", "ray"):
        answer = cnnzoo("run", *sweep, f"hydra/launcher={launcher}", env=environment(launcher))
        assert answer.returncode == 0, answer.stderr
        assert markdown(launcher) == markdown("alone")


@pytest.mark.parametrize(
    "launcher",
    [
        ("joblib", "hydra.launcher.n_jobs=2"),
        ("submitit_local",),
        pytest.param(("ray",), marks=pytest.mark.slow),  # Ray tries three times more
    ],
    ids=lambda launcher: launcher[0],
)
def test_dying_process_takes_no_other_run_along(
    launcher: tuple[str, ...], cnnzoo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"submitit_local": "submitit"}.get(launcher[0], launcher[0]))
    (tmp_path / "dying.py").write_text(
        "import os, signal\nfrom torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, die):\n"
        "        if die: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    sweep = [argument for argument in SWEEP if not argument.startswith("model.")]
    sweep += [f"hydra/launcher={launcher[0]}", *launcher[1:], "model._target_=dying.Net"]
    answer = cnnzoo("run", *sweep, "+model.die=true,false", "seed=1,2")
    assert answer.returncode == 1
    assert [result["seed"] for result in results(tmp_path)] == [1, 2], answer.stderr
    listed = errors(answer.stderr)
    assert len(listed) == 4
    assert all("Its process died" in line for line in listed if line.startswith("error:"))
    assert all("+model.die=true" in line.lower() for line in listed if line.startswith("again"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), "hydra.launcher.n_jobs=0: expected the number of runs"),
        (("hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0.25"), "num_gpus=0.25: this machine has 0 CUDA"),
        (("experiment=glob(nowhere/*)",), "matches no choice"),
        (("model=mlp,rsnet",), "Did you mean 'resnet'"),
        (("trainer.max_epochs=1,0",), "trainer.max_epochs=0"),
    ],
)
def test_refused_before_anything_runs(
    overrides: tuple[str, ...], message: str, cnnzoo: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if overrides[0].startswith("hydra/launcher"):
        pytest.importorskip(overrides[0].partition("=")[2])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = cnnzoo("run", *SWEEP, *overrides, "seed=1,2")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert not results(tmp_path)


def test_launcher_that_does_not_work_here(cnnzoo: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))  # no srun, wherever this test runs
    answer = cnnzoo("run", *SWEEP, "hydra/launcher=submitit_slurm", "seed=1,2")
    assert answer.returncode == 1
    assert 'Could not detect "srun"' in answer.stderr
    assert answer.stderr.count("error:") == 1


def test_edits_do_not_reach_queued_runs(cnnzoo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that edits its own recipe while the first run of a sweep is made: the second is as it was composed."""
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "editing.yaml").write_text("_target_: editing.Net\nnum_classes: 10\nwidth: 4\n")
    (tmp_path / "editing.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, width):\n"
        "        Path('own/model/editing.yaml').write_text('broken: [')\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    sweep = [argument for argument in SWEEP if not argument.startswith("model")]
    answer = cnnzoo("run", "--config-dir", "own", *sweep, "model=editing", "seed=1,2")
    assert answer.returncode == 0, answer.stderr
    assert [result["config"]["model"]["width"] for result in results(tmp_path)] == [4, 4]


def test_ctrl_c_ends_a_sweep(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnzoo.run", *SWEEP, "trainer.max_epochs=500", "seed=1,2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not any(len(f.read_text()) > 200 for f in tmp_path.rglob("metrics.csv")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert stderr.endswith("interrupted; run the same command to resume\n")


def test_run_over_several_processes_within_a_sweep(cnnzoo: Command, tmp_path: Path) -> None:
    answer = cnnzoo("run", *SWEEP, "trainer.devices=2", "trainer.precision=32-true", "seed=1,2")
    assert answer.returncode == 0, answer.stderr
    assert [result["seed"] for result in results(tmp_path)] == [1, 2]


@pytest.mark.parametrize("content", ["{", "[]", '{"jobs": [{}]}', '{"jobs": 3}'])
def test_damaged_sweep_record_is_named_and_skipped(content: str, cnnzoo: Command, tmp_path: Path, alone: Alone) -> None:
    folder = tmp_path / "outputs" / ".sweeps" / "then"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(content)
    run = tmp_path / "outputs" / "digits"
    run.mkdir()
    (run / "result.json").write_text(next((alone[0]).rglob("result.json")).read_text())
    answer = cnnzoo("compare", "outputs", "--status")
    assert answer.returncode == 0
    assert "then/sweep.json" in answer.stdout
    assert "skipped" in answer.stdout
