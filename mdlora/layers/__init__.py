"""Layers that backbones are made of."""

from mdlora.layers.attention import InteractingLayer, PairAttention
from mdlora.layers.bi_interaction import BiInteraction
from mdlora.layers.bilinear import BilinearInteraction, BilinearType
from mdlora.layers.by_domain import DomainLinear, DomainMLP, DomainRows, domain_product
from mdlora.layers.cin import CIN, CINActivation
from mdlora.layers.clusters import ClusterRouter
from mdlora.layers.cross import CrossNetwork, GatedCross, LowRankCross, MatrixCross, VectorCross
from mdlora.layers.dice import Dice
from mdlora.layers.dropout import Dropout, ReLUDropout
from mdlora.layers.experts import ExpertMLP, experts_linear
from mdlora.layers.fusion import BilinearFusion
from mdlora.layers.gate_unit import GateUnit
from mdlora.layers.hyper_adapter import HyperAdapter
from mdlora.layers.lists import list_of_items, look_up, pool, softmax_lists, sum_lists
from mdlora.layers.local_activation import LocalActivation, LocalActivationKind
from mdlora.layers.masks import FieldNorm, InstanceMask, MaskBlock
from mdlora.layers.meta_unit import MetaUnit
from mdlora.layers.mlp import MLP, dense, glorot_
from mdlora.layers.number_fields import NumberFields
from mdlora.layers.owners import RowOwners, row_owners, rows_of
from mdlora.layers.pairwise import PairwiseInteraction
from mdlora.layers.partitioned_norm import PartitionedNorm
from mdlora.layers.products import (
    InnerProducts,
    KernelProducts,
    KernelType,
    PairProducts,
    SumProduct,
)
from mdlora.layers.pruner import Pruner, PrunerFactor
from mdlora.layers.running import RunningState
from mdlora.layers.segments import Segments, make_segments, segment_blocks, segment_product
from mdlora.layers.senet import SENET
from mdlora.layers.star import StarLinear, StarMLP
from mdlora.layers.training_steps import TrainingSteps

__all__ = [
    "CIN",
    "MLP",
    "SENET",
    "BiInteraction",
    "BilinearFusion",
    "BilinearInteraction",
    "BilinearType",
    "CINActivation",
    "ClusterRouter",
    "CrossNetwork",
    "Dice",
    "DomainLinear",
    "DomainMLP",
    "DomainRows",
    "Dropout",
    "ExpertMLP",
    "FieldNorm",
    "GateUnit",
    "GatedCross",
    "HyperAdapter",
    "InnerProducts",
    "InstanceMask",
    "InteractingLayer",
    "KernelProducts",
    "KernelType",
    "LocalActivation",
    "LocalActivationKind",
    "LowRankCross",
    "MaskBlock",
    "MatrixCross",
    "MetaUnit",
    "NumberFields",
    "PairAttention",
    "PairProducts",
    "PairwiseInteraction",
    "PartitionedNorm",
    "Pruner",
    "PrunerFactor",
    "ReLUDropout",
    "RowOwners",
    "RunningState",
    "Segments",
    "StarLinear",
    "StarMLP",
    "SumProduct",
    "TrainingSteps",
    "VectorCross",
    "dense",
    "domain_product",
    "experts_linear",
    "glorot_",
    "list_of_items",
    "look_up",
    "make_segments",
    "pool",
    "row_owners",
    "rows_of",
    "segment_blocks",
    "segment_product",
    "softmax_lists",
    "sum_lists",
]
