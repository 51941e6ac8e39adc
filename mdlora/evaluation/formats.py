"""Numbers and names as text, the same in every table."""

from __future__ import annotations

__all__ = ["decimal", "escape_cell", "percent"]


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with two decimals; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def decimal(value: float | None, places: int = 4) -> str:
    """A number with fixed decimals; a dash for None."""
    return "–" if value is None else f"{value:.{places}f}"


def escape_cell(text: str) -> str:
    """Text that cannot break out of a Markdown table cell."""
    for char in "\\`*_{}[]<>|":
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split())
