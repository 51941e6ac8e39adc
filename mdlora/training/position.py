"""Where in a phase training is, and the time that its steps have taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Position", "clocks"]


@dataclass
class Position:
    """Where in a phase training is: `batch` batches of epoch `epoch` are done."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_rows: float = 0
    """Rows behind `loss_sum`, or the sum of their weights."""
    best_route: str = ""
    frozen: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Of steps: time by the clock."""
    cpu_seconds: float = 0.0
    """Of steps: time of all processors that this process used."""

    def count_time(self, started: tuple[float, float]) -> None:
        """Add the time since `started`, what `clocks` said then."""
        by_clock, by_processor = clocks()
        self.seconds += by_clock - started[0]
        self.cpu_seconds += by_processor - started[1]

    def times(self) -> dict[str, float]:
        """Both times, as metrics have them."""
        return {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}


def clocks() -> tuple[float, float]:
    """Seconds by the clock, and of processors that this process has used."""
    return time.perf_counter(), time.process_time()
