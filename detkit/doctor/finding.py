"""One thing that the doctor says: how severe it is, and a sentence with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "info"]
SEVERITIES: dict[Severity, str] = {
    "error": "training or evaluation will refuse this",
    "warning": "what is learned or measured would be wrong",
    "info": "worth a look",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on one matter."""

    severity: Severity
    text: str
