"""Layers that backbones are made of."""

from mdlora.layers.dropout import ReLUDropout
from mdlora.layers.mlp import MLP, dense
from mdlora.layers.pairwise import PairwiseInteraction

__all__ = ["MLP", "PairwiseInteraction", "ReLUDropout", "dense"]
