"""What the results of all benchmarks are made of."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from mdlora.training.environment import describe_environment

__all__ = ["describe_run", "make_case", "spread_of"]


def make_case(case: str, ours: float, competitor: str, value: float, unit: str) -> dict[str, Any]:
    """One figure of ours beside a competitor's, or beside a bar."""
    return {
        "case": case,
        "ours": ours,
        "competitor": competitor,
        "competitor_value": value,
        "unit": unit,
        "ratio": ours / value,
    }


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """The median of measured values, their bounds, and all of them."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def describe_run(threads: int, *packages: str) -> dict[str, Any]:
    """The machine, the date, and the versions of mdlora, Python and these packages."""
    made_with = describe_environment(threads, torch.device("cpu"))
    return {
        "machine": made_with["processor"],
        "date": made_with["date"],
        "versions": {
            "mdlora": made_with["mdlora"],
            "python": made_with["python"],
            **{name: version(name) for name in packages},
        },
    }
