"""What is refused before adapters are put on a module, and before rows are routed."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mdlora.config import counted
from mdlora.errors import AdapterError

__all__ = [
    "can_look",
    "check_ids",
    "check_later",
    "check_layers",
    "check_learns",
    "check_mode",
    "check_shapes",
    "is_whole",
]


def can_look(x: Tensor) -> bool:
    """Whether values may be read: that would stall a device, or break a traced graph."""
    return x.device.type == "cpu" and x.numel() > 0 and not torch.compiler.is_compiling()


def is_whole(x: object) -> bool:
    """Whether it is a whole number, numpy's too, and not a bool."""
    return isinstance(x, Integral) and not isinstance(x, bool)


def check_later(good: Tensor, message: str) -> None:
    """Check that all is true, where `can_look` says no: in the traced graph, or on the device.

    It raises RuntimeError when that runs. On a GPU it is a device assertion, after which the
    process can do no more there.
    """
    if good.device.type in ("cpu", "cuda"):  # others, and "meta", have no such operation
        torch._assert_async(good.all(), message)


def check_ids(name: str, ids: Tensor, *, low: int, high: int, hint: str = "") -> None:
    """Raise AdapterError unless ids are integers (B,) in low..high; see also `check_later`."""
    if not isinstance(ids, Tensor):
        raise AdapterError(
            f"{name} ids are of type {type(ids).__name__}; give a one-dimensional tensor of "
            "integers, one for each row."
        )
    if ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise AdapterError(
            f"{name} ids have shape {tuple(ids.shape)} and type {ids.dtype}; "
            "give a one-dimensional tensor of integers, one for each row."
        )
    if can_look(ids):
        least, most = torch.aminmax(ids)
        if int(least) < low or int(most) > high:
            raise AdapterError(
                f"{name} ids run from {int(least)} to {int(most)}; they must be in {low} to "
                f"{high}.{hint}"
            )
    else:
        whole = ids.long()  # its own type may be too narrow for the bounds
        good = whole.clamp(low, high) == whole
        check_later(good, f"{name} ids must be in {low} to {high}.{hint}")


def check_learns(name: str, gate: nn.Module) -> None:
    """Raise AdapterError if a gate learns at this layer, by a route that has no gradients."""
    if torch.is_grad_enabled() and any(p.requires_grad for p in gate.parameters()):
        raise AdapterError(
            f"{name} records gradients, but the gate that it shares did its work before, under "
            "no_grad, and would not learn: set the ids anew for a pass that learns; with gradient "
            "checkpointing, choose a gate for each layer, gate_shared=False."
        )


def check_mode(mode: str, *, has_gate: bool) -> None:
    """Raise AdapterError unless rows can be routed in this way."""
    modes = ("none", "own", "gate") if has_gate else ("none", "own")
    if mode not in modes:
        gate = "" if has_gate else " ('gate' is for MoEMLoRA)"
        raise AdapterError(
            f"route_mode={mode!r} is none of this model's: choose {', '.join(modes)}{gate}."
        )


def check_layers(module: nn.Module, names: Sequence[str]) -> None:
    """Raise AdapterError where adapters on a layer could not know its rows or its shape."""
    for name in names:
        if any(is_lazy(p) for p in module.get_submodule(name).parameters()):
            raise AdapterError(
                f"Layer {name} has no shape yet: run the module once on a batch, then adapt it."
            )
    for outer, part in module.named_modules():
        if not isinstance(part, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            continue
        inside = [name for name in names if name.startswith(f"{outer}." if outer else "")]
        if inside and not part.self_attn.batch_first:
            raise AdapterError(
                f"Layer {inside[0]} sees the steps of sequences first and the batch second, so "
                "which row is whose cannot be told: build the transformer with batch_first=True, "
                "or leave the layer out of targets."
            )


def check_shapes(
    sizes: tuple[int, int, int], matrices: Sequence[Tensor | None], rows: int, experts: int
) -> None:
    """Refuse arrays that do not fit one another: compiled kernels look at no bounds.

    Args:
        sizes: rows, and numbers in each of the layer's input and of its output.
        matrices: down (K, R, I) and up (K, R, O).
        rows: of the route.
        experts: that the route may name.

    Raises:
        AdapterError: they do not fit.
    """
    down, up = matrices
    assert down is not None
    assert up is not None
    if sizes != (rows, down.shape[2], up.shape[2]) or experts > len(down):
        raise AdapterError(
            f"{counted(sizes[0], 'row')} from {sizes[1]} to {sizes[2]}, {counted(rows, 'route')} "
            f"to {counted(experts, 'adapter')} do not fit "
            f"{counted(len(down), 'adapter')} from {down.shape[2]} to {up.shape[2]}."
        )
