"""Numbers and names as text, the same in every table."""

from __future__ import annotations

import re

__all__ = ["decimal", "escape_cell", "percent"]

# What Markdown would take for markup. An underscore between two letters or digits is only text,
# and so is a star or a tilde between spaces.
_MARKUP = re.compile(
    r"[\\|<>`]"  # cells, tags, code
    r"|(?<!\w)_+|_+(?!\w)"
    r"|(?<!\s)[*~]|[*~](?!\s)"
    r"|\](?=\()"  # links and pictures
    r"|&(?=#?\w+;)"  # entities
)


def percent(fraction: float | None) -> str:
    """A fraction as a percentage with two decimals; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.2f}"


def decimal(value: float | None, places: int = 4) -> str:
    """A number with fixed decimals; a dash for None."""
    return "–" if value is None else f"{value:.{places}f}"


def escape_cell(text: str) -> str:
    r"""Text that a Markdown table cell shows as it is: `domain_01` stays, `a|b` is `a\|b`."""
    line = " ".join(text.split())
    return _MARKUP.sub(lambda found: "".join(f"\\{char}" for char in found[0]), line)
