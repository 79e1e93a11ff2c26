"""`benchmarks/compare_commits.py`."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "compare_commits.py")))


def test_loss_beyond_noise(script: SimpleNamespace) -> None:
    assert script.is_loss([0.8, 0.85, 0.89, 1.1])
    assert not script.is_loss([0.8, 0.85, 0.95, 1.1])
    assert not script.is_loss([0.91, 0.92, 0.93])


def test_options_have_the_names_of_the_commit(script: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "bench.yaml").write_text("rounds: 5\nwarmup: 3\n", encoding="utf-8")
    overrides = ["warmup_steps=1", "steps=3"]
    assert script.overrides_for(tmp_path, overrides) == ["warmup=1", "steps=3"]
    assert script.overrides_for(ROOT, overrides) == overrides
