"""Training throughput of the working tree against another commit, as ratios; fails on a loss of more than a tenth.

python benchmarks/compare_commits.py main~5
python benchmarks/compare_commits.py v0.1.0 --rounds 9 model=densenet optimizer=adam steps=10

Both run with this environment's packages, interleaved, each in a process of its own. The commit is checked out into a
temporary git worktree and must be one that has `cnnzoo.bench`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("overrides", nargs="*", help="as for cnnzoo.bench")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_intermixed_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        git("worktree", "add", "--quiet", "--detach", str(base), arguments.base)
        try:
            for i in range(arguments.rounds):
                order = (ROOT, base) if i % 2 else (base, ROOT)
                rates = {tree: images_per_second(tree, arguments.overrides) for tree in order}
                ratios.append(rates[ROOT] / rates[base])
                print(f"{rates[ROOT]:8.0f} images/s here, {rates[base]:8.0f} at {arguments.base}: {ratios[-1]:.3f}")
        finally:
            git("worktree", "remove", "--force", str(base))
    print(f"median {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})")
    if is_loss(ratios):
        sys.exit(f"more than {TOLERANCE:.0%} slower than {arguments.base}")


def is_loss(ratios: Sequence[float], tolerance: float = TOLERANCE) -> bool:
    """Whether at least three quarters of the rounds lost more than `tolerance`: noise affects both sides equally."""
    return 4 * sum(ratio < 1 - tolerance for ratio in ratios) >= 3 * len(ratios)


def images_per_second(tree: Path, overrides: Sequence[str]) -> float:
    """Median training throughput of the code in `tree`, measured by its own `cnnzoo.bench`."""
    command = [sys.executable, "-m", "cnnzoo.bench", "what=training", "contestants=[cnnzoo]", "rounds=1", "format=json"]
    data = Path(os.environ.get("CNNZOO_DATA", "data")).absolute()
    # In the tree's own folder, which Python searches before the installed packages.
    done = subprocess.run(
        [*command, *overrides_for(tree, overrides)],
        cwd=tree,
        env={**os.environ, "CNNZOO_DATA": str(data)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout)["sections"]["training"]["contestants"]["cnnzoo"]["median"])


def overrides_for(tree: Path, overrides: Sequence[str]) -> list[str]:
    """Return the overrides under the names that the options have in `tree`: `warmup_steps` was `warmup` once."""
    if "warmup_steps:" in (tree / "conf" / "bench.yaml").read_text(encoding="utf-8"):
        return list(overrides)
    return [override.replace("warmup_steps=", "warmup=") for override in overrides]


def git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


if __name__ == "__main__":
    main()
