from __future__ import annotations

import math

import pytest
import torch

from mdlora.training.stopping import Stopper, unit_scores


def test_a_unit_stops_after_its_patience_and_only_a_higher_figure_counts():
    stopper = Stopper(1, patience=2)
    improved = []
    for epoch, value in enumerate([0.5, 0.6, 0.6, 0.61, 0.6, 0.55]):
        assert not bool(stopper.stopped)
        improved.append(bool(stopper.update(torch.tensor([value], dtype=torch.float64), epoch)))
    # 0.6 again is no improvement; 0.61 resets the patience; 0.6 and 0.55 use it up.
    assert improved == [True, True, False, True, False, False]
    assert stopper.stopped.tolist() == [True]
    assert stopper.best.tolist() == [0.61]
    assert stopper.best_epoch.tolist() == [3]


def test_units_stop_each_on_their_own():
    stopper = Stopper(3, patience=2)
    figures = [
        [0.5, 0.5, 0.5],
        [0.6, 0.4, 0.5],
        [0.7, 0.3, 0.6],  # unit 1 stops here
        [0.6, 0.9, 0.5],  # unit 1's 0.9 comes too late
        [0.8, 0.9, 0.5],  # unit 2 stops here
    ]
    better = [
        stopper.update(torch.tensor(row, dtype=torch.float64), epoch).tolist()
        for epoch, row in enumerate(figures)
    ]
    assert better == [
        [True, True, True],
        [True, False, False],
        [True, False, True],
        [False, False, False],
        [True, False, False],
    ]
    assert stopper.stopped.tolist() == [False, True, True]
    assert stopper.best.tolist() == [0.8, 0.5, 0.6]
    assert stopper.best_epoch.tolist() == [4, 0, 2]


def test_without_patience_nothing_stops():
    stopper = Stopper(1, patience=None)
    for epoch in range(20):
        stopper.update(torch.tensor([-epoch]), epoch)
    assert stopper.stopped.tolist() == [False]
    assert stopper.best_epoch.tolist() == [0]


def test_a_figure_that_is_no_number_never_wins():
    stopper = Stopper(1, patience=1)
    assert stopper.update(torch.tensor([math.nan]), 0).tolist() == [False]
    assert stopper.stopped.tolist() == [True]


def test_each_domain_is_judged_by_auc_or_log_loss_or_the_others_mean():
    auc = torch.tensor([0.7, 0.9, math.nan, math.nan, 0.8])
    log_loss = torch.tensor([0.1, 0.2, 0.3, math.nan, 0.5])
    # Clicks and the rest: 50 + 50, 49 + 951, 0 + 20, none at all, 60 + 50.
    rows = torch.tensor([100, 1000, 20, 0, 110])
    positives = torch.tensor([50, 49, 0, 0, 60])
    scores = unit_scores(auc, log_loss, rows, positives, 50)
    # Domain 0 and 4 by AUC; 1 and 2 by log loss; 3 by the mean of 0.7 and 0.8.
    torch.testing.assert_close(scores.values, torch.tensor([0.7, -0.2, -0.3, 0.75, 0.8]))
    assert scores.by_log_loss.tolist() == [False, True, True, False, False]
    assert scores.by_mean.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(("rows", "positives"), [(99, 50), (99, 49)])
def test_both_classes_need_min_validation_rows(rows: int, positives: int):
    one = torch.ones(1)
    scores = unit_scores(one * 0.7, one * 0.4, torch.tensor([rows]), torch.tensor([positives]), 50)
    torch.testing.assert_close(scores.values, torch.tensor([-0.4]))


def test_with_no_auc_at_all_an_empty_domain_takes_the_mean_log_loss():
    scores = unit_scores(
        torch.tensor([0.7, 0.6, math.nan]), torch.tensor([0.2, 0.4, math.nan]),
        torch.tensor([10, 10, 0]), torch.tensor([5, 5, 0]), 50,
    )  # fmt: skip
    torch.testing.assert_close(scores.values, torch.tensor([-0.2, -0.4, -0.3]))


def test_state_there_and_back():
    first = Stopper(2, patience=3)
    for epoch, row in enumerate([[0.1, 0.2], [0.0, 0.3], [0.0, 0.1]]):
        first.update(torch.tensor(row), epoch)
    second = Stopper(2, patience=3)
    second.load_tensors({name: t.clone() for name, t in first.tensors().items()})
    for stopper in (first, second):
        stopper.update(torch.tensor([0.0, 0.0]), 3)
    assert first.stopped.tolist() == second.stopped.tolist() == [True, False]
    assert first.best_epoch.tolist() == second.best_epoch.tolist() == [0, 1]
