"""What the results of all benchmarks are made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import torch

from mdlora.reports import Table
from mdlora.training.environment import describe_environment

__all__ = [
    "Bar",
    "bar_words",
    "cases_table",
    "compare_spreads",
    "describe_run",
    "make_case",
    "met_words",
    "number_words",
    "ratio_words",
    "spread_of",
]

Bar = tuple[Literal["at_least", "at_most"], float]
"""What a case's ratio should reach, or stay below."""


def make_case(
    case: str, ours: float, competitor: str, value: float, unit: str, *, bar: Bar | None = None
) -> dict[str, Any]:
    """One figure of ours beside a competitor's, or beside a bar.

    Args:
        case: what is measured.
        ours: our figure.
        competitor: whose figure it is compared with; "bar" where `value` is the bar itself, and
            `bar` then ("at_least", 1) or ("at_most", 1).
        value: the competitor's figure.
        unit: of both figures.
        bar: of ours / value. The case then also has "bar" and "met".
    """
    ratio = ours / value
    made = {
        "case": case,
        "ours": ours,
        "competitor": competitor,
        "competitor_value": value,
        "unit": unit,
        "ratio": ratio,
    }
    if bar is not None:
        kind, limit = bar
        made["bar"] = [kind, limit]
        made["met"] = ratio >= limit if kind == "at_least" else ratio <= limit
    return made


def compare_spreads(
    case: str,
    ours: Mapping[str, Any],
    competitor: str,
    theirs: Mapping[str, Any],
    unit: str,
    *,
    bar: Bar | None = None,
) -> dict[str, Any]:
    """A case of two medians, with "ratio_range": the least and the largest ratio of a round.

    Args:
        case: as in `make_case`, like `competitor`, `unit` and `bar`.
        ours: `spread_of` our rounds.
        competitor: its name.
        theirs: `spread_of` its rounds, the same ones.
        unit: of both.
        bar: of the ratio.
    """
    rounds = [a / b for a, b in zip(ours["values"], theirs["values"], strict=True)]
    made = make_case(case, ours["median"], competitor, theirs["median"], unit, bar=bar)
    return {**made, "ratio_range": [min(rounds), max(rounds)]}


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """The median of measured values, their bounds, and all of them."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def describe_run(threads: int, *packages: str) -> dict[str, Any]:
    """The machine, the date, and the versions of mdlora, Python, numba and these packages."""
    made_with = describe_environment(threads, torch.device("cpu"))
    return {
        "machine": made_with["processor"],
        "date": made_with["date"],
        "versions": {
            "mdlora": made_with["mdlora"],
            "python": made_with["python"],
            "numba": made_with["numba"],
            **{name: version(name) for name in packages},
        },
    }


def cases_table(caption: str, cases: Sequence[Mapping[str, Any]]) -> Table:
    """Cases, one a row; with their bars and whether they are met, where any has one."""
    heads = ["case", "ours", "against", "its value", "unit", "ratio"]
    barred = any("bar" in case for case in cases)
    rows = []
    for case in cases:
        row = [
            case["case"],
            number_words(case["ours"]),
            case["competitor"],
            number_words(case["competitor_value"]),
            case["unit"],
            ratio_words(case),
        ]
        rows.append((*row, bar_words(case), met_words(case)) if barred else tuple(row))
    return Table(caption, (*heads, "bar", "met") if barred else tuple(heads), tuple(rows))


def bar_words(case: Mapping[str, Any]) -> str:
    """Such as "at least 4 ×"; the limit itself where a figure of ours is held against it."""
    if "bar" not in case:
        return "–"
    kind, limit = case["bar"]
    if case["competitor"] != "bar":
        return f"{kind.replace('_', ' ')} {limit:g} ×"
    return f"{kind.replace('_', ' ')} {number_words(limit * case['competitor_value'])}"


def met_words(case: Mapping[str, Any]) -> str:
    """Whether a case's bar is met."""
    return "–" if "met" not in case else "yes" if case["met"] else "no"


def number_words(value: float) -> str:
    """A figure to four digits, or whole with commas."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def ratio_words(case: Mapping[str, Any]) -> str:
    """The ratio, and its least and largest value in a round where rounds are paired."""
    if "ratio_range" not in case:
        return f"{case['ratio']:.2f}"
    low, high = case["ratio_range"]
    return f"{case['ratio']:.2f} ({low:.2f} to {high:.2f})"
