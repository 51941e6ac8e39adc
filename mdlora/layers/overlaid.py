"""Whether a module is called as its class says."""

from __future__ import annotations

from torch import nn

__all__ = ["is_overlaid"]


def is_overlaid(module: nn.Module) -> bool:
    """Whether its `forward` was replaced, or somebody hooks the calls of all modules.

    Then what its class computes may not be what it gives, and nothing may stand in for its call.
    """
    return "forward" in vars(module) or nn.modules.module._has_any_global_hook()
