from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mdlora.errors import DataError
from mdlora.evaluation import bootstrap_intervals


def make(n=240, users=30, seed=0):
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n)
    labels = rng.integers(0, 2, n)
    scores = np.round(rng.normal(labels + rng.normal(0, 1, users)[user], 1), 1)
    return scores, labels, rng.integers(1, 3, n), user


def test_intervals_equal_a_loop_that_repeats_rows():
    scores, labels, domains, user = make()
    found = bootstrap_intervals(
        *map(torch.from_numpy, (scores, labels, domains)), ["a", "b"],
        users=torch.from_numpy(user), replicates=25, seed=4,
    )  # fmt: skip
    rng = np.random.default_rng(4)
    overall, by_domain, waucs = [], [], []
    for _ in range(25):
        drawn = rng.integers(0, 30, 30)
        rows = np.concatenate([np.flatnonzero(user == u) for u in drawn])
        overall.append(roc_auc_score(labels[rows], scores[rows]))
        parts = [rows[domains[rows] == d] for d in (1, 2)]
        by_domain.append([roc_auc_score(labels[p], scores[p]) for p in parts])
        waucs.append(np.average(by_domain[-1], weights=[len(p) for p in parts]))
    ends = [2.5, 97.5]
    assert found.overall_auc == pytest.approx(np.percentile(overall, ends), abs=1e-12)
    assert found.wauc == pytest.approx(np.percentile(waucs, ends), abs=1e-12)
    for i, name in enumerate(["a", "b"]):
        expected = np.percentile(np.array(by_domain)[:, i], ends)
        assert found.domains[name] == pytest.approx(expected, abs=1e-12)
    assert (found.unit, found.num_units, found.replicates) == ("users", 30, 25)


def test_drawing_users_gives_longer_intervals_where_rows_repeat():
    # Each user has one row, written ten times: drawing rows pretends to ten times the data.
    scores, labels, domains, _ = make(n=60)
    tens = [torch.from_numpy(np.repeat(a, 10)) for a in (scores, labels, domains)]
    users = [f"user {i}" for i in np.repeat(np.arange(60), 10)]
    by_user = bootstrap_intervals(*tens, ["a", "b"], users=users).overall_auc
    by_row = bootstrap_intervals(*tens, ["a", "b"]).overall_auc
    ratio = (by_user.high - by_user.low) / (by_row.high - by_row.low)
    assert 2.2 < ratio < 4.5  # about sqrt(10)


def test_the_seed_decides_and_json_is_plain():
    tensors = [torch.from_numpy(a) for a in make()[:3]]
    first = bootstrap_intervals(*tensors, ["a", "b"], replicates=5, seed=1)
    assert bootstrap_intervals(*tensors, ["a", "b"], replicates=5, seed=1) == first
    assert bootstrap_intervals(*tensors, ["a", "b"], replicates=5, seed=2) != first
    plain = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert plain["wauc"] == list(first.wauc)
    assert plain["unit"] == "rows"


def test_a_domain_of_one_class_has_no_interval():
    scores, labels = torch.tensor([1.0, 2.0, 3.0, 0.5, 4.0]), torch.tensor([0, 1, 1, 0, 1])
    found = bootstrap_intervals(scores, labels, torch.tensor([1, 1, 2, 1, 0]), ["a", "b", "c"])
    assert found.domains["b"] is None
    assert found.domains["c"] is None
    assert found.domains["a"] == (1.0, 1.0)
    assert found.domains["(unknown)"] is None
    assert found.wauc == (1.0, 1.0)
    assert found.to_json()["domains"]["b"] is None


def test_wrong_inputs_are_refused():
    tensors = [torch.from_numpy(a) for a in make()[:3]]
    with pytest.raises(DataError, match="at least 2, got 1"):
        bootstrap_intervals(*tensors, ["a", "b"], replicates=1)
    with pytest.raises(DataError, match=r"shape \(3,\) for 240"):
        bootstrap_intervals(*tensors, ["a", "b"], users=[1, 2, 3])
