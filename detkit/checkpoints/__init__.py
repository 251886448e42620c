"""Checkpoints: folders that are enough by themselves, and weights from elsewhere made into them."""
