"""Benchmarks of adapters: domains, experts, PEFT."""

from __future__ import annotations

import sys

import pytest
import torch

from mdlora.bench import load_case, run_domains_bench, run_experts_bench, run_peft_bench
from mdlora.bench.experts import stop
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.ours import OurTraining
from mdlora.errors import ConfigError, MissingExtraError


def test_domains() -> None:
    result = run_domains_bench(
        few=(2,), batches=(32, 64), many=(1000,), gates=(3,), rows=128, runs=1
    )
    cases = {case["case"]: case for case in result["cases"]}
    joint = cases["mlora joint, 2 domains, batch 32"]
    assert joint["bar"] == ["at_most", 1.2]
    assert joint["ratio"] == joint["ours"] / joint["competitor_value"]
    assert cases["mlora joint, 1,000 domains, batch 64"]["bar"] == ["at_most", 1.8]
    assert "bar" not in cases["mlora finetune, 1,000 domains, batch 64"]
    assert "moe-mlora top-2 gate, 3 domains, batch 32" in cases
    moved = cases["adapters a joint step moves, 1,000 domains, batch 64"]
    # 4,608 numbers of 4 bytes for an adapter of the tower 24-256-128-64, ten times.
    assert moved["competitor_value"] == pytest.approx(1000 * 4608 * 4e-6 * 10)
    assert 0 < moved["ours"] <= 64 / 1000 * moved["competitor_value"]
    assert len(load_case("domains").table(result).rows) == len(result["cases"])


def test_experts() -> None:
    result = run_experts_bench(domains=(3, 10), rows=256, runs=1)
    assert [case["case"] for case in result["cases"]] == [
        "a run for each expert, 3 domains",
        "one pass, 3 domains",
        "a run for each expert, 10 domains",
        "one pass, 10 domains",
    ]
    assert [case.get("bar") for case in result["cases"]] == [
        None,
        ["at_most", 1.2],
        ["at_least", 2.0],
        ["at_most", 1.2],
    ]
    assert len(load_case("experts").table(result).rows) == 4


def test_experts_that_have_stopped_stand_still() -> None:
    schema = make_schema([20, 20], domains=3)
    training = OurTraining("mlora finetune", "wdl", schema, make_rows(schema, 64, skewed=False))
    adapted = training.runner.model.adapted
    assert adapted is not None
    up = adapted.bank_of(0).get_parameter("up")
    before = up.detach().clone()
    stop(training, torch.tensor([True, False, True]))
    training.epoch.run()
    assert [torch.equal(x, y) for x, y in zip(up, before, strict=True)] == [True, False, True]


def test_peft_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="mdlora\\[bench\\]"):
        run_peft_bench(batches=(4,), calls=1, runs=1)


def test_peft() -> None:
    pytest.importorskip("peft", reason="PEFT is not installed")
    result = run_peft_bench(batches=(4,), domains=2, calls=1, runs=1)
    assert result["cases"][0]["competitor"] == "PEFT"


@pytest.mark.parametrize("run", [run_domains_bench, run_experts_bench])
def test_sizes_below_one_are_refused(run: object) -> None:
    assert callable(run)
    with pytest.raises(ConfigError, match="rows"):
        run(rows=0)
