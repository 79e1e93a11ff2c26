"""How speed and memory scale, what starting costs, and what the device could do: the figures behind the README's.

python benchmarks/scaling.py what=image_size 'image_sizes=[32,64,128]'     training and memory by the images' side
python benchmarks/scaling.py what=dataset_size 'dataset_sizes=[5000,50000]'
python benchmarks/scaling.py what=devices                                  one run on 1, 2, ... devices
python benchmarks/scaling.py what=parallel 'parallel=[1,2,4,8]'            several runs at once on one device
python benchmarks/scaling.py what=startup                                  commands compared with `import torch`
python benchmarks/scaling.py what=sweep_size 'sweep_sizes=[1,10,100]'      finished runs that a sweep skips
python benchmarks/scaling.py what=roofline model=densenet                  training as a share of what the device can do
python benchmarks/scaling.py what=mapped_file                              threads or processes that read one file
python benchmarks/scaling.py what=allocators                               evaluation by settings of the allocator

All other options are those of `python -m cnnzoo.bench`. Of an image size, a data set size and a number of devices, each
point is measured once, in a process of its own, so small differences mean nothing. The network is compiled only with
`trainer.compile=true`, because `auto` would compile it at some of the points.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.allocators import measure_allocators
from benchmarks.mapped_file import measure_mapped_file
from benchmarks.parallel import measure_parallel_runs
from benchmarks.roofline import measure_roofline
from benchmarks.startup import measure_startup, measure_sweep_sizes, run_overrides
from cnnzoo.bench import Sections, bench
from cnnzoo.bench.context import Context, random_dataset
from cnnzoo.bench.interleave import section
from cnnzoo.bench.processes import in_fresh_process
from cnnzoo.bench.training import Cnnzoo, shortened
from cnnzoo.config import compose
from cnnzoo.config.schema import BenchConfig
from cnnzoo.errors import UserError
from cnnzoo.nn.build import build_model
from cnnzoo.training.devices import peak_memory, reset_peak_memory
from cnnzoo.training.fit import fit

# The options that `cnnzoo.bench` does not have.
SIZES = {
    "parallel": [1, 2, 4, 8],
    "image_sizes": [32, 64, 96, 128, 160, 192, 224],
    "dataset_sizes": [5000, 50000, 100000, 200000],
    "sweep_sizes": [1, 10, 100],
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("options", nargs="+", help="what=SECTION, and KEY=VALUE or GROUP=CHOICE")
    options = parser.parse_args(arguments).options
    try:
        sizes, overrides = split_options(options)
        config = compose(overrides, "bench")
        assert isinstance(config, BenchConfig)
        bench(config, sections(overrides, sizes), f"python benchmarks/scaling.py {shlex.join(options)}")
    except UserError as error:
        sys.exit(f"error: {error}")


def split_options(options: Sequence[str]) -> tuple[dict[str, list[int]], list[str]]:
    """Return the sizes of this script's own options, and the other options: overrides of `cnnzoo.bench`.

    Raises:
        UserError: such an option is not a list of positive numbers.
    """
    sizes, overrides = dict(SIZES), []
    for option in options:
        key, _, value = option.partition("=")
        if key not in SIZES:
            overrides.append(option)
            continue
        try:
            sizes[key] = sorted({int(number) for number in json.loads(value)})
        except (TypeError, ValueError):
            sizes[key] = []
        if not sizes[key] or sizes[key][0] < 1:
            raise UserError(f"{option}: expected a list of positive numbers, such as {key}={json.dumps(SIZES[key])}.")
    return sizes, overrides


def sections(overrides: Sequence[str], sizes: Mapping[str, Sequence[int]]) -> Sections:
    run = run_overrides(overrides)
    return {
        "image_size": partial(measure_image_sizes, sizes=sizes["image_sizes"]),
        "dataset_size": partial(measure_dataset_sizes, sizes=sizes["dataset_sizes"]),
        "devices": measure_devices,
        "parallel": partial(measure_parallel_runs, counts=sizes["parallel"]),
        "startup": partial(measure_startup, overrides=run),
        "sweep_size": partial(measure_sweep_sizes, overrides=run, sizes=sizes["sweep_sizes"]),
        "roofline": measure_roofline,
        "mapped_file": measure_mapped_file,
        "allocators": measure_allocators,
    }


class Point(NamedTuple):
    """Images a second; peak memory and the memory of the training images, in bytes."""

    rate: float
    peak: int
    images: int


def measure_image_sizes(context: Context, sizes: Sequence[int]) -> dict[str, Any]:
    """Measure training images a second and peak memory at each side of the images, in pixels."""
    points = {}
    for size in sizes:
        dataset = replace(context.config.dataset, image_size=size)
        points[str(size)] = in_fresh_process(train_point, replace(context.config, image_size=size, dataset=dataset))
    return section_of_points(points)


def measure_dataset_sizes(context: Context, sizes: Sequence[int]) -> dict[str, Any]:
    """Measure the same at each number of training images."""
    return section_of_points({str(size): in_fresh_process(train_point, context.config, size) for size in sizes})


def train_point(config: BenchConfig, images: int = 0) -> Point:
    """Train on `images` random images, or as many as the steps need, in this process."""
    needed = config.dataset.batch_size * (config.warmup_steps + config.steps)
    context = Context(config, random_dataset(config.dataset, train=max(images, needed), test=16))
    candidate = Cnnzoo(context, compile=config.trainer.compile is True)
    reset_peak_memory(context.device)
    return Point(candidate.measure(), peak_memory(context.device), context.dataset.train.nbytes)


def section_of_points(points: Mapping[str, Point]) -> dict[str, Any]:
    result = section("images/s", {name: [point.rate] for name, point in points.items()})
    for name, point in points.items():
        result["contestants"][name]["peak_memory_mib"] = point.peak / 2**20
        result["contestants"][name]["without_images_mib"] = (point.peak - point.images) / 2**20
    return result


def measure_devices(context: Context) -> dict[str, Any]:
    """Measure images a second of one run on 1, 2, … devices; on the CPU, in 1 and 2 processes."""
    available = torch.cuda.device_count() if context.device.type == "cuda" else 2
    counts = [count for count in (1, 2, 4, 8, 16) if count <= available]
    rates = {str(count): [in_fresh_process(train_on_devices, context.config, count)] for count in counts}
    return section("images/s", rates)


def train_on_devices(config: BenchConfig, devices: int) -> float:
    """Return images a second of a short run: the median of three epochs, so starting up in the first has no effect."""
    config = shortened(config, epochs=3, devices=devices)
    images = config.dataset.batch_size * (config.warmup_steps + config.steps)
    dataset = random_dataset(config.dataset, train=images, test=16)
    torch.manual_seed(config.seed)
    with tempfile.TemporaryDirectory(prefix="cnnzoo-bench-") as folder:
        return fit(build_model(config), dataset, config, Path(folder)).images_per_second


if __name__ == "__main__":
    main()
