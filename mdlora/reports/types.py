"""What goes into a report: plain data, as the training and evaluation packages hand it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ComparisonReport", "RunReport"]


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """Several methods, backbones and seeds on one data set."""

    title: str
    result: Mapping[str, Any]
    """The comparison's JSON: "cells", "verdicts" and "oracle" (WAUC of the truth, or None), and
    "against_controls" (verdicts with a "baseline") where there are controls."""
    curves: Sequence[Mapping[str, Any]] = ()
    """Validation points: "method", "backbone", "seed", "phase", "epoch", "wauc", "train_loss"."""
    gates: Sequence[Mapping[str, Any]] = ()
    """Mean gate weights: "method", "backbone", "layer", "domains" and "experts" (names), and
    "weights", one list over experts for each domain."""
    notes: Sequence[str] = ()
    """What a reader should know: unseen values, domains stopped by log loss, and the like."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, machine, commit, checksums: shown as they are; "config", settings as YAML."""


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """One training run and its evaluation. The other fields are as in `ComparisonReport`."""

    title: str
    result: Mapping[str, Any]
    """`EvaluationResult.to_json()` of the split that was scored."""
    curves: Sequence[Mapping[str, Any]] = ()
    gates: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
