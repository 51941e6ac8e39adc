"""Training: plans, the loop, early stops, checkpoints, run folders."""

from mdlora.training.progress import BarProgress, Progress, SilentProgress
from mdlora.training.run import Run, load, load_run
from mdlora.training.run_folder import RunFolder
from mdlora.training.start import resume, train, train_config
from mdlora.training.weights import backbone_hash, load_domain_adapter, save_weights

__all__ = [
    "BarProgress",
    "Progress",
    "Run",
    "RunFolder",
    "SilentProgress",
    "backbone_hash",
    "load",
    "load_domain_adapter",
    "load_run",
    "resume",
    "save_weights",
    "train",
    "train_config",
]
