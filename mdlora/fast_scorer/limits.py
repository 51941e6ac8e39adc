"""Which models the kernels can score, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mdlora.adapters import AdaptedModel, AdapterBank
from mdlora.adapters.hooks import AddUpdate, TakeOver
from mdlora.backbones import BACKBONES, WDL, Backbone, DeepFM, MLPBackbone, TowerBackbone
from mdlora.compiled import can_compile
from mdlora.embeddings import Embeddings
from mdlora.layers import MLP
from mdlora.layers.overlaid import is_overlaid

__all__ = ["why_no_kernel_for_all", "why_no_kernel_for_tower"]


def why_no_kernel_for_tower(
    embeddings: Embeddings, backbone: Backbone, adapted: AdaptedModel | None
) -> str | None:
    """What keeps kernels from a backbone's tower; None if nothing does."""
    if not isinstance(backbone, TowerBackbone) or type(backbone) not in BACKBONES.values():
        return f"{type(backbone).__name__} is not a tower with a head"
    linears = [*backbone.tower.linears, backbone.head]
    tensors = [embeddings.table, *backbone.parameters()]
    tensors += [] if adapted is None else adapted.adapter_parameters()
    if not can_compile(*tensors):
        return "kernels need numba (pip install mdlora[fast]), and float32 weights on a CPU"
    if type(backbone.tower) is not MLP or any(type(layer) is not nn.Linear for layer in linears):
        return "its tower is not of plain linear layers"
    layers: Sequence[nn.Linear] = [] if adapted is None else adapted.target_layers
    if not set(map(id, layers)) <= set(map(id, linears)):
        return "adapters stand on layers outside the tower"
    if adapted is not None:
        if not all(isinstance(bank, AdapterBank) for bank in adapted.banks):
            return "its adapters are whole matrices"
        if adapted.route_mode == "gate" and adapted.gate_of(0).sees_input:
            return "its gate sees the input"
    for module in (*embeddings.modules(), *backbone.modules()):
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if is_overlaid(module) or not all(isinstance(h, TakeOver | AddUpdate) for h in hooks):
            return f"there are hooks on {type(module).__name__}"
    return None


def why_no_kernel_for_all(embeddings: Embeddings, backbone: Backbone) -> str | None:
    """What keeps kernels from all but the tower; None if nothing does."""
    if type(backbone) not in (DeepFM, MLPBackbone, WDL):
        return f"{type(backbone).__name__} has more parts than its tower"
    if type(embeddings) is not Embeddings or not embeddings.only_ids:
        return "there are columns of lists, numbers or given vectors"
    return None
