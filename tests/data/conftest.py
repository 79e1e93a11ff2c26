"""Random images, and a folder of images whose pixels are their numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from cnnzoo.config import Config, compose
from cnnzoo.data.dataset import Dataset, load_dataset


@pytest.fixture(scope="session")
def random_images() -> Callable[..., Tensor]:
    """`random_images(count, channels=3, height=32, width=32)`: the same ones every time."""

    def draw(count: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)

    return draw


@pytest.fixture(scope="session")
def write() -> Callable[..., None]:
    """`write(path, number)`: an image file with red 2 × `number`, green 100, blue 200."""

    def write_file(path: Path, number: int, size: tuple[int, int] = (9, 7)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (2 * number, 100, 200)).save(path)

    return write_file


@pytest.fixture
def pets(tmp_path: Path, write: Callable[..., None]) -> Path:
    """60 images: 10 cats, 20 dogs, 30 eels, numbered consecutively."""
    root = tmp_path / "pets"
    for number in range(60):
        name = "cats" if number < 10 else "dogs" if number < 30 else "eels"
        write(root / name / f"{number}.png", number, size=(5 + number % 7, 6 + number % 5))
    return root


@pytest.fixture
def folder_config(tmp_path: Path) -> Callable[..., Config]:
    """`folder_config(root, *overrides)`, the images decoded to 8×8 and kept in `tmp_path/data`."""

    def compose_for(root: Path, *overrides: str) -> Config:
        common = ["dataset=image_folder", f"dataset.root={root}", f"paths.data={tmp_path}/data", "dataset.image_size=8"]
        return compose([*common, *overrides])

    return compose_for


@pytest.fixture
def load(folder_config: Callable[..., Config]) -> Callable[..., Dataset]:
    """`load(root, *overrides)`: the data set in a folder."""
    return lambda root, *overrides: load_dataset(folder_config(root, *overrides).dataset)
