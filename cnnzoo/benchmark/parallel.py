"""Many runs at once on one device: what they train together in a second, beside one run after another.

Each run is `cnnzoo.run`'s own training in a process of its own, as `hydra/launcher=joblib` starts them; on the CPU they
share out the threads. The clock, which Linux's processes share, runs from the first timed step of any of them to the
last one of all. On NVIDIA GPUs the processes take turns unless the Multi-Process Service runs
(`nvidia-cuda-mps-control -d`): measure both.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from cnnzoo.benchmark.dataset import random_dataset
from cnnzoo.benchmark.measure import section, take_turns
from cnnzoo.benchmark.training import Cnnzoo
from cnnzoo.errors import UserError
from cnnzoo.training.devices import training_device


class _Worker:
    """A process that trains a turn whenever it is told to."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.tell(config)

    def tell(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"a run failed: {self.process.communicate()[1].strip()[-2000:]}")
        return json.loads(line)


def serve() -> None:
    """What a worker does: reads a configuration, then, for each number of threads it reads, trains a turn."""
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not get between the answers
    config = json.loads(sys.stdin.readline())
    device = training_device(config["trainer"]["accelerator"])
    per_turn = config["dataset"]["batch_size"] * (config["warmup"] + config["steps"] + 1)
    dataset = random_dataset(config["dataset"], train=per_turn, test=16)
    contestant = Cnnzoo(config, dataset, device, compile=config["trainer"]["compile"] is True)
    for line in sys.stdin:
        torch.set_num_threads(json.loads(line))
        images = contestant().images
        print(json.dumps([contestant.stopwatch.begin, contestant.stopwatch.end, images]), file=out, flush=True)


def measure(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The section `parallel`: images a second of 1, 2, … runs together, and the gain over the first number."""
    counts = sorted(set(config["parallel"]))
    cores = torch.get_num_threads()
    workers = [_Worker(config) for _ in range(counts[-1])]

    def turn(count: int) -> float:
        for worker in workers[:count]:
            worker.tell(max(1, cores // count))
        answers = [worker.answer() for worker in workers[:count]]
        begins, ends, images = zip(*answers, strict=True)
        return sum(images) / (max(ends) - min(begins))

    try:
        turns = take_turns({str(count): partial(turn, count) for count in counts}, config["rounds"])
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.communicate()
    rates = {name: done[1:] for name, done in turns.items()}
    result = section("images/s", rates)
    for name, entry in result["contestants"].items():
        pairs = zip(rates[name], rates[str(counts[0])], strict=True)
        entry["gain"] = sorted(own / first for own, first in pairs)[len(rates[name]) // 2]
    result["multi_process_service"] = _mps_runs() if device.type == "cuda" else None
    return result


def _mps_runs() -> bool:
    found = subprocess.run(["pgrep", "-f", "nvidia-cuda-mps-control"], capture_output=True, check=False)
    return found.returncode == 0
