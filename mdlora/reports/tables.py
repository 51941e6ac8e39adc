"""The tables of a report, built once and shown as Markdown, in a terminal, or in HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mdlora.evaluation import MeanInterval
from mdlora.evaluation.formats import decimal, escape_cell, percent
from mdlora.reports.summary import MethodSummary, p_number, points, summarise

if TYPE_CHECKING:
    import rich.table

__all__ = [
    "Table",
    "comparison_table",
    "domain_tables",
    "evaluation_domain_table",
    "evaluation_table",
]


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, column heads and rows of text. The first `num_text` columns align left."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_text: int = 1

    def to_markdown(self) -> str:
        """The table in Markdown, its caption as a paragraph above it."""
        rules = ["---"] * self.num_text + ["---:"] * (len(self.columns) - self.num_text)
        lines = [self.columns, rules, *(map(escape_cell, row) for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{escape_cell(self.caption)}\n\n{table}\n"

    def to_rich(self) -> rich.table.Table:
        """The table for a terminal."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(self.caption), title_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(Text(column), justify="left" if i < self.num_text else "right")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


def comparison_table(result: Mapping[str, Any]) -> Table:
    """One row for each backbone and method, and one for the oracle where there is one."""
    summaries = summarise(result)
    several = len({s.backbone for s in summaries}) > 1
    rows = [
        (
            *((s.backbone,) if several else ()),
            s.method,
            _mean_percent(s.wauc),
            points(s.verdict["difference"]) if s.verdict else "–",
            p_number(s.verdict["p"] if s.verdict else None),
            s.verdict["verdict"] if s.verdict else "–",
            decimal(s.log_loss.mean) if s.log_loss else "–",
            "–" if s.parameters is None else f"{s.parameters:,.0f}",
            decimal(s.seconds, 1),
            str(s.seeds),
        )
        for s in summaries
    ]
    if result.get("oracle") is not None:
        name = ("oracle (ceiling)", percent(result["oracle"]))
        rows.append((*(("–",) if several else ()), *name, *["–"] * 7))
    numbers = ("points over base", "p", "verdict", "log loss", "parameters", "seconds", "seeds")
    return Table(
        "WAUC on the test split: mean over seeds ± 95 % interval; p is Holm-corrected.",
        (*(("backbone",) if several else ()), "method", "WAUC %", *numbers),
        tuple(rows),
        num_text=2 if several else 1,
    )


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


def evaluation_table(
    result: Mapping[str, Any], intervals: Mapping[str, Any] | None = None
) -> Table:
    """The metrics of one scored split, given as `EvaluationResult.to_json()`."""
    ends = intervals or {}
    rows = [
        ("WAUC %", percent(result["wauc"]), _ends(ends.get("wauc"))),
        ("mean AUC %", percent(result["mean_auc"]), "–"),
        ("overall AUC %", percent(result["overall_auc"]), _ends(ends.get("overall_auc"))),
        ("log loss", decimal(result["log_loss"]), "–"),
        ("calibration", decimal(result["calibration"], 3), "–"),
        ("rows", f"{result['rows']:,}", "–"),
        ("clicks", f"{result['clicks']:,}", "–"),
    ]
    if result.get("oracle_wauc") is not None:
        rows.insert(1, ("WAUC % of the oracle (ceiling)", percent(result["oracle_wauc"]), "–"))
    return _with_intervals("The whole split.", ("metric", "value"), rows, intervals)


def evaluation_domain_table(
    result: Mapping[str, Any], intervals: Mapping[str, Any] | None = None
) -> Table:
    """One row for each domain of a scored split."""
    ends = intervals["domains"] if intervals else {}
    rows = [
        (
            d["name"],
            f"{d['rows']:,}",
            f"{d['clicks']:,}",
            decimal(d["log_loss"]),
            decimal(d["calibration"], 3),
            percent(d["auc"]),
            _ends(ends.get(d["name"])),
        )
        for d in result["domains"]
    ]
    columns = ("domain", "rows", "clicks", "log loss", "calibration", "AUC %")
    return _with_intervals("By domain.", columns, rows, intervals)


def _with_intervals(
    caption: str,
    columns: tuple[str, ...],
    rows: list[Any],
    intervals: Mapping[str, Any] | None,
) -> Table:
    if intervals is None:
        return Table(caption, columns, tuple(row[:-1] for row in rows))
    caption += f" 95 % intervals by drawing {intervals['unit']} again."
    return Table(caption, (*columns, "95 % interval"), tuple(rows))


def _mean_percent(mean: MeanInterval | None) -> str:
    if mean is None:
        return "–"
    half = mean.half_width
    return percent(mean.mean) + ("" if half is None else f" ± {100 * half:.2f}")


def _ends(interval: Any) -> str:
    return "–" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"
