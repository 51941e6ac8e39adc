"""`compare` and `demo`: the JSON that scripts read, the report, and going on."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdlora.config import RunConfig
from mdlora.data import Dataset
from mdlora.training import load_run

Call = Callable[..., tuple[int, str, str]]

TIMES = {"seconds", "cpu_seconds"}
CELL = {"method", "backbone", "seed", "wauc", "auc", "log_loss", "parameters", *TIMES}
VERDICT = {"method", "backbone", "difference", "p", "verdict"}


def _check(result: dict[str, Any], methods: list[str], seeds: list[int]) -> None:
    """The shape that is promised."""
    asked = [(m, s) for m in methods for s in seeds]
    assert sorted((c["method"], c["seed"]) for c in result["cells"]) == sorted(asked)
    for cell in result["cells"]:
        assert cell.keys() >= CELL
        assert 0 < cell["wauc"] < 1
        assert all(0 <= auc <= 1 for auc in cell["auc"].values() if auc is not None)
        assert cell["log_loss"] > 0
        assert all(cell[time] >= 0 for time in TIMES)
        assert isinstance(cell["parameters"], int)
    assert sorted(v["method"] for v in result["verdicts"]) == sorted(set(methods) - {"base"})
    waucs = {(c["method"], c["seed"]): c["wauc"] for c in result["cells"]}
    for verdict in result["verdicts"]:
        assert verdict.keys() >= VERDICT
        differences = [waucs[verdict["method"], s] - waucs["base", s] for s in seeds]
        assert verdict["difference"] == pytest.approx(math.fsum(differences) / len(seeds))
        assert verdict["verdict"] in ("better", "worse", "no difference")
    assert max(waucs.values()) < result["oracle"] < 1


def _self_contained(page: str) -> None:
    assert page.startswith("<!doctype html>")
    assert "://" not in page
    for loader in ("<script", "<link", "<img", "<iframe", "@import", "url("):
        assert loader not in page.replace("url(#", ""), loader
    assert "<svg" in page


@pytest.fixture(scope="module")
def compared(
    folder: Path, tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A finished comparison of all methods with two seeds, and the command without seeds."""
    from mdlora.cli.main import main

    out = tmp_path_factory.mktemp("compared") / "all"
    asked = ["compare", str(folder), "--out", str(out), "--jobs", "1", *tiny_options]
    assert main([*asked, "--seeds", "1,2", "--json", str(out.parent / "all.json")]) == 0
    return out, asked


def test_json_and_files(compared: tuple[Path, list[str]]) -> None:
    out, _ = compared
    plain = json.loads((out.parent / "all.json").read_text(encoding="utf-8"))
    methods = ["base", "base-extra", "base-wide", "base-finetuned", "mlora", "moe-mlora",
               "mlora-joint", "moe-mlora-joint"]  # fmt: skip
    _check(plain, methods, [1, 2])
    assert plain == json.loads((out / "results.json").read_text(encoding="utf-8"))
    _self_contained((out / "report.html").read_text(encoding="utf-8"))
    assert plain.keys() >= {"cells", "verdicts", "oracle"}
    adapters = methods[4:]
    assert [(v["baseline"], v["method"]) for v in plain["against_controls"]] == [
        (control, method) for control in methods[1:4] for method in adapters
    ]
    text = (out / "results.md").read_text(encoding="utf-8")
    assert "| moe-mlora |" in text
    assert "| method | base-extra | base-wide | base-finetuned |" in text
    assert "domain_01" in text  # as it is, with nothing escaped


def test_cells_are_what_their_runs_give(compared: tuple[Path, list[str]]) -> None:
    out, _ = compared
    result = json.loads((out / "results.json").read_text(encoding="utf-8"))
    for cell in result["cells"][::5]:
        run = load_run(out / "runs" / f"{cell['backbone']}-{cell['method']}-seed{cell['seed']}")
        assert run.evaluate("test").wauc == cell["wauc"]


def test_methods_of_a_seed_share_their_first_phase(compared: tuple[Path, list[str]]) -> None:
    out, _ = compared
    files = [out / "runs" / f"wdl-{m}-seed2" / "backbone.safetensors"
             for m in ("base", "mlora", "moe-mlora")]  # fmt: skip
    assert len({path.read_bytes() for path in files}) == 1
    other = out / "runs" / "wdl-base-seed1" / "backbone.safetensors"
    assert other.read_bytes() != files[0].read_bytes()


def test_more_seeds_keep_the_old_cells(compared: tuple[Path, list[str]], mdlora: Call) -> None:
    out, asked = compared
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    code, said, _ = mdlora(*asked, "--seeds", "1,2,3", "--methods", "mlora")
    assert code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    new = {path.name for path in (out / "cells").iterdir()} - {path.name for path in before}
    assert new == {"wdl-base-seed3.json", "wdl-mlora-seed3.json"}
    assert "| mlora |" in said


def test_other_settings_need_another_folder(compared: tuple[Path, list[str]], mdlora: Call) -> None:
    out, asked = compared
    before = (out / "results.json").read_bytes()
    code, _, err = mdlora(*asked, "--seeds", "1", "--training.lr=0.5")
    assert (code, "was begun with other settings" in err) == (1, True)
    assert (out / "results.json").read_bytes() == before


def test_run_report_is_self_contained(
    folder: Path, tmp_path: Path, tiny_options: list[str], mdlora: Call
) -> None:
    run = tmp_path / "run"
    asked = ["train", folder, "--out", run, "--json", tmp_path / "run.json", "--quiet"]
    code, said, err = mdlora(*asked, *tiny_options, "--plan.max_epochs=1")
    assert (code, err) == (0, "")
    assert f"report: {run}/report.html" in said
    _self_contained((run / "report.html").read_text(encoding="utf-8"))
    told = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert told["wauc"] == load_run(run).evaluate("test").wauc


def test_demo(
    tmp_path: Path,
    tiny_data: Dataset,
    make_config: Callable[..., RunConfig],
    mdlora: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mdlora.cli.demo.RunConfig", make_config)  # small and quick
    monkeypatch.setattr(
        importlib.import_module("mdlora.experiments.compare"),
        "load_dataset",
        lambda source, domain: tiny_data,
    )
    asked = ["demo", "--seeds", "1,2", "--jobs", "1", "--out", tmp_path / "demo"]
    code, said, _ = mdlora(*asked, "--json", tmp_path / "demo.json")
    assert code == 0
    assert "| method | base-extra |" in said  # the points over the controls
    assert "| gap closed % |" in said
    plain = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    _check(plain, ["base", "base-extra", "mlora", "moe-mlora"], [1, 2])
    _self_contained((tmp_path / "demo" / "report.html").read_text(encoding="utf-8"))
    assert "oracle (ceiling)" in said
