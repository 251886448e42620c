"""Weights from elsewhere: the authors' files, and names under which they can be fetched."""
