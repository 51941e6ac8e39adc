"""Scores without gradients, hooks and the many small calls of a forward pass."""

from mdlora.fast_scorer.scorer import FastScorer

__all__ = ["FastScorer"]
