"""A comparison's cells summed up by method, and its verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mdlora.evaluation import Interval, MeanInterval, mean_interval

__all__ = [
    "MethodSummary",
    "Point",
    "Series",
    "headline",
    "p_number",
    "p_text",
    "points",
    "summarise",
]


class Point(NamedTuple):
    """A value with its interval, where there is one."""

    value: float
    interval: Interval | None


class Series(NamedTuple):
    """One method in a picture: its WAUC and its AUC by domain (None where there is none)."""

    name: str
    wauc: Point | None
    domains: Mapping[str, Point | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSummary:
    """One method on one backbone, averaged over its seeds."""

    backbone: str
    method: str
    seeds: int
    wauc: MeanInterval | None
    log_loss: MeanInterval | None
    parameters: float | None
    seconds: float | None
    domains: dict[str, MeanInterval | None]
    verdict: Mapping[str, Any] | None
    """None for the baseline."""

    def series(self) -> Series:
        """The same numbers as a picture takes them."""
        domains = {name: _point(mean) for name, mean in self.domains.items()}
        return Series(self.method, _point(self.wauc), domains)


def summarise(result: Mapping[str, Any]) -> list[MethodSummary]:
    """Average the cells of a comparison's JSON over seeds, in the cells' order."""
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in result["cells"]:
        cells.setdefault((cell["backbone"], cell["method"]), []).append(cell)
    verdicts = {(v["backbone"], v["method"]): v for v in result["verdicts"]}
    return [
        MethodSummary(
            backbone=backbone,
            method=method,
            seeds=len(runs),
            wauc=_mean(run["wauc"] for run in runs),
            log_loss=_mean(run.get("log_loss") for run in runs),
            parameters=_plain_mean(run.get("parameters") for run in runs),
            seconds=_plain_mean(run.get("seconds") for run in runs),
            domains={
                name: _mean(run["auc"].get(name) for run in runs)
                for name in dict.fromkeys(name for run in runs for name in run["auc"])
            },
            verdict=verdicts.get((backbone, method)),
        )
        for (backbone, method), runs in cells.items()
    ]


def headline(verdict: Mapping[str, Any], *, with_backbone: bool = False) -> str:
    """A verdict as one plain sentence; differences are in points of WAUC (hundredths)."""
    who = f"{verdict['method']} on {verdict['backbone']}" if with_backbone else verdict["method"]
    difference, p = verdict["difference"], verdict["p"]
    if difference is None:
        return f"{who}: no difference shown, for want of a base run with the same seed"
    if p is None:
        return f"{who}: {points(difference)} points over base on one seed: no difference shown"
    if verdict["verdict"] == "no difference":
        return f"{who}: no difference ({points(difference)} points, {p_text(p)})"
    return f"{who}: {points(difference)} points over base, {verdict['verdict']} ({p_text(p)})"


def points(difference: float | None) -> str:
    """A difference of fractions in points, with its sign: 0.019 is "+1.90"."""
    if difference is None:
        return "–"
    return f"{100 * difference:+.2f}".replace("-", "−")


def p_number(p: float | None) -> str:
    """A p value as a table shows it: "0.012", "< 0.001", or a dash for None."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_text(p: float) -> str:
    """A p value in a sentence: "p = 0.012", or "p < 0.001"."""
    return f"p {p_number(p)}" if p < 0.001 else f"p = {p_number(p)}"


def _mean(values: Iterable[float | None]) -> MeanInterval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known) if known else None


def _plain_mean(values: Iterable[float | None]) -> float | None:
    mean = _mean(values)
    return None if mean is None else mean.mean


def _point(mean: MeanInterval | None) -> Point | None:
    return None if mean is None else Point(mean.mean, mean.interval)
