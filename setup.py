"""The one thing that pyproject.toml cannot say: found packages beside a folder that is renamed.

``configs/`` at the top of the repository is shipped as ``detkit/configs``.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["detkit*"]), "detkit.configs"],
    package_dir={"detkit.configs": "configs"},
)
