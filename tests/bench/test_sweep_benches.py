"""Benchmarks that sweep a size: tables, columns, batches."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from mdlora.bench import load_case, run_batches_bench, run_columns_bench, run_tables_bench
from mdlora.bench.sweep import DEFAULT
from mdlora.bench.tables_apart import table_memory
from mdlora.errors import ConfigError, RunError

PEERS = ["DeepCTR-Torch", "torch-rechub", "plain PyTorch loop"]
OURS = ["mdlora dense", "mdlora lazy", "mdlora catch_up"]


def check_curves(result: dict[str, Any], picture: str, swept: list[int]) -> None:
    curves = result["curves"]
    assert curves["picture"] == picture
    assert [line["name"] for line in curves["lines"]] == OURS + PEERS
    for line in curves["lines"]:
        assert [point[0] for point in line["points"]] == swept
        assert all(0 < low <= median <= high for _, median, low, high in line["points"])


def test_batches(peers: None) -> None:
    result = run_batches_bench(batches=(32, 64), rows=96, runs=2)
    check_curves(result, "batches", [32, 64])
    names = [(case["case"], case["competitor"]) for case in result["cases"]]
    assert names == [(f"step of {size} rows", peer) for size in (32, 64) for peer in PEERS]
    ours = result["spread"][f"batch 32 {DEFAULT}"]
    assert result["cases"][0]["ours"] == ours["median"]
    assert len(ours["values"]) == 2
    assert len(load_case("batches").table(result).rows) == 6


def test_columns(peers: None) -> None:
    result = run_columns_bench(
        rows=512, peer_rows=256, columns=(2, 3), swept_rows=128, largest=100, runs=1
    )
    check_curves(result, "columns", [2, 3])
    names = [case["case"].removeprefix("criteo ") for case in result["cases"][::3]]
    assert names == [DEFAULT, *[way for way in OURS if way != DEFAULT]]
    bars = [case.get("bar") for case in result["cases"]]
    assert bars == [["at_least", 4], ["at_least", 3], *[None] * 7]
    assert load_case("columns").table(result).caption.startswith("26 columns of ids and 13")


def test_tables(peers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(way: str, users: int) -> dict[str, float]:
        assert users == 90
        return {"megabytes": 150.0, "needed_megabytes": 100.0}

    monkeypatch.setattr("mdlora.bench.tables.table_memory", memory)
    result = run_tables_bench(sizes=(30, 60, 90), dense_rows=60, steps=1, runs=1)
    cases = result["cases"]
    grown = [c for c in cases if c["competitor"] == "its own at the first size"]
    assert [c["case"] for c in grown] == [
        *[f"step, 60 users, {way}" for way in OURS],
        *[f"step, 90 users, {way}" for way in OURS[1:]],
    ]
    bars = [c.get("bar") for c in grown]
    some = ["at_most", 1.3]
    assert bars == [None, some, some, some, some]
    first = result["spread"]["60 users mdlora lazy at the first size"]
    assert grown[1]["competitor_value"] == first["median"]
    memories = [c for c in cases if c["case"].startswith("memory")]
    assert [c["case"] for c in memories] == [f"memory, 90 users, {way}" for way in OURS[1:]]
    assert memories[0]["ratio"] == 1.5
    lines = {line["name"]: [p[0] for p in line["points"]] for line in result["curves"]["lines"]}
    assert lines == {
        **{key: [30, 60] for key in ["mdlora dense", *PEERS]},
        **{key: [30, 60, 90] for key in OURS[1:]},
    }
    assert "90 users mdlora catch_up, before an evaluation" in result["spread"]
    assert len(load_case("tables").table(result).rows) == len(cases)


def test_the_memory_of_a_table_is_that_of_its_own_process() -> None:
    memory = table_memory("mdlora lazy", 1_000_000)
    # A million rows of 9 floats, and Adam's two moments of each: 108 MB; little else here.
    assert memory["needed_megabytes"] == pytest.approx(108.5, abs=1)
    assert memory["megabytes"] > memory["needed_megabytes"]
    assert memory["megabytes"] < memory["needed_megabytes"] + 600


def test_a_process_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="out of memory\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RunError, match="with 5 users by mdlora lazy failed:\nout of memory"):
        table_memory("mdlora lazy", 5)


@pytest.mark.parametrize(
    ("run", "wrong"),
    [
        (run_batches_bench, {"batches": (0,)}),
        (run_batches_bench, {"rows": 0}),
        (run_columns_bench, {"columns": (1,)}),
        (run_columns_bench, {"peer_rows": 11, "rows": 10}),
        (run_columns_bench, {"largest": 9}),
        (run_tables_bench, {"sizes": (10, 0)}),
        (run_tables_bench, {"steps": 0}),
        (run_tables_bench, {"dense_rows": 0}),
    ],
    ids=lambda given: given.__name__ if callable(given) else str(given),
)
def test_numbers_that_are_too_small_are_refused(run: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        run(**wrong)
