"""Backbones by exact name: `Embedded` in, logits out; no devices, files or optimizers."""

from mdlora.backbones.afm import AFM
from mdlora.backbones.autoint import AutoInt
from mdlora.backbones.base import Backbone, Inputs, ListInput, TowerBackbone, tower_input
from mdlora.backbones.build import (
    build_backbone,
    check_backbone,
    get_backbone,
    idle_settings,
    options_of,
    width_multiple,
)
from mdlora.backbones.dcn import DCN
from mdlora.backbones.dcnv2 import DCNv2
from mdlora.backbones.deepfm import DeepFM
from mdlora.backbones.din import DIN
from mdlora.backbones.fibinet import FiBiNET
from mdlora.backbones.finalmlp import FinalMLP
from mdlora.backbones.fwfm import FwFM
from mdlora.backbones.gdcn import GDCN
from mdlora.backbones.masknet import MaskNet
from mdlora.backbones.mlp import MLPBackbone
from mdlora.backbones.multi_domain.adaptdhm import AdaptDHM
from mdlora.backbones.multi_domain.adasparse import AdaSparse
from mdlora.backbones.multi_domain.hamur import HAMUR
from mdlora.backbones.multi_domain.m2m import M2M
from mdlora.backbones.multi_domain.m3oe import M3oE
from mdlora.backbones.multi_domain.mmoe import MMoE
from mdlora.backbones.multi_domain.pepnet import EPNet, PEPNet, PPNet
from mdlora.backbones.multi_domain.ple import PLE
from mdlora.backbones.multi_domain.sarnet import SARNet
from mdlora.backbones.multi_domain.shared_bottom import SharedBottom
from mdlora.backbones.multi_domain.star import Star, StarShared
from mdlora.backbones.nfm import NFM
from mdlora.backbones.pnn import PNN
from mdlora.backbones.registry import BACKBONES
from mdlora.backbones.wdl import WDL
from mdlora.backbones.xdeepfm import XDeepFM

__all__ = [
    "AFM",
    "BACKBONES",
    "DCN",
    "DIN",
    "GDCN",
    "HAMUR",
    "M2M",
    "NFM",
    "PLE",
    "PNN",
    "WDL",
    "AdaSparse",
    "AdaptDHM",
    "AutoInt",
    "Backbone",
    "DCNv2",
    "DeepFM",
    "EPNet",
    "FiBiNET",
    "FinalMLP",
    "FwFM",
    "Inputs",
    "ListInput",
    "M3oE",
    "MLPBackbone",
    "MMoE",
    "MaskNet",
    "PEPNet",
    "PPNet",
    "SARNet",
    "SharedBottom",
    "Star",
    "StarShared",
    "TowerBackbone",
    "XDeepFM",
    "build_backbone",
    "check_backbone",
    "get_backbone",
    "idle_settings",
    "options_of",
    "tower_input",
    "width_multiple",
]
