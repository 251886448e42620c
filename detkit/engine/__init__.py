"""Training: one experiment from its config to its checkpoints."""

from detkit.engine.checkpoint import Checkpoint, load_checkpoint
from detkit.engine.experiment import ExperimentConfig, read_experiment
from detkit.engine.train import Outcome, train

__all__ = [
    "Checkpoint",
    "ExperimentConfig",
    "Outcome",
    "load_checkpoint",
    "read_experiment",
    "train",
]
