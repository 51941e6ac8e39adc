"""What can score rows: one model, or one of each domain."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from os import PathLike
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdlora.data import Rows
from mdlora.fast_scorer import FastScorer
from mdlora.schema import Schema
from mdlora.types import Batch

__all__ = ["RowScorer"]

_LOG = logging.getLogger(__name__)


class RowScorer(nn.Module, ABC):
    """A network that gives each row of a schema a logit.

    Shapes (B rows, F fields): Batch.categories (B, F), Batch.domain (B,) -> logits (B,).
    """

    schema: Schema

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its weights are."""

    @abstractmethod
    def forward(
        self, batch: Batch, expert: Tensor | None = None, *, sorted_rows: bool = False
    ) -> Tensor:
        """Logits (B,)."""

    def fast_scorer(self) -> FastScorer:
        """Scores encoded rows, from any thread, by the fastest way that the model allows.

        What it gives are the logits of `forward`; the model is left in evaluation mode. Make a new
        one when the weights have changed.
        """
        self.eval()
        return FastScorer(self)

    @torch.no_grad()
    def score_rows(
        self, rows: Rows, *, batch_size: int = 16384, expert: Tensor | None = None
    ) -> Tensor:
        """Logits (N,) on the CPU, in the rows' order; the model is left in evaluation mode.

        Args:
            rows: N rows on the CPU; they are moved to the model's device a batch at a time.
            batch_size: rows scored at once.
            expert: (N,) the one adapter of each row, in place of its domain's.
        """
        score = self.fast_scorer()
        logits = torch.empty(len(rows), dtype=self.dtype)
        for start in range(0, len(rows), batch_size):
            end = min(start + batch_size, len(rows))
            part = rows.slice(start, end).to(self.device)
            chosen = None if expert is None else expert[start:end].to(self.device)
            logits[start:end] = score(part.batch(0, end - start), chosen).cpu()
        return logits

    def predict(
        self,
        rows: Any,
        *,
        batch_size: int = 16384,
        unknown_domain: Literal["backbone", "error"] = "backbone",
    ) -> npt.NDArray[np.float32]:
        """The click probability of raw rows, (N,) float32, in their order.

        Unseen values count as out of vocabulary; how many there were goes to the log.

        Args:
            rows: a pandas or polars frame, an Arrow table, a dict of arrays, or a path or URL of
                Parquet or CSV; with the columns of `schema.raw_columns(with_label=False)`.
            batch_size: rows scored at once.
            unknown_domain: score rows of unknown domains by the backbone alone, or raise an
                error.

        Raises:
            DataError: the rows cannot be read or do not fit the schema, or a domain is unknown
                and that is an error.
            SchemaError: a column is missing or of another type than it was fitted on.
        """
        from mdlora.data.sources import to_table

        source = str(rows) if isinstance(rows, str | PathLike) else "rows"
        table = to_table(rows, self.schema.raw_columns(with_label=False), source=source)
        encoded = self.schema.encode(
            table, with_label=False, source=source, unknown_domain=unknown_domain
        )
        counts = {"unseen": encoded.unseen, "missing": encoded.missing, "cut": encoded.cut}
        for what, by_column in counts.items():
            for name, count in by_column.items():
                if count:
                    _LOG.info("%s: column %r: %d %s", source, name, count, what)
        logits = self.score_rows(Rows.of(encoded), batch_size=batch_size)
        return torch.sigmoid(logits).float().numpy()
