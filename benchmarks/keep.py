"""Keep finished runs of published networks with the repository, as weights=cnnzoo finds them.

    python benchmarks/keep.py outputs/cifar10/resnet/seed42-...

Of each run, `benchmarks/results/published/<model>/seed<N>/` gets result.json, config.yaml, metrics.csv, predictions.npz
and, checked by running them, the best epoch's weights as safetensors with their model card. The folders of the machine
that it ran on are left out of config.yaml.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import yaml

from cnnzoo.console import set_up_logging
from cnnzoo.errors import UserError, exit_code
from cnnzoo.export import export
from cnnzoo.nn.weights import RECORDS
from cnnzoo.results.run_folder import read_config, read_result

UNCHANGED = ("result.json", "metrics.csv", "predictions.npz")


def keep(run: Path, records: Path = RECORDS) -> Path:
    """Copy the record of a run into its folder below `records`, which it replaces, and return that.

    Raises:
        UserError: the run is not finished, or of no published network.
    """
    result, config = read_result(run) or {}, read_config(run)
    if result.get("status") != "completed":
        raise UserError(f"{run} is not the folder of a finished run.")
    if not config.get("published"):
        raise UserError(f"{run} is of no published network: its config.yaml has no `published`.")
    target = records / str(config["published"]["model"]) / f"seed{result['seed']}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        new = Path(temporary) / target.name
        export(run, "safetensors", new)
        for name in UNCHANGED:
            shutil.copyfile(run / name, new / name)
        (new / "config.yaml").write_text(yaml.safe_dump(without_places(config), sort_keys=False))
        if target.exists():
            shutil.rmtree(target)
        new.rename(target)
    return target


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `data`, `weights` and `outputs` for the folders that they were."""
    places = {value: key for key, value in config["paths"].items()}

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: replaced(value) for key, value in node.items()}
        return places.get(node, node) if isinstance(node, str) else node

    return {key: replaced(value) for key, value in config.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    arguments = parser.parse_args()
    set_up_logging()
    return exit_code(lambda: print(*map(keep, arguments.runs), sep="\n"))


if __name__ == "__main__":
    sys.exit(main())
