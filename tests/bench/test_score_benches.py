"""Benchmarks of scoring, of AUC by domain, and of the start."""

from __future__ import annotations

import pytest
import torch

from mdlora.bench import load_case, run_auc_bench, run_score_bench, run_start_bench
from mdlora.bench.score import _calls, _ids, _model
from mdlora.compiled import has_numba
from mdlora.errors import ConfigError, RunError


def test_auc() -> None:
    result = run_auc_bench(rows=4000, domains=7, runs=2)
    ours, theirs = (result["spread"][name]["median"] for name in ("mdlora", "scikit-learn"))
    by_bar, by_peer = result["cases"]
    # 2.5 s for 10 million rows are 1 ms for 4000.
    assert by_bar["ratio"] == pytest.approx(ours / 0.001)
    assert (by_peer["ours"], by_peer["competitor_value"]) == (ours, theirs)
    assert by_peer["met"] == (ours <= theirs / 2)
    assert len(load_case("auc").table(result).rows) == 2
    with pytest.raises(ConfigError, match="domains"):
        run_auc_bench(domains=0)


def test_score(peers: None) -> None:
    result = run_score_bench(batches=(1, 3), rows=2000, domains=4, runs=1)
    assert result["engine"] == ("compiled" if has_numba() else "plain")
    assert [case["case"] for case in result["cases"]] == [
        *["score 1 rows"] * 4,
        *["score 3 rows"] * 3,
        *["score a Parquet file"] * 4,
    ]
    assert result["cases"][0]["competitor_value"] == 0.06
    assert all(case["ours"] > 0 and case["threads"] == 1 for case in result["cases"])
    assert len(load_case("score").table(result).rows) == 11
    with pytest.raises(ConfigError, match="rows"):
        run_score_bench(rows=0)


def test_both_ways_of_ours_score_all_rows(peers: None) -> None:
    calls = _calls(_model(4), _ids(70, 4))
    own = torch.cat(calls["our model's own pass"]())  # type: ignore[arg-type]
    torch.testing.assert_close(calls["mdlora"](), own, rtol=1e-5, atol=1e-6)
    assert calls["DeepCTR-Torch, no adapters"]().shape == (70, 1)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_start() -> None:
    result = run_start_bench(rows=2000, runs=1)
    cpu, wall = result["cases"]
    assert (cpu["unit"], wall["unit"]) == ("CPU seconds", "seconds")
    assert 0.3 < cpu["ours"] < 60
    assert cpu["met"] == (cpu["ours"] <= 4)


def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(RunError, match="nowhere"):
        run_start_bench("nowhere", runs=1)
