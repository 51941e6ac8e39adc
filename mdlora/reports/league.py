"""A league table and its picture: everything that was trained on one data set, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdlora.errors import DataError
from mdlora.evaluation import Table
from mdlora.evaluation.formats import decimal, percent
from mdlora.reports.summary import p_number, points
from mdlora.reports.svg import GRID, INK, clean, colour, drawing, plain_axes, to_svg

__all__ = ["league_figure", "league_name", "league_table"]


def league_name(backbone: str, method: str) -> str:
    """What a row is called: "star", or "mlora on wdl"."""
    return backbone if method == "base" else f"{method} on {backbone}"


def league_table(result: Mapping[str, Any]) -> Table:
    """One row for each model, best first; `result` is the content of league.json."""
    against = league_name(**result["against"])
    rows = tuple(
        (
            str(place),
            league_name(row["backbone"], row["method"]),
            _interval(row),
            points(row["difference"]),
            p_number(row["p"]),
            row["verdict"] or "–",
            f"{row['parameters']:,}",
            decimal(row["cpu_seconds"], 1),
            str(row["seeds"]),
        )
        for place, row in enumerate(result["rows"], 1)
    )
    caption = (
        "WAUC on the test split, mean over seeds ± 95 % interval, best first. Points, p "
        f"(Holm-corrected over all rows) and verdict are against {against}; CPU s are those "
        "of training steps."
    )
    columns = ("", "model", "WAUC %", "points", "p", "verdict", "parameters", "CPU s", "seeds")
    return Table(caption, columns, rows, num_text=2)


def _interval(row: Mapping[str, Any]) -> str:
    if row["interval"] is None:
        return percent(row["wauc"])
    return f"{percent(row['wauc'])} ± {50 * (row['interval'][1] - row['interval'][0]):.2f}"


def league_figure(result: Mapping[str, Any]) -> str:
    """WAUC of each model as a dot with its interval, best on top; the compared one in grey.

    Raises:
        DataError: no model has a WAUC.
    """
    from matplotlib.figure import Figure

    rows = [row for row in result["rows"] if row["wauc"] is not None]
    if not rows:
        raise DataError("No model has a WAUC, so there is nothing to draw.")
    names = [clean(league_name(row["backbone"], row["method"])) for row in rows]
    against = league_name(**result["against"])
    with drawing():
        figure = Figure(figsize=(8.6, 0.27 * len(rows) + 0.9), layout="constrained")
        axes = figure.add_subplot()
        plain_axes(axes, grid="x")
        for place, (row, name) in enumerate(zip(rows, names, strict=True)):
            paint = colour(0, "base" if name == clean(against) else name)
            if row["interval"] is not None:
                ends = [100 * end for end in row["interval"]]
                axes.plot(ends, [place] * 2, color=paint, linewidth=1.8, solid_capstyle="round")
            axes.plot([100 * row["wauc"]], [place], color=paint, marker="o", markersize=5.5)
            if name == clean(against):
                axes.axvline(100 * row["wauc"], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
            if place % 2:
                axes.axhspan(place - 0.5, place + 0.5, color=GRID, alpha=0.16, linewidth=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), names)
        axes.set_xlabel("WAUC on the test split, %")
        axes.tick_params(labeltop=len(rows) > 12)
        return to_svg(figure, f"WAUC in percent of {len(rows)} models, best on top")
