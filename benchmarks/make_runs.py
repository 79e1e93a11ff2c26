"""Time the comparison of very many runs, on folders as runs leave them, with invented metrics.

python benchmarks/make_runs.py FOLDER 10000
python benchmarks/make_runs.py FOLDER 10000 --time       # and time cnnzoo.compare on them, with its peak memory
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.factories import write_many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=int, nargs="?", default=10_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--time", action="store_true", help="run cnnzoo.compare on them")
    arguments = parser.parse_args()
    write_many(arguments.folder, arguments.runs, arguments.seeds)
    for extra in (["--format=json"], ["--format=md"], ["--status"]) if arguments.time else ():
        begin = time.perf_counter()
        command = [sys.executable, "-m", "cnnzoo.compare", str(arguments.folder), *extra]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{arguments.runs} runs, {extra[0]}: {time.perf_counter() - begin:.2f} s, at most {peak:.0f} MiB so far")


if __name__ == "__main__":
    main()
