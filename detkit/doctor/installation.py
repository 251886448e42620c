"""What is wrong with the installation, whatever the data: findings as those of ``verdicts.py``."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from detkit.doctor.figures import Checkup
from detkit.doctor.finding import Finding

ONE_OPENCV = "opencv-python-headless"  # the one that detkit asks for


def look_at_installation(checkup: Checkup) -> Iterator[Finding]:
    """Two packages that both bring ``cv2``, whose files overwrite each other."""
    owners = sorted(set(importlib.metadata.packages_distributions().get("cv2", ())))
    if len(owners) > 1:
        yield Finding(
            "harm",
            f"OpenCV is installed {len(owners)} times ({', '.join(owners)}), and the last one "
            f"installed has overwritten the others. Keep one:\n"
            f"    pip uninstall -y {' '.join(owners)}\n"
            f"    pip install {ONE_OPENCV}",
        )
