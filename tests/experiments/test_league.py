from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdlora.errors import DataError, RunError
from mdlora.experiments import league
from mdlora.reports import league_table


def cell(backbone: str, method: str, seed: int, wauc: float | None) -> dict[str, Any]:
    size = {"wdl": 100, "star": 400}.get(backbone, 150)
    return {
        "backbone": backbone,
        "method": method,
        "seed": seed,
        "wauc": wauc,
        "parameters": size,
        "cpu_seconds": 2.0 * seed,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cells").mkdir()
    (tmp_path / "comparison.json").write_text(json.dumps({"data": "abc", "config": ""}))
    waucs = {
        ("wdl", "base"): [0.700, 0.702, 0.704, 0.706, 0.708],
        ("wdl", "mlora"): [0.7105, 0.7121, 0.7139, 0.7161, 0.7179],
        ("star", "base"): [0.690, 0.700, 0.710, 0.705, 0.701],
        ("dcn", "base"): [0.650, 0.652],
    }
    for (backbone, method), values in waucs.items():
        for seed, wauc in enumerate(values, 1):
            name = f"{backbone}-{method}-seed{seed}.json"
            plain = json.dumps(cell(backbone, method, seed, wauc))
            (tmp_path / "cells" / name).write_text(plain)
    return tmp_path


def test_models_are_ranked_and_compared_with_the_named_one(folder: Path):
    result = league(folder)
    rows = {(r["backbone"], r["method"]): r for r in result["rows"]}
    assert list(rows) == [("wdl", "mlora"), ("wdl", "base"), ("star", "base"), ("dcn", "base")]
    better = rows["wdl", "mlora"]
    # Differences 0.0105, 0.0101, 0.0099, 0.0101, 0.0099: mean 0.0101.
    assert better["difference"] == pytest.approx(0.0101)
    assert better["verdict"] == "better"
    assert rows["wdl", "base"]["verdict"] is rows["wdl", "base"]["difference"] is None
    assert rows["star", "base"]["verdict"] == "no difference"
    assert rows["star", "base"]["difference"] == pytest.approx(-0.0028)
    two = rows["dcn", "base"]
    assert (two["seeds"], two["cpu_seconds"], two["parameters"]) == (2, 3.0, 150)
    assert two["difference"] == pytest.approx(-0.05)
    assert json.loads((folder / "league.json").read_text()) == result
    assert (folder / "league.svg").read_text().startswith("<svg")
    text = (folder / "league.md").read_text()
    assert text == league_table(result).to_markdown()
    assert "| 1 | mlora on wdl | 71.41 ± 0.37 | +1.01 | \\< 0.001 | better | 100 | 6.0 |" in text


def test_whom_to_compare_with_is_asked_for(folder: Path):
    result = league(folder, backbone="star")
    star = next(r for r in result["rows"] if r["backbone"] == "star")
    assert (star["difference"], star["verdict"]) == (None, None)
    with pytest.raises(DataError, match=r"No cell is of mlora on star\. There are: .*--against"):
        league(folder, backbone="star", method="mlora")


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="is no comparison"):
        league(tmp_path)
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(RunError, match="no finished cells"):
        league(tmp_path)
