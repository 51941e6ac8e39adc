from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as scikit_log_loss

from mdlora.errors import DataError
from mdlora.metrics import calibration, grouped_calibration, grouped_log_loss, log_loss


def test_log_loss_equals_scikit_learn():
    rng = np.random.default_rng(1)
    logits, labels = torch.from_numpy(rng.normal(0, 2, 500)), rng.integers(0, 2, 500)
    groups = torch.from_numpy(rng.integers(0, 3, 500))
    probability = 1 / (1 + np.exp(-logits.numpy()))
    given_labels = torch.from_numpy(labels)
    assert log_loss(logits, given_labels) == pytest.approx(
        scikit_log_loss(labels, probability), rel=1e-12
    )
    found = grouped_log_loss(logits, given_labels, groups, 4)
    for g in range(3):
        rows = (groups == g).numpy()
        expected = scikit_log_loss(labels[rows], probability[rows])
        assert found[g] == pytest.approx(expected, rel=1e-12)
    assert found[3].isnan()


def test_log_loss_is_exact_at_large_logits():
    # log(1 + exp(-40)) = exp(-40) to 17 digits; log(1 + exp(100)) = 100; float32 logits, too.
    assert log_loss(torch.tensor([40.0]), torch.tensor([1])) == pytest.approx(math.exp(-40))
    assert log_loss(torch.tensor([100.0, -1000.0]), torch.tensor([0, 0])) == 50.0
    assert log_loss(torch.tensor([0.0]), torch.tensor([0])) == pytest.approx(math.log(2), rel=1e-15)
    # A right infinite logit costs nothing, a wrong one everything.
    assert log_loss(torch.tensor([torch.inf]), torch.tensor([1])) == 0.0
    assert log_loss(torch.tensor([torch.inf]), torch.tensor([0])) == math.inf


def test_calibration_is_predicted_over_observed_clicks():
    # sigmoid(0) = 1/2, sigmoid(log 3) = 3/4: group 0 expects 1.25 of 1 click, group 1 1/2 of 2.
    logits = torch.tensor([0.0, math.log(3), -math.log(3), -math.log(3), 0.0], dtype=torch.float64)
    labels = torch.tensor([1, 0, 1, 1, 0])
    found = grouped_calibration(logits, labels, torch.tensor([0, 0, 1, 1, 2]), 4)
    torch.testing.assert_close(found[:2], torch.tensor([1.25, 0.25], dtype=torch.float64))
    assert found[2:].isnan().all()  # rows without a click; no rows
    assert calibration(logits, labels) == pytest.approx(2.25 / 3)
    assert math.isnan(calibration(logits[:1], torch.tensor([0])))


def test_nan_logits_are_counted():
    logits = torch.tensor([math.nan, 0.0])
    for metric in (log_loss, calibration):
        with pytest.raises(DataError, match="1 of 2 logits are NaN"):
            metric(logits, torch.tensor([0, 1]))
