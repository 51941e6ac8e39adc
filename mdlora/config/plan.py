"""Training plans as data: which phases run, in which order, and what each one trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from mdlora.config.checks import check_count, check_literals, check_number
from mdlora.errors import ConfigError

__all__ = ["Phase", "PlanConfig", "held_out_share", "recent_days"]

Trains = Literal["backbone", "targets", "experts", "gate", "all"]
Route = Literal["none", "own", "gate"]


def held_out_share(rows: str) -> float | None:
    """The share in 'held_out:SHARE', or None for 'all' and 'recent:DAYS'.

    Raises:
        ConfigError: neither 'all', nor a share in (0, 1), nor days above 0.
    """
    if rows == "all" or recent_days(rows) is not None:
        return None
    share = _number_after("held_out", rows)
    if not 0 < share < 1:
        raise ConfigError(
            f"plan.rows={rows!r} is not known; choose 'all', 'held_out:SHARE' with a share "
            "in (0, 1), say held_out:0.2, or 'recent:DAYS', say recent:21."
        )
    return share


def recent_days(rows: str) -> float | None:
    """The days in 'recent:DAYS'; None where `rows` is nothing of the kind."""
    days = _number_after("recent", rows)
    return days if 0 < days < math.inf else None


def _number_after(kind: str, rows: str) -> float:
    """The number in 'KIND:NUMBER'; NaN where there is none."""
    before, _, text = rows.partition(":")
    try:
        return float(text) if before == kind else math.nan
    except ValueError:
        return math.nan


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of training."""

    name: str
    """What reports call it."""

    train: Trains
    """What learns: the backbone (with embeddings), its adapter target layers alone, the experts,
    the gate, or all at once. The rest is frozen, and checked to be bit-identical after."""

    route: Route
    """Which adapters a row meets: none, its own domain's, or all by the gate's weights."""

    stop: Literal["together", "by_domain"] = "together"
    """One stop and one best state for all, or one for each expert, by its own domain."""

    rows: str = "all"
    """Training rows of the phase: 'all'; 'seen', those left by plan.rows for pretraining;
    'held_out'; or 'recent:DAYS', those of the last days before the latest training row."""

    batches: Literal["mixed", "by_domain"] = "mixed"
    """Batches mix all domains, or hold rows of one domain each."""

    max_epochs: int = 50
    """Epochs at most."""

    patience: int | None = 3
    """Evaluations without a better figure before the stop; None never stops early."""

    lr: float | None = None
    """Learning rate; default: that of the training section."""

    def __post_init__(self) -> None:
        check_literals(self, f"phase {self.name!r}: ")
        if self.rows not in ("all", "seen", "held_out") and recent_days(self.rows) is None:
            raise ConfigError(
                f"Phase {self.name!r} has rows {self.rows!r}; choose 'all', 'seen', 'held_out', "
                "or 'recent:DAYS' with days above 0, say recent:21."
            )
        check_count(f"phase {self.name!r}: max_epochs", self.max_epochs, low=0)
        check_count(f"phase {self.name!r}: patience", self.patience, low=1, optional=True)
        check_number(f"phase {self.name!r}: lr", self.lr, low=0, low_open=True, optional=True)
        if self.train in ("experts", "gate", "all") and self.route == "none":
            raise ConfigError(
                f"Phase {self.name!r} trains {self.train} but its route is 'none', so no row "
                "would reach its adapters; choose route 'own' or 'gate', or train 'backbone'."
            )
        if self.train == "gate" and self.route != "gate":
            raise ConfigError(f"Phase {self.name!r} trains the gate; its route must be 'gate'.")
        if self.stop == "by_domain" and (self.train, self.route) != ("experts", "own"):
            raise ConfigError(
                f"Phase {self.name!r} stops by domain, which only experts on route 'own' can: "
                "anything else is shared between domains. Choose stop 'together'."
            )


_OF_METHODS_PHASES = {
    "patience": "Give each phase its patience, and leave this out.",
    "max_epochs": "Give each phase its max_epochs, and leave this out.",
    "batches": "Give each phase its batches, and leave this out.",
    "joint_start": "Begin with a phase that trains the backbone, and leave this out.",
    "finetune_lr": "Give each phase its lr, and leave this out.",
    "gate_lr": "Give each phase its lr, and leave this out.",
}
"""Settings of PlanConfig that only a method's own phases follow, and what to do instead."""


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """The settings that a method's phases share."""

    phases: tuple[Phase, ...] | None = None
    """A plan of your own in place of the method's. Its phases carry their own patience,
    max_epochs, batches and lr, so those settings of this section are refused beside it."""

    patience: int = 3
    """Evaluations without a better validation figure before a phase stops."""

    max_epochs: int = 50
    """Epochs of a phase at most."""

    extra_epochs: int = 6
    """Epochs that the control base-extra trains on after its stop; `compare` sets it to what the
    adapters took."""

    metric: Literal["wauc", "mean_auc"] = "wauc"
    """The validation figure that decides: weighted by rows, or the plain mean over domains."""

    min_validation: int = 50
    """A domain with fewer validation rows of either class stops by its log loss, not its AUC."""

    rows: str = "all"
    """Rows of the finetune phases: 'all'; 'held_out:SHARE', a share that pretraining skips; or
    'recent:DAYS', those of the last days before the latest training row."""

    batches: Literal["mixed", "by_domain"] = "mixed"
    """Batches of the expert phase: of all domains, or of one domain each."""

    joint_start: Literal["scratch", "pretrained"] = "scratch"
    """Whether joint methods start anew or after a pretraining phase."""

    eval_every_steps: int | None = None
    """Evaluate every so many steps; default: once an epoch."""

    finetune_lr: float | None = None
    """Learning rate of the finetune and expert phases; default: training.lr."""

    gate_lr: float | None = None
    """Learning rate of the gate phase; default: training.lr."""

    def __post_init__(self) -> None:
        if self.phases is not None:
            object.__setattr__(self, "phases", tuple(self.phases))
            if not self.phases:
                raise ConfigError("plan.phases is empty; give at least one phase.")
            names = [phase.name for phase in self.phases]
            if len(set(names)) < len(names):
                raise ConfigError(f"plan.phases repeats a name: {', '.join(names)}.")
            self._check_beside_phases(self.phases)
        check_literals(self, "plan.")
        check_count("plan.patience", self.patience, low=1)
        check_count("plan.max_epochs", self.max_epochs, low=0)
        check_count("plan.extra_epochs", self.extra_epochs, low=0)
        check_count("plan.min_validation", self.min_validation, low=1)
        check_count("plan.eval_every_steps", self.eval_every_steps, low=1, optional=True)
        check_number("plan.finetune_lr", self.finetune_lr, low=0, low_open=True, optional=True)
        check_number("plan.gate_lr", self.gate_lr, low=0, low_open=True, optional=True)
        held_out_share(self.rows)

    def _check_beside_phases(self, phases: tuple[Phase, ...]) -> None:
        """Refuse settings that phases of one's own would leave without effect, or lack."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _OF_METHODS_PHASES and value != field.default:
                raise ConfigError(
                    f"plan.{field.name}={value} has no effect beside plan.phases: each phase "
                    f"says itself what it does. {_OF_METHODS_PHASES[field.name]}"
                )
        if recent_days(self.rows) is not None:
            raise ConfigError(
                f"plan.rows={self.rows} has no effect beside plan.phases: each phase says itself "
                "which rows it takes. Give each phase its rows, and leave this out."
            )
        if held_out_share(self.rows) is None:
            for phase in phases:
                if phase.rows in ("seen", "held_out"):
                    raise ConfigError(
                        f"Phase {phase.name!r} has rows {phase.rows!r}, but plan.rows is "
                        f"{self.rows!r}: no rows are held out. Set plan.rows to a share, say "
                        "held_out:0.2, or give the phase rows 'all'."
                    )
