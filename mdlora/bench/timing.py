"""Competitors in turn, round after round."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mdlora.bench.results import spread_of
from mdlora.training import Progress

__all__ = ["Epoch", "Seconds", "cpu_rates", "step_times", "time_calls", "time_rounds", "wall_rates"]


@dataclass(frozen=True)
class Epoch:
    """One pass of training over some rows, ready to go: models and rows are there."""

    run: Callable[[], object]
    """Trains; called again, it goes on."""
    rows: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Batches of the pass."""
        return math.ceil(self.rows / self.batch_size)


class Seconds(NamedTuple):
    """What one call took."""

    cpu: float
    wall: float


def time_rounds(
    epochs: Mapping[str, Epoch], runs: int, progress: Progress, *, warm_up: bool = False
) -> dict[str, list[Seconds]]:
    """Measure everybody once a round, in turn: a machine that gets slower hits all alike.

    Args:
        epochs: who is measured, by name.
        runs: rounds.
        progress: told of each measurement.
        warm_up: whether a round goes before them that is not measured.
    """
    if warm_up:
        for epoch in epochs.values():
            epoch.run()
    found: dict[str, list[Seconds]] = {name: [] for name in epochs}
    for run in range(runs):
        for name, epoch in epochs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            epoch.run()
            took = Seconds(time.process_time() - cpu, time.perf_counter() - wall)
            found[name].append(took)
            progress.note(f"run {run + 1} of {runs}: {name}, {took.cpu:.2f} CPU s")
    return found


def time_calls(
    calls: Mapping[str, Callable[[], object]], runs: int, times: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Milliseconds of a call by the clock on the wall: in each round the median of `times`."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(-1, runs):  # the first one warms up
        for name, call in calls.items():
            taken = []
            for _ in range(times):
                started = time.perf_counter()
                call()
                taken.append(1e3 * (time.perf_counter() - started))
            if run >= 0:
                found[name].append(statistics.median(taken))
                progress.note(f"run {run + 1} of {runs}: {name}, {found[name][-1]:.3f} ms")
    return {name: spread_of(medians) for name, medians in found.items()}


def cpu_rates(epoch: Epoch, seconds: Iterable[Seconds]) -> dict[str, Any]:
    """Rows per CPU second."""
    return spread_of([epoch.rows / took.cpu for took in seconds])


def wall_rates(epoch: Epoch, seconds: Iterable[Seconds]) -> dict[str, Any]:
    """Rows per second by the clock on the wall."""
    return spread_of([epoch.rows / took.wall for took in seconds])


def step_times(epoch: Epoch, seconds: Iterable[Seconds], unit: float) -> dict[str, Any]:
    """CPU time of a step; `unit` is how many of its units make a second."""
    return spread_of([unit * took.cpu / epoch.steps for took in seconds])
