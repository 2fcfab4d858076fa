"""Every command of the documents: its files exist, and the tool and the config accept its arguments."""

import re

import pytest
from helpers.documents import DOCUMENTS, EXTENDING, ROOT, check_command, read_command_blocks, read_commands

COMMANDS = [
    (document, words)
    for document in DOCUMENTS
    for block in read_command_blocks(document)
    for words in read_commands(block)
]


@pytest.fixture
def own_files(tmp_path, monkeypatch, restore_catalogs):
    """The lists and the folder of images that commands name, in the folder that the commands run in."""
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text("file,labels\na.jpg,cat\nb.jpg,cat;dog\n")
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_command_with_a_config_is_left_out(document):
    blocks = read_command_blocks(document)
    for block in blocks:
        found = ["--config-file" in words for words in read_commands(block)]
        assert sum(found) >= block.count("--config-file"), block
    outside = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)
    assert not re.search(r"^\s*python ", outside, flags=re.M)
    if document in ("README.md", "datasets/README.md", "docs/recipes.md", "docs/proposals.md", EXTENDING):
        assert any(name == document and "--config-file" in words for name, words in COMMANDS)


@pytest.mark.parametrize(
    "document, words", [pytest.param(*each, id=f"{each[0]}-{i}") for i, each in enumerate(COMMANDS)]
)
def test_a_command_names_files_and_arguments_that_exist(own_files, extending, document, words):
    check_command(words, extending if document == EXTENDING else ROOT)


BLOCK = """
OWN="train.max_iter=5
  train.seed=1"   # two
for run in teacher stage1; do python tools/train_net.py --config-file configs/small/$run.py $OWN; done
make demo && cd nowhere && rm -r . > gone
.venv/bin/python tools/check_dataset.py
python tools/train_net.py \\
    --config-file configs/small/student.py train.seed='2 # 3'   # the rest is a comment
"""


def test_a_block_is_parsed_like_in_a_shell():
    tool, config, seeds = "tools/train_net.py", "configs/small/{}.py", ["train.max_iter=5", "train.seed=1"]
    assert read_commands(BLOCK) == [
        [tool, "--config-file", config.format("teacher"), *seeds],
        [tool, "--config-file", config.format("stage1"), *seeds],
        ["tools/check_dataset.py"],
        [tool, "--config-file", config.format("student"), "train.seed=2 # 3"],
    ]
    with pytest.raises(AssertionError, match="OWM: unbound variable"):
        read_commands("python tools/train_net.py $OWM")


@pytest.mark.parametrize(
    "command, error, message",
    [
        ("tools/train_net.py --config-file configs/small/teacher.py train.max_itr=5", KeyError, "train.max_iter"),
        ("tools/train_net.py --config-file configs/vgg16/teacher.py dataset.name=coco_2041", KeyError, "coco_2014"),
        ("tools/train_net.py --config-file configs/small/techer.py", AssertionError, "techer.py is missing"),
        ("tools/trainnet.py", AssertionError, "trainnet.py is missing"),
        ("tools/predict.py --pictures out", AssertionError, "has no option --pictures"),
        ("wsd train tags.csv --image photos --outs pets", SystemExit, "2"),
    ],
)
def test_a_mistake_in_a_document_fails(command, error, message):
    with pytest.raises(error, match=message):
        check_command(command.split())
