"""Learning-rate schedules that torch has not."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def triangular(
    optimizer: Optimizer, total_steps: int, pct_start: float, start_factor: float, end_factor: float
) -> LambdaLR:
    """Straight up from `start_factor` to 1 over `pct_start` of the steps, then straight down to `end_factor`.

    The factors multiply each parameter group's own rate. As in Page 2018 and airbench, the whole numbers of steps of
    the two slopes add up to `total_steps`, and the last step is one before `end_factor` is reached.

    Raises:
        ValueError: a fraction or factor is not within its bounds.
    """
    if not 0 <= pct_start < 1:
        raise ValueError(f"pct_start={pct_start}: expected at least 0 and less than 1")
    if start_factor < 0 or end_factor < 0:
        raise ValueError(f"start_factor={start_factor}, end_factor={end_factor}: expected at least 0")
    peak = int(pct_start * total_steps)

    def factor(step: int) -> float:
        if step < peak:
            return start_factor + (1 - start_factor) * step / peak
        return 1 + (end_factor - 1) * min(1.0, (step - peak) / (total_steps - peak))

    return LambdaLR(optimizer, factor)
