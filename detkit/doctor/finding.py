"""One thing that the doctor says: how grave it is, and a sentence with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Gravity: TypeAlias = Literal["stop", "harm", "look", "note"]
GRAVITIES: dict[Gravity, str] = {
    "stop": "training or evaluation will refuse this",
    "harm": "what is learned or measured would be wrong",
    "look": "worth a look",
    "note": "good to know",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on one matter."""

    gravity: Gravity
    text: str
