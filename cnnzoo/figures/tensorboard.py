"""What loggers get of a finished run: test metrics; TensorBoard also its settings and the confusion of classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnzoo.config import Config, identity
from cnnzoo.results.settings import as_text, flatten

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from cnnzoo.training.predict import Predictions


def log_result(
    loggers: "Sequence[Logger]",
    config: Config,
    result: Mapping[str, Any],
    steps: int,
    test: "Predictions",
    classes: Sequence[str],
) -> None:
    """Log a run's test metrics, and for TensorBoard its settings and a picture of the confusion of classes.

    Args:
        result: the metrics of the run, `test_accuracy` and so on.
        steps: the optimizer steps that the run took.
        test: the predictions that the confusion is drawn of.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    step = steps - 1  # Lightning counts from 0
    names = ("test_accuracy", "test_loss", "test_accuracy_tta")
    metrics = {name: result[name] for name in names if result.get(name) is not None}
    for logger in loggers:
        logger.log_metrics(metrics, step)
        if isinstance(logger, TensorBoardLogger):
            _log_to_tensorboard(logger.experiment, config, metrics, step, test, classes)
        logger.finalize("success")


def _log_to_tensorboard(
    writer: Any, config: Config, metrics: dict[str, float], step: int, test: "Predictions", classes: Sequence[str]
) -> None:
    from torch.utils.tensorboard.summary import hparams

    from cnnzoo.figures import style
    from cnnzoo.figures.run_plots import confusion

    with style.look():
        figure = confusion(test.logits.numpy(), test.labels.numpy(), classes)
        writer.add_figure("test_confusion", figure, step)
    settings = {"name": str(config.name)} | flatten(identity(config))
    settings = {key: value if isinstance(value, int | float) else as_text(value) for key, value in settings.items()}
    # Without the first, the list of settings: TensorBoard would take that of one run for all, and hide what others add.
    _, begin, end = hparams(settings, metrics)  # type: ignore[no-untyped-call]
    writer.file_writer.add_summary(begin)
    writer.file_writer.add_summary(end)
