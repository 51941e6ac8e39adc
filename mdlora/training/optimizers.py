"""The optimizers of one phase, behind one face."""

from __future__ import annotations

import torch
from torch import Tensor

from mdlora.config import Phase, TrainingConfig
from mdlora.model import CTRModel, ParameterGroup
from mdlora.training.bank_adam import BankAdam
from mdlora.training.dense_adam import DenseAdam
from mdlora.training.row_adam import RowAdam
from mdlora.types import Batch

__all__ = ["PhaseOptimizer", "trained_groups"]

_GROUPS: dict[str, tuple[ParameterGroup, ...]] = {
    "backbone": ("embeddings", "backbone"),
    "targets": ("targets",),
    "experts": ("experts",),
    "gate": ("gates",),
    "all": ("embeddings", "backbone", "experts", "gates"),
}


def trained_groups(phase: Phase) -> tuple[ParameterGroup, ...]:
    """The parts of the model that a phase trains."""
    groups = _GROUPS[phase.train]
    if phase.train == "all" and phase.route == "own":
        return tuple(g for g in groups if g != "gates")  # a gate that no row meets cannot learn
    return groups


class PhaseOptimizer:
    """Adam on what a phase trains: plain weights, tables, adapters.

    A fresh one each phase. The L2 penalty, l2 * sum of squares of the distinct table rows of the
    batch, acts through its gradient; the loss that is reported is the log loss alone.
    """

    def __init__(self, model: CTRModel, phase: Phase, config: TrainingConfig) -> None:
        groups = trained_groups(phase)
        self.model = model
        self.l2 = config.l2 if "embeddings" in groups else 0.0
        settings = {
            "lr": phase.lr or config.lr,
            "betas": (config.betas[0], config.betas[1]),
            "eps": config.eps,
        }
        plain = [p for name in groups if name != "experts" for p in model.group(name)]
        self.tables = model.embeddings.row_tables()
        self.rows: list[RowAdam] = []
        lazy = config.embedding_optimizer != "dense" and "embeddings" in groups
        model.embeddings.sparse_gradients = lazy
        if lazy:
            own = {id(table) for table in self.tables}
            plain = [p for p in plain if id(p) not in own]
            catch_up = config.embedding_optimizer == "catch_up"
            self.rows = [
                RowAdam(table, l2=self.l2, catch_up=catch_up, **settings)  # type: ignore[arg-type]
                for table in self.tables
            ]
        experts = model.group("experts") if "experts" in groups else []
        self.bank = BankAdam(experts, **settings) if experts else None  # type: ignore[arg-type]
        if model.adapted is not None:
            model.adapted.give_sparse_gradients(bool(experts))
        self.plain = DenseAdam(plain, **settings) if plain else None  # type: ignore[arg-type]
        self._marks: list[Tensor] = []

    def before_forward(self, batch: Batch) -> None:
        """What must happen before a batch's table rows are read."""
        if self.rows and self.rows[0].catch_up:
            touched = self.model.embeddings.touched(batch)
            for part, rows in zip(self.rows, touched, strict=True):
                part.before_reading(rows)

    def settle(self) -> None:
        """What must happen before weights are scored or saved."""
        for part in self.rows:
            part.settle()

    def step(self, batch: Batch, active: Tensor | None) -> None:
        """One step; `active` (K,) bool marks the experts with rows in the batch, None all."""
        if self.l2 and not self.rows:
            self._add_table_penalty(batch)
        if self.plain is not None:
            self.plain.step()
        for part in self.rows:
            part.step()
        if self.bank is not None:
            self.bank.step(active)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts().values():
            part.zero_grad()

    @torch.no_grad()
    def _add_table_penalty(self, batch: Batch) -> None:
        """Add 2 l2 w to the gradient of each distinct row of the batch, once."""
        if not self._marks:
            self._marks = [torch.zeros_like(table) for table in self.tables]
        touched = self.model.embeddings.touched(batch)
        for table, marks, places in zip(self.tables, self._marks, touched, strict=True):
            assert table.grad is not None
            rows = places.flatten()
            marks.index_fill_(0, rows, 2 * self.l2)
            table.grad.addcmul_(table, marks)
            marks.index_fill_(0, rows, 0.0)

    def _parts(self) -> dict[str, DenseAdam | RowAdam | BankAdam]:
        """The optimizers by name: that of the first table is "rows"."""
        names = ["rows", *(f"rows.{i}" for i in range(1, len(self.rows)))]
        found: dict[str, DenseAdam | RowAdam | BankAdam] = dict(zip(names, self.rows, strict=False))
        if self.plain is not None:
            found["plain"] = self.plain
        if self.bank is not None:
            found["bank"] = self.bank
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, not copied."""
        state: dict[str, Tensor] = {}
        for name, part in self._parts().items():
            state.update({f"{name}.{key}": value for key, value in part.tensors().items()})
        return state

    def load_tensors(self, state: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        for name, part in self._parts().items():
            for key, tensor in part.tensors().items():
                tensor.copy_(state[f"{name}.{key}"])
