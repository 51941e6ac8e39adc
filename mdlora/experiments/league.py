"""All that a comparison has trained, ranked: backbones, multi-domain methods, adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mdlora.errors import DataError, RunError
from mdlora.evaluation import mean_interval, verdicts_against
from mdlora.files import atomic_write_text
from mdlora.reports import league_figure, league_table

__all__ = ["league"]


def league(folder: str | Path, *, backbone: str = "wdl", method: str = "base") -> dict[str, Any]:
    """Rank the finished cells of a comparison's folder by mean test WAUC.

    The folder gets league.json, league.md and league.svg. Every (backbone, method) is compared
    with one of them, named beforehand, seed by seed: a paired t-test, p Holm-corrected over all.

    Args:
        folder: the `out` of `compare`, which may have been called more than once.
        backbone: of the one that all are compared with.
        method: of the one that all are compared with.

    Returns:
        The content of league.json: "rows", best first, with "backbone", "method", "wauc",
        "interval" (95 % over seeds, or None), "difference", "p", "verdict" (None for the one that
        all are compared with), "parameters", "cpu_seconds" (of training steps), "seeds";
        "against"; "data", the fingerprint of the data.

    Raises:
        RunError: the folder is no comparison, or nothing in it is finished.
        DataError: nothing of that backbone and method is finished.
    """
    folder = Path(folder)
    cells = _cells(folder)
    try:
        verdicts = verdicts_against(cells, backbone, method)
    except DataError as error:
        raise DataError(f"{folder}: {error} Name one with --against BACKBONE:METHOD.") from error
    found = {(v["backbone"], v["method"]): v for v in verdicts}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["backbone"], cell["method"]), []).append(cell)
    rows = [_row(key, group, found.get(key)) for key, group in groups.items()]
    rows.sort(key=lambda row: -(row["wauc"] if row["wauc"] is not None else -1.0))
    about = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    result = {
        "rows": rows,
        "against": {"backbone": backbone, "method": method},
        "data": about["data"],
    }
    atomic_write_text(folder / "league.json", json.dumps(result, indent=1) + "\n")
    atomic_write_text(folder / "league.md", league_table(result).to_markdown())
    atomic_write_text(folder / "league.svg", league_figure(result))
    return result


def _cells(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "comparison.json").exists():
        raise RunError(f"{folder} is no comparison. Give the --out of an earlier `mdlora compare`.")
    paths = sorted((folder / "cells").glob("*.json"))
    if not paths:
        raise RunError(f"{folder} has no finished cells yet: run its `mdlora compare` again.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _row(
    key: tuple[str, str], cells: list[dict[str, Any]], verdict: dict[str, Any] | None
) -> dict[str, Any]:
    waucs = [cell["wauc"] for cell in cells if cell["wauc"] is not None]
    mean = mean_interval(waucs) if waucs else None
    return {
        "backbone": key[0],
        "method": key[1],
        "wauc": None if mean is None else mean.mean,
        "interval": None if mean is None or mean.interval is None else list(mean.interval),
        "difference": None if verdict is None else verdict["difference"],
        "p": None if verdict is None else verdict["p"],
        "verdict": None if verdict is None else verdict["verdict"],
        "parameters": round(sum(cell["parameters"] for cell in cells) / len(cells)),
        "cpu_seconds": sum(cell["cpu_seconds"] for cell in cells) / len(cells),
        "seeds": len(cells),
    }
