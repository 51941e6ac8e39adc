"""Tables of text, and those of one scored split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mdlora.evaluation.formats import decimal, escape_cell, percent

if TYPE_CHECKING:
    import rich.table

__all__ = ["Table", "evaluation_domain_table", "evaluation_table"]


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
        head, *body = (map(escape_cell, line) for line in (self.columns, *self.rows))
        table = "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *body))
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


def evaluation_table(
    result: Mapping[str, Any], intervals: Mapping[str, Any] | None = None
) -> Table:
    """The metrics of one scored split.

    Args:
        result: `EvaluationResult.to_json()`.
        intervals: `BootstrapIntervals.to_json()` of the same split, where it was computed.
    """
    ends = intervals or {}
    rows = [
        ("WAUC", percent(result["wauc"]), _ends(ends.get("wauc"))),
        ("mean AUC", percent(result["mean_auc"]), "–"),
        ("overall AUC", percent(result["overall_auc"]), _ends(ends.get("overall_auc"))),
        ("log loss", decimal(result["log_loss"]), "–"),
        ("calibration", decimal(result["calibration"], 3), "–"),
        ("rows", f"{result['rows']:,}", "–"),
        ("clicks", f"{result['clicks']:,}", "–"),
    ]
    if result.get("oracle_wauc") is not None:
        rows.insert(1, ("WAUC of the oracle (ceiling)", percent(result["oracle_wauc"]), "–"))
    caption = "The whole split, AUCs in %."
    return _with_intervals(caption, ("metric", "value"), rows, intervals)


def evaluation_domain_table(
    result: Mapping[str, Any], intervals: Mapping[str, Any] | None = None
) -> Table:
    """One row for each domain of a scored split; arguments as for `evaluation_table`."""
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


def _ends(interval: Any) -> str:
    return "–" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"
