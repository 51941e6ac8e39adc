"""Curves of a sweep as a picture in the reports' look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdlora.errors import DataError
from mdlora.files import atomic_write_text
from mdlora.reports.svg import MARKERS, add_legend, clean, colour, drawing, plain_axes, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curve_figure", "draw_pictures"]

_OURS = "mdlora"


def draw_pictures(results: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Draw every sweep that results hold, as `speed-NAME.svg`; a later file's goes before.

    Args:
        results: JSON files of `mdlora bench`, of one case or of all.
        out: a folder; made if it is not there.

    Returns:
        The pictures' paths.

    Raises:
        DataError: a file is not there, is no result, or no file holds a sweep.
    """
    found = {curves["picture"]: curves for path in results for curves in _curves(Path(path))}
    if not found:
        raise DataError(
            f"No sweep stands in {', '.join(map(str, results))}. Give results of bench batches, "
            "columns, domains or tables, or of bench all."
        )
    Path(out).mkdir(parents=True, exist_ok=True)
    paths = []
    for name, curves in found.items():
        paths.append(Path(out) / f"speed-{name}.svg")
        atomic_write_text(paths[-1], curve_figure(curves) + "\n")
    return paths


def curve_figure(curves: Mapping[str, Any]) -> str:
    """Lines of medians, and bands from least to largest, on logarithmic axes.

    Args:
        curves: "x", "y" (what the axes say) and "lines", each with "name" and "points", a list
            of [x, median, min, max].

    Raises:
        DataError: there is no point.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    lines = [line for line in curves["lines"] if line["points"]]
    if not lines:
        raise DataError("The sweep has no points, so there is nothing to draw.")
    with drawing():
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        plain_axes(axes, grid="y")
        axes.set_xscale("log")
        axes.set_yscale("log")
        handles = []
        for place, line in enumerate(lines):
            paint, marker = colour(place, line["name"]), MARKERS[place % 8]
            ours = line["name"].startswith(_OURS)
            style: dict[str, Any] = {"color": paint, "marker": marker, "markersize": 5}
            style |= {"linewidth": 2.2} if ours else {"linewidth": 1.6, "linestyle": (0, (4, 2))}
            x, median, low, high = zip(*line["points"], strict=True)
            axes.plot(x, median, **style)
            axes.fill_between(x, low, high, color=paint, alpha=0.16, linewidth=0)
            handles.append(Line2D([], [], label=clean(line["name"]), **style))
        _plain_numbers(axes, sorted({point[0] for line in lines for point in line["points"]}))
        axes.set_xlabel(curves["x"])
        axes.set_ylabel(curves["y"])
        add_legend(figure, handles)
        names = ", ".join(line["name"] for line in lines)
        return to_svg(figure, f"{curves['y']} against {curves['x']}, for {names}")


def _plain_numbers(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at the values that were measured, and numbers as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xticks(values, [_short(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    return f"{value / 1e6:g} million" if value >= 1e6 else f"{value:,.10g}"


def _curves(path: Path) -> Iterator[Mapping[str, Any]]:
    """The sweeps of a file: of its only result, or of each in it."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        parts: Iterable[Mapping[str, Any]] = result.get("results", {"": result}).values()
        for part in parts:
            if "curves" in part:
                yield part["curves"]
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Name a result's file."
        ) from error
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path} is not a result of mdlora bench. Give a file that its --json wrote."
        ) from error
