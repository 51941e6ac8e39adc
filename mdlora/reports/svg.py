"""Matplotlib figures as inline SVG that follows the page: its text colour, its width, its fonts.

No figure touches pyplot or the process-wide settings, and equal data give equal text.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = [
    "GRID",
    "INK",
    "MARKERS",
    "add_legend",
    "clean",
    "colour",
    "drawing",
    "plain_axes",
    "to_svg",
]

INK = "#010203"
"""Drawn in this colour, a line or a text takes the colour of the page's text."""
GRID = "#030201"
"""Drawn in this colour, a line takes the page's faint line colour."""
MARKERS = "osD^vPX*"

_COLOURS = ("#3a86d4", "#e0752d", "#2a9d74", "#9d6bd6", "#d1495b", "#17a2b8", "#b0851f")
_BASE_COLOUR = "#858b94"


def colour(index: int, name: str) -> str:
    """The colour of the index-th method, readable on white and on black; the base is grey."""
    return _BASE_COLOUR if name == "base" else _COLOURS[index % len(_COLOURS)]


def clean(text: str, longest: int = 32) -> str:
    """A name as one short printable line, so that no name can break a drawing."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


@contextmanager
def drawing() -> Iterator[None]:
    """Settings under which figures are made and written."""
    import matplotlib as mpl

    text = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    settings: Any = {
        "svg.fonttype": "none",  # text stays text: searchable, and small
        "svg.hashsalt": "mdlora",
        "text.parse_math": False,  # a domain called "$x" is only a name
        "font.family": "sans-serif",
        "font.size": 10.0,
        "axes.edgecolor": GRID,
        "grid.color": GRID,
    }
    settings.update(dict.fromkeys(text, INK))
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The browser draws the text, so a glyph that Matplotlib's own font lacks does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def plain_axes(axes: Axes, *, grid: Literal["x", "y"]) -> None:
    """No frame, no tick marks, and faint grid lines at the ticks of one axis."""
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=grid, linewidth=0.8)


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """A legend above the axes, in as few lines as the figure's width allows."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    fitting = int(figure.get_figwidth() / (0.07 * widest + 0.55))
    columns = max(1, min(fitting, len(handles)))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False)


def to_svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element without outside references; `description` is its alt text."""
    buffer = io.StringIO()
    figure.patch.set_alpha(0)
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace(GRID, "var(--line, #8886)")
    # Several drawings share a page, so their ids must differ.
    prefix = "f" + hashlib.sha256((text + description).encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", text)
    width, view = re.search(r'width="([\d.]+)pt"', text), re.search(r'viewBox="[^"]*"', text)
    assert width is not None
    assert view is not None
    label = html.escape(description)
    head = (
        f'<svg {view.group()} role="img" aria-label="{label}" '
        f'style="width:{float(width.group(1)) * 4 / 3:.0f}px;max-width:100%;height:auto" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<title>{label}</title>"
    )
    return head + text[text.index(">") + 1 :].strip()
