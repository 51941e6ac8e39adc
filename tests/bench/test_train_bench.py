from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from mdlora.bench import bench_table, run_train_bench
from mdlora.bench.rows import sample_rows, write_synthetic
from mdlora.bench.timing import Epoch, Seconds
from mdlora.bench.train import _summary
from mdlora.data import load_dataset
from mdlora.errors import ConfigError, MissingExtraError

CASE_KEYS = {"case", "ours", "competitor", "competitor_value", "unit", "ratio", "threads"}


PEERS = ("DeepCTR-Torch", "torch-rechub", "plain PyTorch loop")


@pytest.fixture(scope="module")
def result(peers: None) -> dict[str, Any]:
    return run_train_bench(None, runs=1, rows=3000)


def test_every_case_has_the_published_keys(result: dict[str, Any]) -> None:
    assert [case["case"] for case in result["cases"]] == [
        *["train deepfm"] * 3,
        *["train wdl"] * 3,
        "step mlora finetune",
        "step mlora joint",
        "step moe-mlora gate",
        "peak memory mlora",
    ]
    for case in result["cases"]:
        assert set(case) - {"bar", "met", "ratio_range"} == CASE_KEYS
        assert case["threads"] == 1
        assert case["ours"] > 0
        assert case["ratio"] == pytest.approx(case["ours"] / case["competitor_value"])
    bars = [tuple(case["bar"]) for case in result["cases"] if "bar" in case]
    training = [("at_least", 4), ("at_least", 4), ("at_least", 2.5)]
    assert bars == [*training, *training, ("at_most", 1)]


def test_what_was_measured_stands_beside_the_cases(result: dict[str, Any]) -> None:
    assert {"machine", "date", "versions", "runs", "spread"} <= set(result)
    assert result["versions"]["deepctr-torch"] == "0.3.0"
    assert "torch-rechub" in result["versions"]
    assert (result["runs"], result["rows"]) == (1, 3000)
    for entry in result["spread"].values():
        assert entry["min"] <= entry["median"] <= entry["max"]
        assert len(entry["values"]) == result["runs"]


def test_the_faster_of_a_competitors_settings_counts(result: dict[str, Any]) -> None:
    spread = result["spread"]
    pairs = [(backbone, peer) for backbone in ("deepfm", "wdl") for peer in PEERS]
    for (backbone, peer), case in zip(pairs, result["cases"], strict=False):
        found = [v["median"] for n, v in spread.items() if n.startswith(f"{backbone} {peer}")]
        assert len(found) == (1 if peer == "plain PyTorch loop" else 2)
        assert case["competitor_value"] == max(found)
        assert case["competitor"].startswith(peer)


def test_units_of_what_was_measured() -> None:
    # 3000 rows are 3 batches of at most 1024. Epochs of 6, 3 and 1 s: the median is 3 s,
    # which is 1000 rows a second, or 1 s = 1,000,000 us a step.
    epoch = Epoch(lambda: None, 3000, 1024)
    seconds = [Seconds(cpu, 0.0) for cpu in (6.0, 3.0, 1.0)]
    assert _summary("wdl mdlora", epoch, seconds)["median"] == 1000
    step = _summary("step base", epoch, seconds)
    assert (step["median"], step["max"]) == (pytest.approx(1e6), pytest.approx(2e6))


def test_several_threads_are_also_timed_by_the_clock_and_have_no_bars(
    peers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Seconds(cpu=2.0, wall=1.0)
    monkeypatch.setattr(
        "mdlora.bench.train.time_rounds", lambda epochs, *_: {name: [taken] for name in epochs}
    )
    result = run_train_bench(None, runs=1, rows=100, threads=2)
    units = [case["unit"] for case in result["cases"] if case["case"].startswith("train")]
    assert units == ["rows per CPU second"] * 6 + ["rows per second"] * 6
    assert {case["threads"] for case in result["cases"]} == {2}
    assert result["cases"][0]["ours"] == 50
    assert result["cases"][-1]["ours"] == 100
    assert not [case for case in result["cases"] if "bar" in case]


def test_the_table_has_one_row_a_case(result: dict[str, Any]) -> None:
    table = bench_table(result)
    assert [row[0] for row in table.rows] == [case["case"] for case in result["cases"]]
    assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("package", ["deepctr_torch", "torch_rechub"])
def test_a_missing_library_names_the_extra(
    peers: None, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install mdlora\[bench\]"):
        run_train_bench(None, runs=1, rows=100)


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"threads": 0}, {"rows": 0}, {"runs": 1.5}])
def test_counts_below_one_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        run_train_bench(None, **wrong)


def test_the_data_folder_may_be_text(
    peers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdlora.bench.train.training_peak", lambda _: 0.5)
    write_synthetic(tmp_path / "data", rows=4000)
    result = run_train_bench(str(tmp_path / "data"), runs=1, rows=100)
    assert (result["data"], result["rows"]) == (str(tmp_path / "data"), 100)
    assert result["cases"][-1]["ours"] == 0.5


def test_synthetic_rows_have_the_shape_of_movielens(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", rows=20_000)
    data = load_dataset(tmp_path / "data")
    assert data.schema.field_names == ("user_id", "movie_id", "gender")
    assert data.schema.domain_names == ("F", "M")
    # 3 of 5 parts of 20,000 rows; each (domain, label) group is within one row of its share.
    assert math.isclose(len(data.split("train")), 12_000, abs_tol=4)
    some = sample_rows(data, 500)
    assert len(some.label) == 500
    assert some.categories.equal(sample_rows(data, 500).categories)
    assert len(sample_rows(data, 10**9).label) == len(data.split("train"))
