"""One epoch of our own training loop, evaluation left out."""

from __future__ import annotations

import time
from typing import Any

from mdlora.config import BackboneConfig, MLoRA, MoEMLoRA, Phase, RunConfig, TrainingConfig
from mdlora.data import Dataset
from mdlora.model import CTRModel
from mdlora.training import SilentProgress
from mdlora.training.batches import PhaseRows
from mdlora.training.phase import PhaseRunner

__all__ = ["PHASES", "our_epoch"]

PHASES: dict[str, tuple[type[MLoRA] | None, Phase]] = {
    "base": (None, Phase(name="backbone", train="backbone", route="none", max_epochs=1)),
    "mlora finetune": (
        MLoRA,
        Phase(name="finetune", train="experts", route="own", stop="by_domain", max_epochs=1),
    ),
    "mlora joint": (MLoRA, Phase(name="joint", train="all", route="own", max_epochs=1)),
    "moe-mlora gate": (MoEMLoRA, Phase(name="gate", train="gate", route="gate", max_epochs=1)),
}
"""The adapters and the phase behind each step that is measured."""


class _OneEpoch(PhaseRunner):
    """A phase without its evaluations."""

    def _evaluate(self, epoch: float, route: str) -> None:
        """Nothing."""

    def _finish(self) -> None:
        """Nothing."""


def our_epoch(step: str, backbone: str, data: Dataset, rows: PhaseRows) -> float:
    """CPU seconds of one epoch: shuffle, batches and steps, with the protocol's settings.

    Args:
        step: a name in `PHASES`.
        backbone: a backbone's name.
        data: where `rows` come from.
        rows: the training rows.
    """
    adapter, phase = PHASES[step]
    config = RunConfig(
        method="base" if adapter is None else "mlora",
        backbone=BackboneConfig(name=backbone),
        training=TrainingConfig(device="cpu"),
    )
    model = CTRModel(data.schema, config.backbone, adapter() if adapter else None)
    runner = _OneEpoch(
        model,
        phase,
        config,
        rows,
        data.split("validation"),
        record=_ignore,
        progress=SilentProgress(),
        checkpoint=_ignore,
        should_stop=lambda: False,
    )
    started = time.process_time()
    runner.run()
    return time.process_time() - started


def _ignore(_: Any) -> None:
    """Records and checkpoints are no part of a step."""
