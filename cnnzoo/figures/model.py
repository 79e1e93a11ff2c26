"""A picture of a network: blocks from input to logits, with output shapes, parameters and MACs, and what is in them.

python -m cnnzoo.figures model model=resnet dataset=cifar10
python -m cnnzoo.figures model model=densenet model.growth_rate=32 formats=[png,svg,pdf] out=paper/figures

Blocks of one kind that follow each other at one image size are one row. Reads no data.
"""

from pathlib import Path

from cnnzoo.config import command
from cnnzoo.config.schema import FiguresConfig


@command("figures_model")
def main(config: FiguresConfig) -> None:
    print(*draw(config), sep="\n")


def draw(config: FiguresConfig) -> list[Path]:
    """Write `<name>_architecture` into the folder `out`; return the paths.

    Raises:
        UserError: the network cannot be built or take the data set's images, or the picture cannot be written.
    """
    from cnnzoo.figures import style
    from cnnzoo.figures.architecture import architecture
    from cnnzoo.nn.build import build_model, input_shape
    from cnnzoo.nn.profile import profile

    style.check_formats(config.formats)
    model = build_model(config)
    costs = profile(model, input_shape(config), config.dataset.num_classes)
    with style.look():
        figure = architecture(model, costs, f"{config.name} on {config.dataset.name}")
        return style.save(
            {f"{style.folder_name(str(config.name))}_architecture": figure}, Path(config.out), config.formats
        )


if __name__ == "__main__":
    main()
