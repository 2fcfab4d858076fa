"""Every command of the documents that names a config: the config is there and takes the overrides."""

import re
import subprocess
from pathlib import Path

import pytest
from detectron2.config import LazyConfig

from wsd_distill.engine import apply_overrides

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "INSTALL.md", "datasets/README.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
# For a restricted shell without a path, which can start and write nothing: what python would be given is printed.
PRELUDE = """
set -u
python() { printf '%s\\0' "$@"; printf '\\n\\0'; }
python3() { python "$@"; }
cd() { :; }
command_not_found_handle() { :; }
"""
ANY = "configs/digit_scenes/teacher.py"  # where a document has "...": any teacher's


def commands_in(block):
    """Arguments of each ``python``, as a shell hands them over: variables, loops and continued lines are its work."""
    block = re.sub(r"\S+/bin/(?=python)", "", block)  # that of a virtual environment
    shell = ["/bin/bash", "--norc", "--noprofile", "-r", "-c", PRELUDE + block]
    done = subprocess.run(shell, env={"PATH": "/nowhere"}, cwd="/", capture_output=True, text=True, timeout=20)
    assert not re.search("unbound variable|syntax error", done.stderr), f"{done.stderr}{block}"
    return [command.split("\0")[:-1] for command in done.stdout.split("\n\0")[:-1]]


def blocks_in(text):
    """Fenced code with a command of python in it."""
    return [block.partition("\n")[2] for block in text.split("```")[1::2] if "python " in block]


def check(words):
    """Files that come with the project are there, and so is every key of the config that is changed."""
    for word in words:
        if word.startswith(("configs/", "tools/", "benchmarks/")):
            assert (ROOT / word).is_file(), f"{word} is missing"
    if "--config-file" in words:
        file = words[words.index("--config-file") + 1]
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        apply_overrides(LazyConfig.load(str(ROOT / (ANY if file == "..." else file))), overrides)


COMMANDS = [
    (document, words)
    for document in DOCUMENTS
    for block in blocks_in((ROOT / document).read_text())
    for words in commands_in(block)
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_command_with_a_config_is_left_out(document):
    for block in blocks_in((ROOT / document).read_text()):
        found = ["--config-file" in words for words in commands_in(block)]
        assert sum(found) >= block.count("--config-file"), block
    if document in ("README.md", "datasets/README.md", "docs/recipes.md"):
        assert any(name == document and "--config-file" in words for name, words in COMMANDS)


@pytest.mark.parametrize(
    "document, words", [pytest.param(*each, id=f"{each[0]}-{i}") for i, each in enumerate(COMMANDS)]
)
def test_the_config_of_a_command_takes_its_overrides(document, words):
    check(words)


BLOCK = """
OWN="train.max_iter=5
  train.seed=1"   # two
for run in teacher stage1; do python tools/train_net.py --config-file configs/digit_scenes/$run.py $OWN; done
make demo && cd nowhere && rm -r . > gone
.venv/bin/python tools/check_dataset.py
python tools/train_net.py \\
    --config-file ... train.seed='2 # 3'   # the rest is a comment
"""


def test_a_block_is_read_as_a_shell_reads_it():
    tool, config, seeds = "tools/train_net.py", "configs/digit_scenes/{}.py", ["train.max_iter=5", "train.seed=1"]
    assert commands_in(BLOCK) == [
        [tool, "--config-file", config.format("teacher"), *seeds],
        [tool, "--config-file", config.format("stage1"), *seeds],
        ["tools/check_dataset.py"],
        [tool, "--config-file", "...", "train.seed=2 # 3"],
    ]
    with pytest.raises(AssertionError, match="OWM: unbound variable"):
        commands_in("python tools/train_net.py $OWM")


@pytest.mark.parametrize(
    "command, error, message",
    [
        (
            "tools/train_net.py --config-file configs/digit_scenes/teacher.py train.max_itr=5",
            KeyError,
            "train.max_iter",
        ),
        ("tools/train_net.py --config-file configs/digit_scenes/techer.py", AssertionError, "techer.py is missing"),
        ("tools/trainnet.py", AssertionError, "trainnet.py is missing"),
    ],
)
def test_a_mistake_in_a_document_fails(command, error, message):
    with pytest.raises(error, match=message):
        check(command.split())
