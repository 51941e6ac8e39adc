"""What cases share that train with growing tables, columns or batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mdlora.bench.network import Network
from mdlora.bench.ours import OurTraining
from mdlora.bench.peers import FASTEST
from mdlora.bench.timing import Epoch, step_times, time_rounds
from mdlora.config import TrainingConfig
from mdlora.schema import Schema
from mdlora.training import Progress
from mdlora.training.batches import PhaseRows

__all__ = ["BACKBONE", "DEFAULT", "WAYS", "curves_of", "our_way", "spread_by", "time_beside"]

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


def time_beside(
    ours: Mapping[str, Epoch],
    schema: Schema,
    rows: PhaseRows,
    batch_size: int,
    runs: int,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of a step by name: our epochs, and the competitors' over the same rows."""
    network = Network(schema=schema, backbone=BACKBONE, batch_size=batch_size)
    epochs = {**ours, **{name: build(network, rows) for name, build in FASTEST.items()}}
    seconds = time_rounds(epochs, runs, progress, warm_up=True)
    return {name: step_times(epochs[name], took, 1e3) for name, took in seconds.items()}


def spread_by(label: str, steps: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """What was measured for each value of a sweep, under one name each: "LABEL NAME".

    Args:
        label: with "{}" where the value goes.
        steps: for each value, what was measured by name.
    """
    return {
        f"{label.format(value)} {name}": found
        for value, by_name in steps.items()
        for name, found in by_name.items()
    }


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
