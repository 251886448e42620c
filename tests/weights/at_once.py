"""What each of two processes does that start at once; imports little, so they start soon."""

from __future__ import annotations

from detkit.remote import DownloadSettings
from detkit.weights import zoo


def fetch_at_once(entry: zoo.ZooEntry, start: object) -> None:
    """Wait for the other one, then ask for the entry's file."""
    zoo.ZOO = {entry.name: entry}  # type: ignore[misc]
    start.wait()  # type: ignore[attr-defined]
    zoo.zoo_file(entry.name, settings=DownloadSettings(rounds=1))
