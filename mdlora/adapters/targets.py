"""Which layers adapters reach."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from mdlora.errors import AdapterError

__all__ = ["linear_names", "matches"]


def linear_names(module: nn.Module, targets: str) -> list[str]:
    """Dotted names of the Linear layers that are chosen, in module order.

    Args:
        module: where they are looked for.
        targets: shell patterns over dotted module names, with commas between them. A pattern
            chooses the Linear layers whose names match it, and all Linear layers inside the
            modules whose names do: "tower.linears.0", "tower", "tower,head", "*.query".

    Raises:
        AdapterError: a pattern chooses none; the message lists those there are, or says that the
            module has none which adapters could reach.
    """
    linears = [n for n, m in module.named_modules() if isinstance(m, nn.Linear) and n]
    chosen: set[str] = set()
    for pattern in (part.strip() for part in targets.split(",")):
        found = {name for name in linears if matches(name, pattern)}
        if not found:
            has, hint = _there_is(module, linears)
            raise AdapterError(
                f"targets={pattern!r} matches no Linear layer of {type(module).__name__}, {has}. "
                f"{getattr(module, 'adapter_hint', '') or hint}"
            )
        chosen |= found
    return [name for name in linears if name in chosen]


def _there_is(module: nn.Module, linears: list[str]) -> tuple[str, str]:
    """Which Linear layers there are, and what to do."""
    if linears:
        return f"which has: {', '.join(linears)}", "Use targets='*' to adapt them all."
    if isinstance(module, nn.Linear):
        return "which is one itself", "Wrap it, nn.Sequential(layer), and use targets='0'."
    hint = "Adapters work on the nn.Linear layers inside a module, so they can reach nothing of it."
    return "which has none at all", hint


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches the layer's own name, or that of a module which it is in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))
