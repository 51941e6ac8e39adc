"""Logits of rows by the fastest way that a model allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mdlora.adapters import AdaptedModel
from mdlora.backbones import Backbone, DeepFM, TowerBackbone
from mdlora.embeddings import Embeddings
from mdlora.errors import DataError
from mdlora.fast_scorer.limits import why_no_kernel_for_all, why_no_kernel_for_tower
from mdlora.fast_scorer.tower import Floats, Ints, Tower
from mdlora.types import Batch

__all__ = ["FastScorer", "Forward"]

Forward = Callable[[Batch, Tensor | None], Tensor]

_TILE_ROWS = 512  # whose layers stay in the processor's own cache (measured)


class FastScorer:
    """Logits of encoded rows, as the model's own in evaluation mode, but in less time.

    Any number of threads may call it at once. It reads the model's weights where they are, but
    for a copy of the tower's dense layers: after the model has changed, make a new one.

    Shapes (B rows, F fields): Batch.categories (B, F), Batch.domain (B,) -> logits (B,).

    Args:
        forward: the model's own pass (batch, expert) -> logits.
        parts: the model's embeddings, its backbone and its adapters, if any; None where it is
            not made of these.
        names: of the F fields, for messages.

    Attributes:
        engine: "compiled": kernels do all; "tower": they do the tower, torch the rest; "plain":
            the model's own pass.
        reason: why it is not "compiled".
    """

    engine: Literal["compiled", "tower", "plain"]
    reason: str | None

    def __init__(
        self,
        forward: Forward,
        parts: tuple[Embeddings, Backbone, AdaptedModel | None] | None = None,
        *,
        names: Sequence[str] = (),
    ) -> None:
        self._forward, self._names = forward, tuple(names)
        self.engine, self.reason = "plain", "it is not one backbone"
        if parts is None:
            return
        self.reason = why_no_kernel_for_tower(*parts)
        if self.reason is not None:
            return
        self._embeddings, backbone, adapted = parts
        assert isinstance(backbone, TowerBackbone)
        self._backbone = backbone
        self._tower = Tower(backbone, adapted)
        self.engine, self.reason = "tower", why_no_kernel_for_all(self._embeddings, backbone)
        if self.reason is None:
            self.engine = "compiled"
            self._pairs = isinstance(backbone, DeepFM)
            self._starts = self._embeddings.offsets.numpy()
            self._sizes = np.array(self._embeddings.num_ids)
            self._table = self._embeddings.table.detach().numpy()

    def __call__(self, batch: Batch, expert: Tensor | None = None) -> Tensor:
        """Logits (B,).

        Args:
            batch: encoded rows.
            expert: (B,) the one adapter of each row, in place of its domain's; -1 for none.

        Raises:
            AdapterError: a domain or an adapter that is not there.
            DataError: an id that its column does not have (from kernels).
        """
        if self.engine == "plain":
            with torch.no_grad():
                return self._forward(batch, expert)
        routes = self._tower.routes(batch.domain, expert)
        if self.engine == "compiled":
            return torch.from_numpy(self._score_ids(batch.categories, routes))
        with torch.no_grad():
            logits: Tensor = self._with_tower(routes)(self._embeddings(batch))
        return logits

    def _with_tower(self, routes: Ints) -> Backbone:
        """The backbone, but for its tower, which is ours for rows of these routes."""

        def deep(inputs: Tensor) -> Tensor:
            logits = np.zeros(len(inputs), np.float32)
            self._tower.add(inputs.contiguous().numpy(), routes, logits)
            return torch.from_numpy(logits)

        shell: Backbone = object.__new__(type(self._backbone))
        shell.__dict__.update(self._backbone.__dict__, deep=deep)
        return shell

    def _score_ids(self, categories: Tensor, routes: Ints) -> Floats:
        from mdlora.compiled.scoring import embed_rows

        ids: Ints = categories.long().contiguous().numpy()
        num_rows, num_fields = len(routes), len(self._sizes)
        if ids.shape != (num_rows, num_fields):
            raise DataError(
                f"Got ids of shape {ids.shape}; expected ({num_rows}, {num_fields}): a row for "
                "each domain id, and an id for each field."
            )
        width = self._embeddings.embed_dim
        logits = np.empty(num_rows, np.float32)
        for start in range(0, num_rows, _TILE_ROWS):
            tile = slice(start, start + _TILE_ROWS)
            some, of_some = ids[tile], logits[tile]
            inputs = np.empty((len(some), num_fields * width), np.float32)
            table = self._starts, self._sizes, self._table, width
            wrong = embed_rows(some, *table, self._pairs, inputs, of_some)
            if wrong >= 0:
                raise self._no_such_id(ids, start + wrong)
            self._tower.add(inputs, routes[tile], of_some)
        return logits

    def _no_such_id(self, ids: Ints, row: int) -> DataError:
        field = int(np.argmax((ids[row] < 0) | (ids[row] >= self._sizes)))
        return DataError(
            f"Row {row} (counted from 0): {self._names[field]!r} has id {ids[row, field]}, but "
            f"its ids run from 0 to {self._sizes[field] - 1}. Encode the rows with the model's "
            "own schema."
        )
