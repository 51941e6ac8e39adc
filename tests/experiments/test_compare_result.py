"""What a comparison says beside its cells: controls, settings, notes; and what it refuses."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mdlora.config import RunConfig, load_config
from mdlora.errors import RunError
from mdlora.experiments import compare
from mdlora.version import __version__

METHODS = ("base-extra", "base-finetuned", "mlora", "mlora-joint")
MODULE = importlib.import_module("mdlora.experiments.compare")  # its name is also the function's


@pytest.fixture(scope="module")
def finished(
    small_folder: Path, small_config: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("compared") / "small"
    return out, _again(small_folder, out, small_config)


def _again(source: Path, out: Path, config: RunConfig) -> dict[str, Any]:
    return compare(
        str(source), out=out, config=config, backbones=["wdl"], methods=METHODS, seeds=(1, 2)
    )


def test_adapters_are_compared_with_each_control(finished: tuple[Path, dict[str, Any]]) -> None:
    out, result = finished
    found = result["against_controls"]
    assert [(v["baseline"], v["method"]) for v in found] == [
        (control, method)
        for control in ("base-extra", "base-finetuned")
        for method in ("mlora", "mlora-joint")
    ]
    waucs = {(c["method"], c["seed"]): c["wauc"] for c in result["cells"]}
    for v in found:
        differences = [waucs[v["method"], s] - waucs[v["baseline"], s] for s in (1, 2)]
        assert v["difference"] == pytest.approx(math.fsum(differences) / 2)
    for control in ("base-extra", "base-finetuned"):  # Holm over the two tests of each family
        family = [v for v in found if v["baseline"] == control]
        raw = sorted(v["p_uncorrected"] for v in family)
        first = min(1, 2 * raw[0])
        assert sorted(v["p"] for v in family) == pytest.approx([first, max(first, raw[1])])
    assert {v["method"] for v in result["verdicts"]} == set(METHODS)
    assert not any("baseline" in v for v in result["verdicts"])
    for name in ("results.md", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert "Points over the controls" in text
        assert "gap closed %" in text


def test_no_controls_no_table() -> None:
    cells = [
        {"method": m, "backbone": "wdl", "seed": 1, "wauc": 0.7} for m in ("base", "mlora")
    ]  # fmt: skip
    assert MODULE._against_controls(cells) == []
    only = [{**cells[0], "method": "base-wide"}, cells[0]]
    assert MODULE._against_controls(only) == []  # no adapters


def test_settings_and_commit_are_on_record(
    finished: tuple[Path, dict[str, Any]], small_config: RunConfig, tmp_path: Path
) -> None:
    out, _ = finished
    about = json.loads((out / "results.json").read_text(encoding="utf-8"))["environment"]
    path = tmp_path / "config.yaml"
    path.write_text(about["config"], encoding="utf-8")
    read = load_config(path)
    assert (read.plan, read.training) == (small_config.plan, small_config.training)
    assert read.backbone.hidden == (32, 8)
    assert read.data.path is None  # the fingerprint says which data, wherever they lie
    # Each cell has its own.
    assert not {"method:", "seed:", "name:"} & set(about["config"].split())
    assert about["commit"] is None or len(about["commit"]) == 40
    assert f"```yaml\n{about['config']}```" in (out / "results.md").read_text(encoding="utf-8")


def test_notes_tell_of_held_out_rows_and_clipped_ranks(
    finished: tuple[Path, dict[str, Any]], small_folder: Path, small_config: RunConfig
) -> None:
    out, result = finished
    held = [n for n in result["notes"] if n.startswith("plan.rows=held_out:0.25: base, and")]
    assert len(held) == 1
    assert "only the other 75 % of the training rows. Compare with base-finetuned." in held[0]
    clipped = [n for n in result["notes"] if "rank was clipped to" in n]
    ranks = json.loads((out / "runs" / "wdl-mlora-seed1" / "env.json").read_text())["ranks"]
    cut = {name: rank["rank"] for name, rank in ranks.items() if rank["clipped"]}
    assert cut
    assert clipped == [
        f"Layer {name} of wdl: the temperature's rank was clipped to {rank}."
        for name, rank in cut.items()
    ]
    whole = dataclasses.replace(
        small_config, plan=dataclasses.replace(small_config.plan, rows="all")
    )
    data = MODULE.load_dataset(small_folder)
    assert not [n for n in MODULE._notes(result["cells"], data, whole) if "plan.rows" in n]


def test_figures_are_on_disk_when_the_report_fails(
    finished: tuple[Path, dict[str, Any]],
    small_folder: Path,
    small_config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, result = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for name in ("results.json", "results.md", "report.html"):
        (copy / name).unlink()

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a picture")

    monkeypatch.setattr("mdlora.reports.html.domain_auc_figure", fail)
    with pytest.raises(ZeroDivisionError, match="a picture"):
        _again(small_folder, copy, small_config)
    assert json.loads((copy / "results.json").read_text())["cells"] == result["cells"]
    assert "| mlora |" in (copy / "results.md").read_text(encoding="utf-8")
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"torch": "1.0"}, f"was begun with torch 1.0, this is {torch.__version__}: choose"),
        ({"mdlora": "0.0.0"}, f"was begun with mdlora 0.0.0, this is {__version__}: choose"),
        ({"device": "cuda"}, "was begun with device cuda, this is cpu: choose another --out"),
        ({"torch": None}, "was begun with other settings"),  # None: written without this key
        ({"data": "0"}, "The data changed since"),
    ],
)
def test_other_versions_need_another_folder(
    finished: tuple[Path, dict[str, Any]],
    small_folder: Path,
    small_config: RunConfig,
    tmp_path: Path,
    change: dict[str, str | None],
    message: str,
) -> None:
    out, _ = finished
    plain = json.loads((out / "comparison.json").read_text(encoding="utf-8")) | change
    plain = {key: value for key, value in plain.items() if value is not None}
    (tmp_path / "comparison.json").write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        _again(small_folder, tmp_path, small_config)
    assert message in str(caught.value)
    assert "hoose another --out" in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_damaged_folder_is_refused(
    small_folder: Path, small_config: RunConfig, tmp_path: Path, text: str
) -> None:
    (tmp_path / "comparison.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match="is damaged"):
        _again(small_folder, tmp_path, small_config)
