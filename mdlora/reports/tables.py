"""The tables of a report, built once and shown as Markdown, in a terminal, or in HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdlora.evaluation import MeanInterval, Table
from mdlora.evaluation.formats import decimal, percent
from mdlora.reports.summary import MethodSummary, p_number, p_text, points, summarise

__all__ = ["comparison_table", "comparison_tables", "control_table", "domain_tables"]


def comparison_tables(result: Mapping[str, Any]) -> list[Table]:
    """The tables over all domains: the methods, and the points over the controls, if there are any.

    Args:
        result: the content of results.json: "cells", "verdicts" and "oracle", and
            "against_controls" where the comparison has controls.
    """
    tables = [comparison_table(result)]
    if result.get("against_controls"):
        tables.append(control_table(result))
    return tables


def comparison_table(result: Mapping[str, Any]) -> Table:
    """One row for each backbone and method, and one for the oracle where there is one.

    With an oracle, "gap closed" is (WAUC - base) / (oracle - base), over the seeds in common.
    """
    summaries = summarise(result)
    several = len({s.backbone for s in summaries}) > 1
    oracle = result.get("oracle")
    bases = {s.backbone: s.wauc.mean for s in summaries if s.method == "base" and s.wauc}
    rows = [
        (
            *((s.backbone,) if several else ()),
            s.method,
            _mean_percent(s.wauc),
            points(s.verdict["difference"]) if s.verdict else "–",
            *(() if oracle is None else (_gap_closed(s, bases.get(s.backbone), oracle),)),
            p_number(s.verdict["p"] if s.verdict else None),
            s.verdict["verdict"] if s.verdict else "–",
            decimal(s.log_loss.mean) if s.log_loss else "–",
            "–" if s.parameters is None else f"{s.parameters:,.0f}",
            decimal(s.seconds, 1),
            str(s.seeds),
        )
        for s in summaries
    ]
    caption = "WAUC on the test split: mean over seeds ± 95 % interval; p is Holm-corrected."
    if oracle is not None:
        name = ("oracle (ceiling)", percent(oracle))
        rows.append((*(("–",) if several else ()), *name, *["–"] * 8))
        caption += " Gap closed: the share of the way from base to the oracle."
    columns = (
        *(("backbone",) if several else ()),
        *("method", "WAUC %", "points over base"),
        *(() if oracle is None else ("gap closed %",)),
        *("p", "verdict", "log loss", "parameters", "seconds", "seeds"),
    )
    return Table(caption, columns, tuple(rows), num_text=2 if several else 1)


def _gap_closed(summary: MethodSummary, base: float | None, oracle: float) -> str:
    gained = summary.verdict["difference"] if summary.verdict else None
    if gained is None or base is None or oracle <= base:
        return "–"
    return decimal(100 * gained / (oracle - base), 1).replace("-", "−")


def control_table(result: Mapping[str, Any]) -> Table:
    """What adapters gain over each control: one row for each method, one column for each control.

    p is Holm-corrected over the column: each control is a family of tests of its own.
    """
    verdicts = result["against_controls"]
    controls = list(dict.fromkeys(v["baseline"] for v in verdicts))
    found = {(v["backbone"], v["method"], v["baseline"]): v for v in verdicts}
    pairs = list(dict.fromkeys((v["backbone"], v["method"]) for v in verdicts))
    several = len({cell["backbone"] for cell in result["cells"]}) > 1
    rows = tuple(
        (
            *((backbone,) if several else ()),
            method,
            *(_verdict(found.get((backbone, method, control))) for control in controls),
        )
        for backbone, method in pairs
    )
    return Table(
        "Points over the controls: mean paired difference in WAUC, p Holm-corrected within each "
        "control, verdict.",
        (*(("backbone",) if several else ()), "method", *controls),
        rows,
        num_text=2 if several else 1,
    )


def _verdict(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None or verdict["difference"] is None:
        return "–"
    p = verdict["p"]
    sure = "one seed" if p is None else p_text(p)
    return f"{points(verdict['difference'])} ({sure}, {verdict['verdict']})"


def domain_tables(result: Mapping[str, Any]) -> list[Table]:
    """For each backbone, the AUC of every domain (rows) with every method (columns)."""
    by_backbone: dict[str, list[MethodSummary]] = {}
    for summary in summarise(result):
        by_backbone.setdefault(summary.backbone, []).append(summary)
    tables = []
    for backbone, summaries in by_backbone.items():
        names = dict.fromkeys(name for s in summaries for name in s.domains)
        rows = [(name, *(_mean_percent(s.domains.get(name)) for s in summaries)) for name in names]
        caption = f"AUC by domain in %, backbone {backbone}: mean over seeds ± 95 % interval."
        tables.append(Table(caption, ("domain", *(s.method for s in summaries)), tuple(rows)))
    return tables


def _mean_percent(mean: MeanInterval | None) -> str:
    if mean is None:
        return "–"
    half = mean.half_width
    return percent(mean.mean) + ("" if half is None else f" ± {100 * half:.2f}")
