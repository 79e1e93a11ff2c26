"""Validated epochs are reported to a search, which may end a training."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cnnzoo.training.pruning import Pruning

Train = Callable[..., Any]


class Search:
    """Notes what is reported, and gives up once there are `limit` epochs."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.reports: list[dict[int, float]] = []

    def __call__(self, accuracies: Mapping[int, float]) -> bool:
        self.reports.append(dict(accuracies))
        return len(accuracies) >= self.limit


def test_every_validated_epoch_is_reported(train: Train) -> None:
    search = Search()
    pruning = Pruning(search)
    result = train("trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2", callbacks=[pruning])
    accuracies = [row["val_accuracy"] for row in result.results]
    assert search.reports == [{}, {}, {2: accuracies[1]}, {2: accuracies[1]}, {2: accuracies[1], 4: accuracies[3]}]
    assert not pruning.pruned


def test_given_up_training_stops_after_the_epoch(train: Train) -> None:
    pruning = Pruning(Search(limit=2))
    result = train("trainer.max_epochs=4", callbacks=[pruning])
    assert pruning.pruned
    assert result.fit.epochs == 2
    # without the search, the same run goes on to its end
    assert train("trainer.max_epochs=4").fit.epochs == 4


def test_last_epoch_is_never_pruned(train: Train) -> None:
    pruning = Pruning(Search(limit=2))
    assert train("trainer.max_epochs=2", callbacks=[pruning]).fit.epochs == 2
    assert not pruning.pruned


def test_resumed_training_reports_the_epochs_before(train: Train) -> None:
    stopped = Pruning(Search(limit=2))
    first = train("trainer.max_epochs=4", callbacks=[stopped])
    search = Search()
    train("trainer.max_epochs=4", callbacks=[Pruning(search)])
    assert search.reports[0] == {row["epoch"] + 1: row["val_accuracy"] for row in first.results}
    assert [len(report) for report in search.reports] == [2, 3, 4]


def give_up_at_once(accuracies: Mapping[int, float]) -> bool:
    return len(accuracies) == 1


@pytest.mark.slow
def test_several_processes_stop_together(train: Train) -> None:
    pruning = Pruning(give_up_at_once)
    assert train("trainer.max_epochs=4", "trainer.devices=2", callbacks=[pruning]).fit.epochs == 1
    assert pruning.pruned
