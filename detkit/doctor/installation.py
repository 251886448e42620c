"""What is wrong with the installation or the machine, whatever the data: findings as elsewhere."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator

import torch

from detkit.doctor.figures import Checkup
from detkit.doctor.finding import Finding

ONE_OPENCV = "opencv-python-headless"  # the one that detkit asks for
# By these names, since to ask every package for its files takes a third of a second.
OPENCVS = [
    f"opencv-{contrib}python{headless}{rolling}"
    for contrib in ("", "contrib-")
    for headless in ("", "-headless")
    for rolling in ("", "-rolling")
]


def look_at_installation(checkup: Checkup) -> Iterator[Finding]:
    """Two packages that both bring ``cv2``, whose files overwrite each other."""
    owners = sorted(name for name in OPENCVS if any(importlib.metadata.distributions(name=name)))
    if len(owners) > 1:
        yield Finding(
            "warning",
            f"OpenCV is installed {len(owners)} times ({', '.join(owners)}), and the last one "
            f"installed has overwritten the others. Keep one:\n"
            f"    pip uninstall -y {' '.join(owners)}\n"
            f"    pip install {ONE_OPENCV}",
        )


def look_at_gpu() -> Iterator[Finding]:
    """A GPU that this PyTorch cannot use."""
    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return
    built = torch.version.cuda
    why = f"is built for CUDA {built}, newer than the driver" if built else "is built without CUDA"
    yield Finding(
        "info",
        f"this machine has an NVIDIA driver, but PyTorch {torch.__version__} {why}; "
        "pytorch.org/get-started names the build that fits.",
    )
