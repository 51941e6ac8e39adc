"""How good the click probabilities themselves are: log loss and calibration, in float64.

Both start from logits, because a float32 probability near 1 has lost what log loss measures.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdlora.metrics.checks import group_array, label_array, score_array

__all__ = ["calibration", "grouped_calibration", "grouped_log_loss", "log_loss"]


def _loss_by_row(logits: Tensor, labels: Tensor) -> Tensor:
    # -log p(label) = log(1 + exp(-z)) for a click and log(1 + exp(z)) otherwise, exact at any z.
    z = torch.from_numpy(score_array(logits, "logits")).double()
    clicked = torch.from_numpy(label_array(labels, z.numel()))
    return torch.logaddexp(torch.zeros_like(z), torch.where(clicked, -z, z))


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """The mean of -log p(label) over the rows, in nats; NaN where there are no rows.

    Args:
        logits: (N,) float32 or float64, before the sigmoid.
        labels: (N,) of 0 and 1.

    Raises:
        DataError: NaN logits, labels other than 0 and 1, or shapes that do not fit.
    """
    return float(_loss_by_row(logits, labels).mean())


def grouped_log_loss(logits: Tensor, labels: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """The log loss of each group, (G,) float64; NaN for an empty group.

    Raises:
        DataError: as for `log_loss`, or group ids out of range.
    """
    loss = _loss_by_row(logits, labels).numpy()
    ids = group_array(groups, loss.size, num_groups)
    total = torch.from_numpy(np.bincount(ids, weights=loss, minlength=num_groups))
    return total / torch.from_numpy(np.bincount(ids, minlength=num_groups))


def calibration(logits: Tensor, labels: Tensor) -> float:
    """Predicted over observed clicks: 1 is right, above 1 predicts too many; NaN without clicks.

    Raises:
        DataError: as for `log_loss`.
    """
    everything = torch.zeros(logits.shape[:1], dtype=torch.int64)
    return float(grouped_calibration(logits, labels, everything, 1)[0])


def grouped_calibration(logits: Tensor, labels: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Predicted over observed clicks of each group, (G,) float64.

    NaN for a group without clicks: infinity would say that the forecast is infinitely wrong, but
    a few rows without a click say nothing of the kind.

    Raises:
        DataError: as for `log_loss`, or group ids out of range.
    """
    predicted = torch.from_numpy(score_array(logits, "logits")).double().sigmoid().numpy()
    clicked = label_array(labels, predicted.size)
    ids = group_array(groups, predicted.size, num_groups)
    expected = torch.from_numpy(np.bincount(ids, weights=predicted, minlength=num_groups))
    observed = torch.from_numpy(np.bincount(ids[clicked], minlength=num_groups)).double()
    return torch.where(observed > 0, expected / observed, torch.nan)
