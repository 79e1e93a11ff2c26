"""The Markdown tables."""

from typing import Any

from cnnzoo.bench.interleave import section
from cnnzoo.bench.report import markdown


def test_tables() -> None:
    training = section("images/s", {"cnnzoo": [1000.0, 3000.0, 2000.0], "tutorial": [500.0, 1000.0, 1000.0]}, "cnnzoo")
    training["contestants"]["cnnzoo"]["first_step_seconds"] = 0.12345
    training["contestants"]["tutorial"]["first_step_seconds"] = 12.0
    result: dict[str, Any] = {
        "model": "resnet",
        "dataset": "cifar10",
        "images": "random",
        "device": "some CPU",
        "precision": "32-true",
        "batch_size": 128,
        "rounds": 3,
        "steps": 20,
        "command": "python -m cnnzoo.bench",
        "git_commit": "abc",
        "sections": {"training": training, "memory": section("MiB", {"cnnzoo": [2500.4]})},
    }
    lines = markdown(result).splitlines()
    assert lines[0] == (
        "resnet on cifar10, random images: some CPU, 32-true, batch 128; 3 rounds of 20 steps, median (min–max)"
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["", "images/s", "cnnzoo ÷ it", "first step seconds"]
    assert rows[2] == ["cnnzoo", "2,000 (1,000–3,000)", "1", "0.123"]
    assert rows[3] == ["tutorial", "1,000 (500–1,000)", "2 (2–3)", "12"]
    assert rows[4] == ["", "MiB"]
    assert rows[6] == ["cnnzoo", "2,500 (2,500–2,500)"]
    assert lines[-1] == "`python -m cnnzoo.bench` at abc"
