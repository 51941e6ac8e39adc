"""What cases share that train with growing tables, columns or batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mdlora.bench.ours import OurTraining
from mdlora.config import TrainingConfig
from mdlora.schema import Schema
from mdlora.training.batches import PhaseRows

__all__ = ["BACKBONE", "DEFAULT", "WAYS", "curves_of", "our_way"]

BACKBONE = "deepfm"

WAYS: dict[str, Literal["dense", "lazy", "catch_up"]] = {
    "mdlora dense": "dense",
    "mdlora lazy": "lazy",
    "mdlora catch_up": "catch_up",
}
"""Ours, by `training.embedding_optimizer`."""

DEFAULT = f"mdlora {TrainingConfig().embedding_optimizer}"
"""The way of `WAYS` that users get who choose none: bars are for this one."""


def our_way(way: str, schema: Schema, rows: PhaseRows, batch_size: int) -> OurTraining:
    """Our training of the backbone alone, in one of `WAYS`."""
    training = TrainingConfig(batch_size=batch_size, embedding_optimizer=WAYS[way])
    return OurTraining("base", BACKBONE, schema, rows, training)


def curves_of(
    picture: str, x: str, y: str, steps: Mapping[int, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """What `mdlora bench pictures` draws of a sweep.

    Args:
        picture: the file's name is made of it.
        x: what was swept.
        y: what was measured.
        steps: for each value that was swept, what each name took, as `spread_of` gives it.

    Returns:
        {"picture", "x", "y", "lines": [{"name", "points": [[x, median, min, max], ...]}]}.
    """
    names = dict.fromkeys(name for by_name in steps.values() for name in by_name)
    lines = []
    for name in names:
        found = [(value, by_name[name]) for value, by_name in steps.items() if name in by_name]
        points = [[value, part["median"], part["min"], part["max"]] for value, part in found]
        lines.append({"name": name, "points": points})
    return {"picture": picture, "x": x, "y": y, "lines": lines}
