"""Code blocks of the documents: commands, parsed like in a shell, and the files of docs/extending.md."""

import wsd_distill  # noqa: F401  (before Detectron2)

# isort: split
import inspect
import re
import shutil
import subprocess
from pathlib import Path

from detectron2.engine import default_argument_parser

from wsd_distill.cli import parse_arguments
from wsd_distill.engine import cli, load_config

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "datasets/*.md", "docs/**/*.md")
DOCUMENTS = sorted({str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern)})
EXTENDING = "docs/extending.md"
# For a restricted shell without a path, which can start and write nothing: it prints the arguments of python.
PRELUDE = """
set -u
python() { printf '%s\\0' "$@"; printf '\\n\\0'; }
python3() { python "$@"; }
wsd() { python wsd "$@"; }
srun() { while [[ $1 == -* ]]; do shift; done; "$@"; }
SLURM_JOB_NODELIST=node1
cd() { :; }
command_not_found_handle() { :; }
"""


def read_commands(block):
    """Arguments of each ``python`` in a block, and "wsd" with those of each ``wsd``.

    The shell expands variables, loops and continued lines.
    """
    block = re.sub(r"\S+/bin/(?=python)", "", block)  # of a virtual environment
    shell = ["/bin/bash", "--norc", "--noprofile", "-r", "-c", PRELUDE + block]
    done = subprocess.run(shell, env={"PATH": "/nowhere"}, cwd="/", capture_output=True, text=True, timeout=20)
    assert not re.search("unbound variable|syntax error", done.stderr), f"{done.stderr}{block}"
    return [command.split("\0")[:-1] for command in done.stdout.split("\n\0")[:-1]]


def read_blocks(document):
    """(language, text) of the fenced code blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), flags=re.M | re.S)


def read_command_blocks(document):
    blocks = [text for language, text in read_blocks(document) if not language]
    return [text for text in blocks if re.search("python |^wsd ", text, flags=re.M)]


def get_overrides(words):
    """Overrides of a command; ``--method NAME`` is one too."""
    overrides = [word for word in words if re.match(r"[a-z][\w.]*=", word)]
    if "--method" in words:
        overrides.insert(0, f"proposals.method={words[words.index('--method') + 1]}")
    return overrides


def load_config_of(words, root):
    """The config of a command, with its overrides applied."""
    class_names = ["cat"] if "--input" in words else None  # of the weights
    return load_config(str(Path(root) / words[words.index("--config-file") + 1]), get_overrides(words), class_names)


def check_command(words, root=ROOT):
    """Check that the files of the project exist, that the tool has the options and the config the overrides."""
    if words[0] == "wsd":
        parse_arguments(words[1:], words[1])
    for word in words:
        if word.startswith(("configs/", "tools/", "benchmarks/", "docs/")):
            assert (Path(root) / word).is_file() or (ROOT / word).is_file(), f"{word} is missing"
    if words[0].startswith(("tools/", "benchmarks/")):
        known = (ROOT / words[0]).read_text() + inspect.getsource(cli) + inspect.getsource(default_argument_parser)
        for option in [word for word in words if word.startswith("--")]:
            assert f'"{option}"' in known, f"{words[0]} has no option {option}"
    if "--config-file" in words:
        load_config_of(words, root)


def write_extending_example(folder):
    """Write the files of docs/extending.md beside a copy of the configs, as its commands expect them."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for language, text in read_blocks(EXTENDING):
        if language == "python":
            name, _, where = text.splitlines()[0].removeprefix("# ").partition(", ")
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{path.read_text()}\n{text}" if where == "at the end" else text)
    for line in re.findall(r"^cp .*", (ROOT / EXTENDING).read_text(), flags=re.M):
        subprocess.run(line.split(), cwd=folder, check=True)
