"""Training: one experiment from its config to its checkpoints."""

from detkit.checkpoints.checkpoint import Checkpoint, load_checkpoint
from detkit.engine.train import Outcome, train
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.read import read_experiment

__all__ = [
    "Checkpoint",
    "ExperimentConfig",
    "Outcome",
    "load_checkpoint",
    "read_experiment",
    "train",
]
