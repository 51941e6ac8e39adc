"""Methods x seeds on one data set, with controls, intervals and paired tests."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdlora.backbones import get_backbone
from mdlora.config import METHODS, RunConfig, check_choice, config_to_yaml
from mdlora.data import Dataset, load_dataset
from mdlora.errors import ConfigError, RunError
from mdlora.evaluation import verdicts
from mdlora.experiments.cells import Job, read_cell
from mdlora.experiments.workers import JobProgress, SilentJobs, run_jobs
from mdlora.files import atomic_write_text
from mdlora.reports import ComparisonReport, comparison_table, domain_tables, write_report
from mdlora.training.environment import describe_environment, pick_device

__all__ = ["compare"]


def compare(
    source: str,
    *,
    out: str | Path,
    config: RunConfig,
    backbones: Sequence[str],
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    processes: int = 1,
    progress: JobProgress | None = None,
    title: str | None = None,
) -> dict[str, Any]:
    """Train every method with every seed, and say which differ from base.

    The methods of one backbone and seed share their first phases bit for bit. `out` gets
    results.json, results.md, report.html, and a run folder and a result file for each cell. The
    same call again goes on where an interrupted one stopped; more seeds or methods may be asked
    for then, other settings not.

    Args:
        source: a data folder, or "synthetic".
        out: the folder of the comparison.
        config: settings of all cells; method, seed and backbone name are replaced.
        backbones: names.
        methods: names; base is added if it is missing, since all are compared with it.
        seeds: distinct, not negative.
        processes: jobs (a backbone and seed each) at the same time.
        progress: told what happens; default: silent.
        title: of the report.

    Returns:
        The content of results.json: "cells", "verdicts", "oracle", and what made them.

    Raises:
        ConfigError: unknown names, or repeated seeds.
        RunError: `out` holds another comparison, or a job failed.
    """
    methods = _checked(backbones, methods, seeds)
    folder = Path(out)
    data = load_dataset(source)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=source))
    about = _claim(folder, config, data)
    jobs = [
        Job(config=config, backbone=backbone, seed=seed, methods=methods, out=folder)
        for seed in seeds
        for backbone in backbones
    ]
    progress = progress or SilentJobs()
    for cell in _cells(folder, backbones, methods, seeds):
        progress.cell(cell)  # those that an earlier call finished
    run_jobs(jobs, data, source, processes, progress)
    cells = _cells(folder, backbones, methods, seeds)
    oracle = next((cell["oracle"] for cell in cells if cell["oracle"] is not None), None)
    plain = [{k: v for k, v in cell.items() if k not in ("curve", "gates")} for cell in cells]
    notes = _notes(cells, data)
    result: dict[str, Any] = {
        "cells": plain,
        "verdicts": verdicts(plain),
        "oracle": oracle,
        "environment": about,
        "notes": notes,
    }
    atomic_write_text(folder / "results.json", json.dumps(result, indent=1) + "\n")
    atomic_write_text(folder / "results.md", _markdown(result))
    write_report(
        folder / "report.html",
        ComparisonReport(
            title=title or f"Comparison on {source}",
            result=result,
            curves=[_point(cell, point) for cell in cells for point in cell["curve"]],
            gates=_gates(cells),
            notes=notes,
            environment=about,
        ),
    )
    return result


def _checked(
    backbones: Sequence[str], methods: Sequence[str], seeds: Sequence[int]
) -> tuple[str, ...]:
    for backbone in backbones:
        get_backbone(backbone)
    for method in methods:
        check_choice("method", method, METHODS)
    for what, given in (("seeds", seeds), ("methods", methods), ("backbones", backbones)):
        if not given:
            raise ConfigError(f"{what} is empty; give at least one.")
        if len(set(given)) < len(given):
            raise ConfigError(f"{what} has repeats: {', '.join(map(str, given))}.")
    if min(seeds) < 0:
        raise ConfigError(f"seeds={min(seeds)} is negative; give whole numbers from 0.")
    return tuple(m for m in METHODS if m in methods or m == "base")


def _claim(folder: Path, config: RunConfig, data: Dataset) -> dict[str, Any]:
    """Start the comparison's folder, or check that it is of the same comparison."""
    about = describe_environment(config.training.threads, pick_device(config.training.device))
    about["data"] = data.fingerprint()
    neutral = dataclasses.replace(
        config, method="base", seed=0, backbone=dataclasses.replace(config.backbone, name="wdl")
    )
    wanted = {"data": about["data"], "config": config_to_yaml(neutral)}
    path = folder / "comparison.json"
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder} is there and is no comparison. Choose another --out.")
        atomic_write_text(path, json.dumps(wanted, indent=1) + "\n")
        return about
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}. Choose another --out.") from error
    if found.get("data") != wanted["data"]:
        raise RunError(f"The data changed since {folder} was begun. Choose another --out.")
    if found.get("config") != wanted["config"]:
        raise RunError(
            f"{folder} was begun with other settings (see {path}). Give the same, or choose "
            "another --out."
        )
    return about


def _cells(
    folder: Path, backbones: Sequence[str], methods: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """The finished cells."""
    found = [
        read_cell(folder, backbone, method, seed)
        for backbone in backbones
        for method in methods
        for seed in seeds
    ]
    return [cell for cell in found if cell is not None]


def _notes(cells: Sequence[dict[str, Any]], data: Dataset) -> list[str]:
    notes = []
    for key, text in (
        ("left_out", "left out of WAUC, because their test rows hold one class"),
        ("judged_by_log_loss", "too few validation rows of a class: adapters stopped by log loss"),
        ("judged_by_mean", "no validation rows: adapters stopped by the other domains' mean"),
    ):
        names = sorted({name for cell in cells for name in cell[key]})
        if names:
            notes.append(f"Domains {', '.join(names)}: {text}.")
    for split in ("validation", "test"):
        for field, count in data.split(split).unseen.items():
            if count:
                notes.append(f"{count:,} {split} rows have a {field} that training never saw.")
    kept = [c for c in cells if c["method"] in ("moe-mlora",) and c["route"] == "own"]
    if kept:
        seeds = ", ".join(f"{c['backbone']} seed {c['seed']}" for c in kept)
        notes.append(f"moe-mlora kept the state before the gate, which validated best: {seeds}.")
    return notes


def _point(cell: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    return {"method": cell["method"], "backbone": cell["backbone"], "seed": cell["seed"], **point}


def _gates(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gates of each method's first seed."""
    shown: set[tuple[str, str]] = set()
    gates = []
    for cell in cells:
        key = (cell["backbone"], cell["method"])
        if cell["gates"] and key not in shown:
            shown.add(key)
            gates += [{"method": key[1], "backbone": key[0], **gate} for gate in cell["gates"]]
    return gates


def _markdown(result: dict[str, Any]) -> str:
    tables = [comparison_table(result), *domain_tables(result)]
    about = result["environment"]
    made = ", ".join(f"{k} {v}" for k, v in about.items() if v is not None)
    notes = "".join(f"- {note}\n" for note in result["notes"])
    return "\n".join(table.to_markdown() for table in tables) + f"\n{notes}\nMade with: {made}.\n"
