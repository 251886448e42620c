"""Backbones: importing this package registers every one of them, and imports nothing heavy."""

from detkit.backbones import (  # noqa: F401  (registers them)
    alexnet,
    darknet,
    darknet53,
    tiny,
    torchvision,
    zf,
)
from detkit.backbones.base import BACKBONES, Backbone, BackboneEntry, RoITail

__all__ = ["BACKBONES", "Backbone", "BackboneEntry", "RoITail"]
