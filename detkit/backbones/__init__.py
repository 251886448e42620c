"""Backbones: importing this package registers every one of them, and imports nothing heavy."""

from detkit.backbones import darknet, darknet53, tiny, torchvision  # noqa: F401  (registers them)
from detkit.backbones.base import BACKBONES, Backbone, BackboneEntry

__all__ = ["BACKBONES", "Backbone", "BackboneEntry"]
