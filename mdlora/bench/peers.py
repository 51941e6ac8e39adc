"""Who trains the same network: other libraries, and a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mdlora.bench.deepctr import deepctr_epoch, load_deepctr
from mdlora.bench.network import Network
from mdlora.bench.plain import plain_epoch
from mdlora.bench.rechub import load_rechub, rechub_epoch
from mdlora.bench.timing import Epoch
from mdlora.training.batches import PhaseRows

__all__ = ["FASTEST", "PACKAGES", "PEERS", "load_peers"]

Build = Callable[[Network, PhaseRows], Epoch]

PACKAGES = ("deepctr-torch", "torch-rechub")

FASTEST: dict[str, Build] = {
    "DeepCTR-Torch": partial(deepctr_epoch, l2=0.0),
    "torch-rechub": partial(rechub_epoch, weight_decay=0.0),
    "plain PyTorch loop": plain_epoch,
}
"""Each with the settings that make it fastest: no penalty on weights."""

PEERS: dict[str, dict[str, Build]] = {
    "DeepCTR-Torch": {
        "DeepCTR-Torch": partial(deepctr_epoch, l2=1e-5),
        "DeepCTR-Torch without L2": FASTEST["DeepCTR-Torch"],
    },
    "torch-rechub": {
        "torch-rechub": partial(rechub_epoch, weight_decay=1e-5),
        "torch-rechub without weight decay": FASTEST["torch-rechub"],
    },
    "plain PyTorch loop": {"plain PyTorch loop": plain_epoch},
}
"""Each with its own default penalty, and with none."""


def load_peers() -> None:
    """Import the libraries before the work.

    Raises:
        MissingExtraError: one is not installed.
    """
    load_deepctr()
    load_rechub()
