"""The layers in the reference, and shapes in their docstrings."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from mdlora import layers

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
# (B, I), (...), (K * O,), (): a letter, perhaps in a sum or product, and what may follow it.
SHAPE = re.compile(r"\((\.\.\.|[A-Z]\d?( \\?[*+] [^,()]+)?)(, [^()]+)?,?\)|\(\)|those of the layer")
NAMED = {name: getattr(layers, name) for name in layers.__all__}
MADE = [name for name, x in NAMED.items() if inspect.isclass(x) or inspect.isroutine(x)]


def test_every_layer_is_in_the_reference_with_formula_and_shapes():
    text = REFERENCE.read_text(encoding="utf-8")
    section = text.partition("\n## Layers\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(MADE)
    assert min(len(formula) for _, formula, _ in rows) > 10
    assert [name for name, _, shapes in rows if not SHAPE.search(shapes)] == []
    kinds = NAMED.keys() - set(MADE)  # the values that some setting may have
    assert len(kinds) == 5
    assert [name for name in kinds if f"`{name}`" not in section] == []


@pytest.mark.parametrize("name", MADE)
def test_docstrings_have_shapes(name: str):
    assert SHAPE.search(inspect.getdoc(NAMED[name]) or "")


def test_the_check_of_shapes_can_fail():
    assert not SHAPE.search("Glorot-uniform weights (Glorot 2010, section 4; see W), zero biases.")
    assert not SHAPE.search("A map (W_2) of each in (0, 2), as in (Wang et al. 2021) and (He, Li).")
