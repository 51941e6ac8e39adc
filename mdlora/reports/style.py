"""The style sheet of the reports: light and dark, wide and narrow, screen and paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --paper: #fff; --line: #c8ccd4; --faint: #5d6470;
  --better: #1a7f4e; --worse: #b3273b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --paper: #15181d; --line: #4a515d; --faint: #a2a9b5;
    --better: #4cc38a; --worse: #ff7a8a; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
ul.verdicts { list-style: none; padding: 0; margin: 0; font-size: 1.05rem; }
ul.verdicts li { border-left: .3rem solid var(--line); padding: .25rem .75rem; margin: .4rem 0; }
ul.verdicts li.better { border-color: var(--better); }
ul.verdicts li.worse { border-color: var(--worse); }
small, figcaption, caption { color: var(--faint); font-size: .875rem; }
small { display: block; }
figure { margin: 1rem 0 1.5rem; }
svg { display: block; }
svg text { font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .925rem; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { border-bottom-width: 2px; }
.number { text-align: right; white-space: nowrap; }
td { max-width: 26rem; overflow-wrap: break-word; }
details td { overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: .85rem; }
details { margin: 1.5rem 0; }
summary { cursor: pointer; }
@media print { main { max-width: none; } details > * { display: revert; } }
"""
