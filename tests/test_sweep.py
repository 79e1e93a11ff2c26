"""Sweeps: skipping, launchers, failures, processes that die, edits meanwhile, and the account of it all."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode

from cnnzoo.config import CONF_DIR
from cnnzoo.config.composition import freeze, to_plain
from cnnzoo.config.launching import Composer
from cnnzoo.errors import UserError
from cnnzoo.results.sweeps import Planned, Progress, SweepRecord

# A network that trains in no time; two learning rates, the second of which no optimizer takes.
SWEEP = (
    "-m", "model=mlp", "model.widths=[16]", "dataset=digits", "image_size=8", "trainer.max_epochs=1", "logger=none",
    "trainer.accelerator=cpu",
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """So that runs may share the cores: sums come out the same to the last bit only with the same number of threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def table(cnnzoo, folder="outputs") -> list[dict]:
    """The comparison without what the machine of the moment has a say in."""
    rows = json.loads(cnnzoo("compare", folder, "--format", "json").stdout)
    return [
        {key: row[key] for key in ("model", "n", "test_accuracy_mean", "test_accuracy_std", "val_accuracy_mean")}
        for row in rows
    ]


def results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """The same sweep in one process: exit code, stderr and table are what the others must give."""
    folder = tmp_path_factory.mktemp("alone")
    environment = os.environ | {"CNNZOO_OUTPUTS": str(folder / "outputs"), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-m", "cnnzoo.run", *SWEEP, "seed=1,2", "optimizer.lr=0.01,nan"],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return folder, answer


def errors(stderr: str) -> list[str]:
    return sorted(line for line in stderr.splitlines() if line.startswith(("error:", "  again with:")))


def test_failures_stop_nothing_and_are_listed_with_their_commands(in_process):
    folder, answer = in_process
    assert answer.returncode == 1
    assert sorted(result["status"] for result in results(folder)) == ["completed", "completed", "failed", "failed"]
    listed = errors(answer.stderr)
    assert len(listed) == 4
    assert all("learning rate: nan" in line for line in listed[2:])
    assert [line.split("seed=")[1].split()[0] for line in listed[:2]] == ["1", "2"]
    logs = [line.partition("its log: ")[2] for line in answer.stderr.splitlines() if "its log: " in line]
    assert all("learning rate: nan" in Path(log).read_text() for log in logs)
    assert len(logs) == 2
    assert "4 runs: 2 done, 2 failed" in answer.stderr


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_every_launcher_gives_the_same_table_and_account(launcher, cnnzoo, tmp_path, in_process):
    pytest.importorskip({"submitit_local": "submitit"}.get(launcher, launcher))
    through = [f"hydra/launcher={launcher}", *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else [])]
    answer = cnnzoo("run", *SWEEP, *through, "seed=1,2", "optimizer.lr=0.01,nan")
    assert answer.returncode == 1, answer.stderr
    folder, alone = in_process
    assert errors(answer.stderr) == errors(alone.stderr)
    assert table(cnnzoo) == table(cnnzoo, str(folder / "outputs"))
    # what is finished does not go to the launcher again
    again = cnnzoo("run", *SWEEP, *through, "seed=1,2", "optimizer.lr=0.01")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.count("\n") == 1
    assert "2 of 2 runs are finished already" in again.stderr


def test_a_finished_sweep_needs_no_torch(in_process, monkeypatch, tmp_path):
    """A torch that cannot be imported is none that is."""
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch is imported')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("CNNZOO_OUTPUTS", str(in_process[0] / "outputs"))
    command = [sys.executable, "-m", "cnnzoo.run", *SWEEP, "optimizer.lr=0.01"]
    done = subprocess.run([*command, "seed=1,2"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    new = subprocess.run([*command, "seed=1,3"], capture_output=True, text=True, cwd=tmp_path)
    assert "torch is imported" in new.stderr


def test_a_killed_sweep_goes_on_and_gives_the_table_of_one_left_alone(cnnzoo, tmp_path):
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
    assert f"{len(done)} of 6 runs are finished already" in second.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    killed = table(cnnzoo)
    alone = cnnzoo("run", *sweep, env=os.environ | {"CNNZOO_OUTPUTS": str(tmp_path / "alone")})
    assert alone.returncode == 0, alone.stderr
    assert killed == table(cnnzoo, "alone")
    assert "to go" not in cnnzoo("compare", "outputs", "--status").stdout


@pytest.mark.slow
def test_the_table_does_not_depend_on_how_the_sweep_was_run(cnnzoo, tmp_path, monkeypatch):
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
    assert (third.returncode, "6 of 6 runs are finished already" in third.stderr) == (0, True)
    assert markdown("killed") == markdown("alone")
    for launcher in ("joblib", "submitit_local", "ray"):
        answer = cnnzoo("run", *sweep, f"hydra/launcher={launcher}", env=environment(launcher))
        assert answer.returncode == 0, answer.stderr
        assert markdown(launcher) == markdown("alone")


def test_a_run_whose_process_dies_takes_no_other_along(cnnzoo, tmp_path, monkeypatch):
    pytest.importorskip("joblib")
    (tmp_path / "dying.py").write_text(
        "import os, signal\nfrom torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, die):\n"
        "        if die: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    sweep = [argument for argument in SWEEP if not argument.startswith("model.")]
    sweep += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2"]
    answer = cnnzoo("run", *sweep, "model._target_=dying.Net", "+model.die=true,false")
    assert answer.returncode == 1
    assert [result["seed"] for result in results(tmp_path)] == [1, 2]
    listed = errors(answer.stderr)
    assert len(listed) == 4
    assert all("Its process died" in line for line in listed[2:])
    assert all("+model.die=true" in line.lower() for line in listed[:2])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), "hydra.launcher.n_jobs=0: expected the number of runs"),
        (("hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0.25"), "num_gpus=0.25: this machine has 0 CUDA"),
    ],
)
def test_settings_with_which_no_run_would_start_are_refused(overrides, message, cnnzoo, monkeypatch):
    pytest.importorskip(overrides[0].partition("=")[2])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = cnnzoo("run", *SWEEP, *overrides, "seed=1,2")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr


def test_a_launcher_that_does_not_work_here_says_so(cnnzoo):
    pytest.importorskip("submitit")
    answer = cnnzoo("run", *SWEEP, "hydra/launcher=submitit_slurm", "seed=1,2")
    assert answer.returncode == 1
    assert 'Could not detect "srun"' in answer.stderr
    assert answer.stderr.count("error:") == 1


def test_edits_do_not_reach_the_queued_runs_of_a_sweep(tmp_path):
    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    file = own / "model" / "mine.yaml"
    file.write_text((CONF_DIR / "model" / "mlp.yaml").read_text() + "\n# own\n")

    def loader() -> ConfigLoaderImpl:
        path = create_config_search_path(str(CONF_DIR))
        path.prepend("command-line", f"file://{own}")
        return ConfigLoaderImpl(path)

    def widths(of: ConfigLoaderImpl) -> list[int]:
        return of.load_configuration("run", ["model=mine", "dataset=digits"], RunMode.RUN).model.widths

    frozen = loader()
    freeze(frozen, tmp_path / "sweeps")
    before = widths(frozen)
    file.write_text(file.read_text().replace("widths:", "widths: [7] #"))
    assert widths(frozen) == before != [7]
    assert widths(loader()) == [7]
    copies = set((tmp_path / "sweeps").iterdir())
    freeze(loader(), tmp_path / "sweeps")  # the project's own files have not changed: one more copy, of the edited ones
    assert len(set((tmp_path / "sweeps").iterdir()) - copies) == 1


def test_jobs_that_differ_in_values_are_composed_as_hydra_composes_them():
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF_DIR)))
    master = loader.load_configuration("run", [], RunMode.MULTIRUN)
    compose = Composer(loader, master)
    jobs = (
        *(("model=resnet", f"seed={seed}", "optimizer.lr=" + lr) for seed in (1, 2) for lr in ("0.1", "1e-3")),
        *(("model=mlp", f"model.widths={widths}") for widths in ("[16]", "[32]", "[]")),
        *(("model=torchvision", f"+model.more={{{key}: 1}}", f"seed={n}") for key in "ab" for n in (1, 2)),
        *(
            (f"experiment=uvadlc/{name}", f"trainer.max_epochs={n}")
            for name in ("resnet", "densenet")
            for n in (2, 9.5)
        ),
        *((f"name={name}", "scheduler=none", "dataset=digits") for name in ("one", "'two words'", "null")),
        *(("model._target_=torch.nn." + name, "seed=1") for name in ("Identity", "Flatten")),
        *(("dataset=mnist", "~seed", "+seed=3", f"dataset.mean={mean}") for mean in ("null", "[0.5]")),
    )
    composed = Counter()
    hydras_own = loader.load_sweep_config
    for job in jobs:
        expected = to_plain(hydras_own(master, list(job)))
        with patch.object(loader, "load_sweep_config", wraps=hydras_own) as calls:
            assert compose(job) == expected
        composed[job[0]] += calls.call_count
    assert composed["model=resnet"] == composed["experiment=uvadlc/resnet"] == composed["dataset=mnist"] == 1
    for wrong, message in (("optimizer.lr=fast", "expected a number"), ("seed=-1", "expected at least 0")):
        with pytest.raises(UserError, match=message):
            compose(("model=resnet", "seed=1", wrong) if "lr" in wrong else ("model=resnet", wrong, "optimizer.lr=1"))
    assert compose(("model=resnet", "seed=5", "optimizer.lr=0.1"))["seed"] == 5


def test_one_run_over_several_processes_is_a_run_of_a_sweep_too(cnnzoo, tmp_path):
    answer = cnnzoo("run", *SWEEP, "trainer.devices=2", "trainer.precision=32-true", "seed=1,2")
    assert answer.returncode == 0, answer.stderr
    assert [result["seed"] for result in results(tmp_path)] == [1, 2]


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """Starts processes that claim a device, on a machine with two as nvidia-smi would list them."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-0)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: GPU-1)'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    processes = []

    def start(shared: bool, **environment: str) -> subprocess.Popen:
        code = (
            f"import os, sys; from cnnzoo.sweep import claim_device; claim_device({shared}); claim_device({shared})\n"
            "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | environment,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.communicate()


def test_processes_share_out_the_cuda_devices(claim):
    processes = [claim(True) for _ in range(3)]
    devices = [process.stdout.readline().strip() for process in processes]
    assert sorted(devices) in (["0", "0", "1"], ["0", "1", "1"])
    lonely = processes[[devices.count(device) for device in devices].index(1)]
    lonely.communicate()  # its claim ends with it
    assert claim(True).stdout.readline().strip() == devices[processes.index(lonely)]
    assert claim(True, CUDA_VISIBLE_DEVICES="GPU-7").stdout.readline().strip() == "GPU-7"


@pytest.mark.parametrize(("environment", "places"), [({}, {"0", "1"}), ({"CUDA_VISIBLE_DEVICES": ""}, {""})])
def test_processes_wait_for_a_device_of_their_own(environment, places, claim):
    """The processor is the one device where there is none of CUDA."""
    running = {process.stdout: process for process in [claim(False, **environment) for _ in range(len(places) + 1)]}
    told = {}
    while len(told) < len(places):
        for stdout in select.select([out for out in running if out not in told], [], [])[0]:
            told[stdout] = stdout.readline().strip()
    assert set(told.values()) == places
    (waiting,) = set(running) - set(told)
    assert not select.select([waiting], [], [], 1)[0]
    ended = next(iter(told))
    running[ended].communicate()
    assert waiting.readline().strip() == told[ended]


def test_how_far_a_sweep_is(tmp_path):
    """Two runs done (10 and 20 s), one failed in an earlier attempt, one running, one not begun."""
    record = SweepRecord(tmp_path / "sweep")
    jobs = [Planned((f"seed={n}",), str(tmp_path / "net" / f"seed{n}"), 3) for n in range(5)]
    old = 1_700_000_000

    def stamp(number: int, name: str, at: float, content: str = "{}") -> None:
        path = Path(jobs[number].folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (at, at))

    stamp(2, "result.json", old - 50, '{"status": "failed"}')
    record.add("the command", jobs)
    progress = Progress(jobs, since=old)
    state, news = progress.look()
    assert (str(state), news) == ("5 runs: 5 to go", [])
    for number, seconds in ((0, 10), (1, 20)):
        stamp(number, "config.yaml", old + 100)
        stamp(number, "result.json", old + 100 + seconds, '{"status": "completed"}')
    stamp(3, "config.yaml", time.time())
    with Path(jobs[3].folder, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state, news = progress.look()
    assert news == [0, 1]
    assert state.counts == {"completed": 2, "running": 1, "to go": 2}
    assert state.seconds_left == pytest.approx(3 * 15, abs=2)  # the median of 10 and 20 for each run that is left
    # a search adds to its own record
    assert [job.overrides for job in record.add("the command", jobs[:1])] == [job.overrides for job in [*jobs, jobs[0]]]
    assert not record.alive
    with record.running():
        assert record.alive


@pytest.mark.parametrize("content", ["{", "[]", '{"jobs": [{}]}', '{"jobs": 3}'])
def test_a_damaged_sweep_record_is_named_and_skipped(content, cnnzoo, tmp_path, in_process):
    folder = tmp_path / "outputs" / ".sweeps" / "then"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(content)
    run = tmp_path / "outputs" / "digits"
    run.mkdir()
    (run / "result.json").write_text(next((in_process[0]).rglob("result.json")).read_text())
    answer = cnnzoo("compare", "outputs", "--status")
    assert answer.returncode == 0
    assert "then/sweep.json" in answer.stdout
    assert "skipped" in answer.stdout
