"""The sections of a run's configuration. Every default is one of the protocol `paper`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mdlora.config.adapters import MoEMLoRA
from mdlora.config.checks import (
    check_choice,
    check_count,
    check_literals,
    check_number,
    counted,
)
from mdlora.config.methods import METHODS
from mdlora.config.plan import PlanConfig
from mdlora.errors import ConfigError

__all__ = [
    "DEFAULT_EMBED_DIM",
    "SECTIONS",
    "WINDOW_ROWS",
    "BackboneConfig",
    "DataConfig",
    "RunConfig",
    "TrainingConfig",
]

DEFAULT_EMBED_DIM = 8
"""E where neither the configuration nor given vectors say otherwise."""

WINDOW_ROWS = 262_144
"""Rows that a stream permutes together."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the rows come from."""

    path: str | None = None
    """A prepared data folder, or 'synthetic' for the small log that comes with the library."""

    oov_rate: float = 0.0
    """Share of training values hidden at random, so that out-of-vocabulary rows learn."""

    stream: bool = False
    """Read training rows from disk in shuffled windows, in place of holding them in memory.
    Validation and test rows stay in memory."""

    domain: str | None = None
    """Take the rows of this one domain alone, in training and in the run's own figures."""

    window_rows: int = WINDOW_ROWS
    """Rows of a window, which are permuted together; two windows are in memory at a time."""

    def __post_init__(self) -> None:
        check_number("data.oov_rate", self.oov_rate, low=0, high=1, high_open=True)
        if not isinstance(self.stream, bool):
            raise ConfigError(f"data.stream={self.stream!r} is neither true nor false; give one.")
        if self.stream and self.domain is not None:
            raise ConfigError(
                f"data.domain={self.domain!r} cannot be streamed from disk. Leave out data.stream, "
                "or prepare a data folder of that domain alone."
            )
        check_count("data.window_rows", self.window_rows, low=1)
        if self.window_rows != WINDOW_ROWS and not self.stream:
            raise ConfigError(
                f"data.window_rows={self.window_rows} has no effect on rows in memory. Set "
                "data.stream, or leave it out."
            )


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The network that all domains share."""

    name: str = "wdl"
    """One of those that `mdlora models` lists."""

    embed_dim: int | None = None
    """E, the width of one field's embedding; default: 8, or the width of given vectors where all
    fields but the domain are vectors of one width."""

    hidden: tuple[int, ...] = (256, 128, 64)
    """Widths of the hidden layers, input side first."""

    dropout: float = 0.5
    """Chance of dropping a hidden unit, in [0, 1)."""

    init_std: float = 0.01
    """Standard deviation of the embeddings at the start."""

    options: dict[str, Any] = field(default_factory=dict)
    """The backbone's own settings by name, say backbone.options.cross_layers; `mdlora models NAME`
    lists them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        given: dict[Any, Any] = dict(self.options or {})
        if True in given:  # so YAML reads the name of the option "on"
            given["on"] = given.pop(True)
        if unnamed := [key for key in given if not isinstance(key, str)]:
            raise ConfigError(f"backbone.options names {unnamed[0]!r}; give names of options.")
        object.__setattr__(self, "options", given)
        check_count("backbone.embed_dim", self.embed_dim, low=1, optional=True)
        if not self.hidden:
            raise ConfigError("backbone.hidden is empty; give at least one width, say [64].")
        for width in self.hidden:
            check_count("backbone.hidden", width, low=1)
        check_number("backbone.dropout", self.dropout, low=0, high=1, high_open=True)
        check_number("backbone.init_std", self.init_std, low=0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How weights are learned, whatever the method."""

    lr: float = 1e-3
    """Adam's learning rate."""

    batch_size: int = 1024
    """Rows of a training step."""

    eval_batch_size: int = 16384
    """Rows scored at once."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates of the two moments."""

    eps: float = 1e-8
    """Adam's epsilon, outside the root."""

    l2: float = 1e-5
    """Penalty on the sum of squares of the distinct embedding and linear rows of a batch."""

    embedding_optimizer: Literal["dense", "lazy", "catch_up"] = "lazy"
    """lazy: touched rows only, moments wait while a row is absent. dense: torch.optim.Adam over all
    rows. catch_up: equals dense, but missed steps are applied when a row is next touched."""

    threads: int = 1
    """CPU threads. On few or shared cores one is often faster than two."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a CUDA device where there is one."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints within an epoch; each epoch ends with one. Never changes results."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        check_literals(self, "training.")
        check_number("training.lr", self.lr, low=0, low_open=True)
        check_count("training.batch_size", self.batch_size, low=1)
        check_count("training.eval_batch_size", self.eval_batch_size, low=1)
        if len(self.betas) != 2:
            raise ConfigError(f"training.betas has {counted(len(self.betas), 'number')}; give two.")
        for beta in self.betas:
            check_number("training.betas", beta, low=0, high=1, high_open=True)
        check_number("training.eps", self.eps, low=0, low_open=True)
        check_number("training.l2", self.l2, low=0)
        check_count("training.threads", self.threads, low=1)
        check_number("training.checkpoint_seconds", self.checkpoint_seconds, low=0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's weights."""

    method: str = "moe-mlora"
    """base, mlora, moe-mlora, mlora-joint, moe-mlora-joint, full-finetuned, separate, or a
    control: base-extra, base-wide, base-finetuned."""

    seed: int = 1
    """Decides initial weights, the order of rows, dropout and held-out rows."""

    data: DataConfig = field(default_factory=DataConfig)
    """The rows."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """The shared network."""

    adapter: MoEMLoRA = field(default_factory=MoEMLoRA)
    """Adapters and gate; base methods read only what gives the controls their size."""

    plan: PlanConfig = field(default_factory=PlanConfig)
    """Phases and stopping."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Optimizer, batches, device."""

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_count("seed", self.seed, low=0)


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "adapter": MoEMLoRA,
    "plan": PlanConfig,
    "training": TrainingConfig,
}
"""The sections of a RunConfig by name."""
