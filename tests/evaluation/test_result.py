from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from mdlora.errors import DataError
from mdlora.evaluation import evaluate_scores


def small_split():
    """Domain ids 1, 2, 3 of four names, and two rows of an unknown domain."""
    logits = torch.tensor([0.0, 2.0, -1.0, 1.0, -2.0, 0.5, 0.3, 1.5, -0.5])
    labels = torch.tensor([0, 1, 1, 0, 0, 1, 1, 1, 0])
    domains = torch.tensor([1, 1, 1, 2, 2, 2, 3, 0, 0])
    return logits, labels, domains, ["news", "toys", "music", "games"]


def test_every_number_of_a_small_split():
    logits, labels, domains, names = small_split()
    oracle = torch.tensor([0.1, 0.9, 0.8, 0.2, 0.1, 0.9, 0.9, 0.9, 0.1])
    result = evaluate_scores(logits, labels, domains, names, oracle=oracle)
    # news: click 2.0 wins, click -1.0 loses against 0.0 -> 1/2. toys: 0.5 loses to 1, beats -2.
    # music: one class. games: no rows. Unknown: 1.5 beats -0.5.
    assert [d.name for d in result.domains] == ["news", "toys", "music", "games", "(unknown)"]
    assert [d.auc for d in result.domains] == [0.5, 0.5, None, None, 1.0]
    assert [d.rows for d in result.domains] == [3, 3, 1, 0, 2]
    assert [d.clicks for d in result.domains] == [2, 1, 1, 0, 1]
    assert result.left_out == ("music", "games")
    assert result.wauc == pytest.approx((3 * 0.5 + 3 * 0.5 + 2 * 1.0) / 8)
    assert result.mean_auc == pytest.approx(2 / 3)
    assert result.overall_auc == roc_auc_score(labels, logits)
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    assert result.log_loss == pytest.approx(log_loss(labels, p), rel=1e-12)
    assert result.calibration == pytest.approx(p.sum() / 5)
    assert result.domains[1].log_loss == pytest.approx(log_loss(labels[3:6], p[3:6]))
    assert result.domains[1].calibration == pytest.approx(p[3:6].sum() / 1)
    assert result.domains[3].log_loss is None
    assert (result.rows, result.clicks) == (9, 5)
    assert result.oracle_wauc == 1.0


def test_json_holds_fractions_and_no_nan():
    plain = evaluate_scores(*small_split()).to_json()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert again["wauc"] == pytest.approx(0.625)
    assert again["domains"][2]["auc"] is None
    assert again["left_out"] == ["music", "games"]
    assert again["oracle_wauc"] is None


def test_one_class_everywhere_gives_none():
    result = evaluate_scores(torch.zeros(2), torch.zeros(2), torch.tensor([1, 2]), ["a", "b"])
    assert (result.wauc, result.mean_auc, result.overall_auc, result.calibration) == (None,) * 4
    assert result.log_loss == pytest.approx(math.log(2))
    assert "| WAUC | – |" in result.to_markdown()


def test_markdown_shows_percent_and_escapes_names():
    logits, labels, domains, names = small_split()
    oracle = torch.rand(9)
    names[0] = "a|b<script>"
    text = evaluate_scores(logits, labels, domains, names, oracle=oracle).to_markdown()
    assert "| WAUC | 62.50 |" in text
    assert "| WAUC of the oracle (ceiling) | " in text
    # news: rows 0.0, 2.0, -1.0 with clicks 0, 1, 1: mean loss 0.7111, calibration 0.825.
    assert r"| a\|b\<script\> | 3 | 2 | 0.7111 | 0.825 | 50.00 |" in text
    assert "want of clicks and non-clicks: music, games." in text


def test_the_unknown_group_never_shares_a_domains_name():
    result = evaluate_scores(
        torch.zeros(2), torch.tensor([0, 1]), torch.tensor([0, 1]), ["(unknown)"]
    )
    assert [d.name for d in result.domains] == ["(unknown)", "((unknown))"]


def test_diverged_and_empty_splits_are_refused():
    _, labels, domains, names = small_split()
    bad = torch.tensor([math.nan, math.inf, *[0.0] * 7])
    with pytest.raises(DataError, match="2 of 9 logits are NaN or infinite"):
        evaluate_scores(bad, labels, domains, names)
    with pytest.raises(DataError, match="no rows"):
        evaluate_scores(torch.empty(0), torch.empty(0), torch.empty(0).long(), names)
    with pytest.raises(DataError, match="Group ids"):
        evaluate_scores(torch.zeros(9), labels, domains + 5, names)
