"""Training rows that are read from disk while a phase learns, window by window."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from torch import Tensor

from mdlora.config import MoEMLoRA, RunConfig
from mdlora.data import Dataset
from mdlora.data.rows import Rows
from mdlora.data.streaming import BatchStream, WindowPlan, stream_rows
from mdlora.errors import ConfigError
from mdlora.training.batches import PhaseRows
from mdlora.training.build import adapter_of
from mdlora.training.plan import make_plan
from mdlora.training.source import (
    Epoch,
    MemorySource,
    RowRules,
    Source,
    Step,
    step_of,
    weight_of,
)

__all__ = ["RowStream", "StreamedSource", "check_streaming", "open_source"]


@dataclass(frozen=True)
class RowStream:
    """The training rows of a data folder, to be read anew in each epoch."""

    data: Dataset
    """With a folder."""

    window_rows: int
    """Rows that are permuted together."""


def open_source(train: PhaseRows | RowStream, rules: RowRules) -> Source:
    """The rows of a phase, from memory or from disk."""
    if isinstance(train, RowStream):
        return StreamedSource(train, rules)
    return MemorySource(train, rules)


def check_streaming(config: RunConfig, data: Dataset) -> None:
    """Refuse `data.stream` where rows cannot be taken as they come from disk.

    Raises:
        ConfigError: the data are in memory, or a phase needs all rows at once: batches by domain,
            a part of the rows, or a random share of them for each of a domain's experts.
    """
    if not config.data.stream:
        return
    if data.path is None:
        raise ConfigError(
            "data.stream reads a data folder from disk, but these data are in memory. Leave it "
            "out, or write them to a folder (`mdlora prepare synthetic`, write_dataset)."
        )
    adapter = adapter_of(config)
    for phase in make_plan(config):
        what = ""
        if phase.batches != "mixed":
            what = f"batches {phase.batches!r}; choose batches 'mixed'"
        elif phase.rows != "all":
            what = f"rows {phase.rows!r}; choose rows 'all'"
        elif (
            phase.train == "experts"
            and phase.route == "own"
            and isinstance(adapter, MoEMLoRA)
            and adapter.experts_per_domain > 1
            and adapter.expert_rows in ("random", "bootstrap")
        ):
            what = (
                f"adapter.expert_rows={adapter.expert_rows!r} with "
                f"{adapter.experts_per_domain} experts a domain; choose 'clusters:COLUMN', or one "
                "expert a domain"
            )
        if what:
            raise ConfigError(
                f"data.stream cannot serve phase {phase.name!r}, which needs all its rows at once "
                f"for {what}, or leave data.stream out."
            )


class StreamedSource:
    """Rows read from disk in shuffled windows.

    An epoch's order is that of a `BatchStream` whose seed is of the run, the phase and the epoch.
    Batch b begins at row b * batch_size of it, so that reading goes on after any batch by
    arithmetic. What is drawn for a batch (hidden values) has a seed with the batch in it.
    """

    def __init__(self, train: RowStream, rules: RowRules) -> None:
        self.train, self.rules = train, rules

    @property
    def holds_unseen(self) -> list[bool]:
        """For each field, and then each list, whether a row holds its id 0."""
        schema, unseen = self.rules.schema, self.train.data.train_counts.unseen
        return [unseen[column.name] > 0 for column in (*schema.fields, *schema.lists)]

    def epoch(self, number: int, done: int) -> Epoch:
        """Epoch `number`, from 0, after its first `done` batches."""
        groups, window_rows = self.train.data.train_groups, self.train.window_rows
        size = self.rules.config.training.batch_size
        seed = self.rules.seed("order", number)
        plan = WindowPlan(groups, seed=seed, epoch=number, window_rows=window_rows)
        stream = stream_rows(
            groups,
            self.rules.schema,
            size,
            seed=seed,
            start=plan.locate(min(done * size, plan.num_rows)),
            window_rows=window_rows,
        )
        return _StreamedEpoch(stream, number, done, self.rules)


class _StreamedEpoch:
    def __init__(self, stream: BatchStream[Rows], number: int, done: int, rules: RowRules) -> None:
        self._stream, self._number, self._done, self._rules = stream, number, done, rules
        self._stopped: Tensor | None = None
        size = rules.config.training.batch_size
        self.num_rows = stream.plan.num_rows
        self.num_batches = -(-self.num_rows // size)
        self.rows_done = min(done * size, self.num_rows)

    def leave_out(self, stopped: Tensor | None) -> None:
        """Remember them for the batches to come."""
        self._stopped = stopped

    def steps(self) -> Generator[Step, None, None]:
        """Batches of the stream; the next window is read meanwhile."""
        rules = self._rules
        with closing(iter(self._stream)) as batches:
            for batch, found in enumerate(batches, self._done):
                rows = rules.prepare(PhaseRows.with_expert(found))
                passed = len(rows)
                rows = rules.sort(rules.hide(rows, self._number, batch), [(0, passed)])
                size = weight_of(rows, 0, passed)
                running = rules.running(rows, self._stopped)
                if running is not None:
                    rows = rows.pick(running.nonzero().squeeze(1))
                yield step_of(rows, 0, len(rows), passed, size)
