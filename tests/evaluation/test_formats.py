from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlora.evaluation.formats import escape_cell


@pytest.mark.parametrize(
    "name",
    ["domain_01", "US/CA", "a__b", "Sci-Fi & Fantasy", "R&B (80s)", "4 * 3", "[x]", "日本_東京",
     "50 %", "a#b", "x.y", "é_é"],
)  # fmt: skip
def test_plain_names_stay_as_they_are(name):
    assert escape_cell(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),  # the backslash must not take the bar's own away
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("*bold*", r"\*bold\*"),
        ("a*b*c", r"a\*b\*c"),  # emphasis within a word is markup too
        ("_it_", r"\_it\_"),
        ("__init__", r"\_\_init\_\_"),
        ("x_ y", r"x\_ y"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("`code`", r"\`code\`"),
        ("[x](javascript:alert(1))", r"[x\](javascript:alert(1))"),
        ("![x](http://example.org/x.png)", r"![x\](http://example.org/x.png)"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        (" two\n| lines\t", r"two \| lines"),
    ],
)
def test_hostile_names(name, shown):
    assert escape_cell(name) == shown


@given(st.text(alphabet="a_*|\\<>` \n&;~[]()#1", max_size=12))
def test_a_reader_of_markdown_gets_the_name_back(name):
    cell = escape_cell(name)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell) == " ".join(name.split())
    # Neither a bar nor a bracket, code, entity or link is left for Markdown to act on.
    left = re.sub(r"\\.", "", cell)
    assert not set("|<>`\\") & set(left)
    bare = re.sub(r"\\.", "\0", cell)
    assert "](" not in bare
    assert not re.search(r"&#?\w+;", bare)
