"""Made-up results for the tests of the reports."""

from __future__ import annotations

import pytest

from mdlora.evaluation import verdicts

HOSTILE = "<script>alert('x')</script>"


def comparison(num_domains=3, backbones=("mlp",), seeds=5, oracle=0.85):
    names = ["US/CA", HOSTILE, "a $x_{ | b", *(f"theme {i}" for i in range(num_domains))]
    names = names[:num_domains]
    gains = {"base": [0.0] * 5, "mlora": [0.019, 0.018, 0.02, 0.021, 0.017], "moe": [1e-4] * 5}
    gains["moe"][0] = -1e-4
    cells = [
        {
            "method": method,
            "backbone": backbone,
            "seed": seed,
            "wauc": 0.75 + gain[seed] + 0.001 * seed,
            "auc": {n: 0.7 + 0.01 * i + gain[seed] for i, n in enumerate(names)},
            "log_loss": 0.4 - gain[seed],
            "seconds": 10.0 + seed,
            "parameters": 12345,
        }
        for backbone in backbones
        for method, gain in gains.items()
        for seed in range(seeds)
    ]
    return {"cells": cells, "verdicts": verdicts(cells), "oracle": oracle}


def curves(backbone="mlp", running=False):
    runs = [("base", 0, "pretrain"), ("mlora", 0, "pretrain"), ("mlora", 1, "finetune")]
    return [
        {
            "method": method,
            "backbone": backbone,
            "seed": seed,
            "phase": phase,
            "epoch": epoch + (10 * p if running else 0),
            "wauc": 0.7 + 0.01 * epoch,
            "train_loss": 0.5 - 0.01 * epoch,
        }
        for method, p, phase in runs
        for seed in range(2)
        for epoch in range(1, 4 + seed)
    ]


def gate(domains=("US/CA", HOSTILE)):
    experts = ["e1", "e2", "e3"]
    weights = [[0.2, 0.3, 0.5] for _ in domains]
    return {
        "method": "moe",
        "backbone": "mlp",
        "layer": "mlp.0",
        "domains": list(domains),
        "experts": experts,
        "weights": weights,
    }


@pytest.fixture
def make_comparison():
    return comparison


@pytest.fixture
def make_curves():
    return curves


@pytest.fixture
def make_gate():
    return gate
