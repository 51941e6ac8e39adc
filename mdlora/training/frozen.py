"""Proof that a phase moved nothing that it had frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from mdlora.errors import FrozenTensorChanged

__all__ = ["check_frozen", "digest"]


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's bytes, shape and type."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{tuple(plain.shape)} {plain.dtype}".encode()
    return hashlib.sha256(head + plain.view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def check_frozen(before: Mapping[str, str], now: Mapping[str, Tensor], phase: str) -> None:
    """Compare digests taken before a phase with the tensors after it.

    Raises:
        FrozenTensorChanged: at least one is not bit-identical; the message names them.
    """
    moved = [name for name, old in before.items() if digest(now[name]) != old]
    if moved:
        raise FrozenTensorChanged(
            f"Phase {phase!r} had frozen {', '.join(moved)}, and yet they changed. "
            "This is a defect: please report it with your configuration."
        )
