import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import logging
import os
import threading

import numpy as np
import pytest
from helpers.builders import Proposer

from wsd_distill.proposals import sharding
from wsd_distill.proposals.generate import generate
from wsd_distill.proposals.sharding import Shard

DICTS = [{"image_id": f"{i}", "file_name": f"{i}", "height": 9, "width": 9} for i in range(7)]


def run(output, shard, proposer=None, **more):
    """Parts of two images: 01 23 45 6."""
    return generate(
        DICTS,
        "d",
        proposer or Proposer(),
        output,
        num_workers=0,
        shard=Shard.parse(shard),
        images_per_part=2,
        read_image=lambda name: np.full((9, 9, 3), int(name), np.uint8),
        **more,
    )


def widths(store):
    return [int(boxes[0, 2]) - 1 for _, (boxes, _) in store.items()]


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "1/2/3"])
def test_invalid_shard_raises(text):
    with pytest.raises(ValueError, match=f"{text} is not a shard: write 2/8 for the second of eight"):
        Shard.parse(text)


def test_shards_share_the_parts_and_the_last_merges_them(tmp_path, caplog):
    output, proposers = tmp_path / "s.arrow", [Proposer() for _ in range(3)]
    with caplog.at_level(logging.INFO):
        assert run(output, "3/3", proposers[2]) is None
        assert run(output, "1/3", proposers[0]) is None
    assert "3 of 4 parts are missing" in caplog.text
    assert "1 of 4 parts are missing" in caplog.text
    store = run(output, "2/3", proposers[1])
    assert [proposer.calls for proposer in proposers] == [[0, 1, 6], [2, 3], [4, 5]]
    assert widths(store) == [0, 1, 2, 3, 4, 5, 6]
    assert os.listdir(tmp_path) == ["s.arrow"]
    late = Proposer()
    assert widths(run(output, "2/3", late)) == [0, 1, 2, 3, 4, 5, 6]
    assert late.calls == []


def test_killed_shard_resumes_and_the_others_keep_their_parts(tmp_path):
    output = tmp_path / "s.arrow"
    with pytest.raises(KeyboardInterrupt):
        run(output, "1/2", Proposer(side_effect={4: KeyboardInterrupt()}))  # its parts are 01 and 45
    assert run(output, "2/2") is None
    again = Proposer()
    assert widths(run(output, "1/2", again)) == [0, 1, 2, 3, 4, 5, 6]
    assert again.calls == [4, 5]


def test_shard_killed_during_the_merge(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    output = tmp_path / "s.arrow"
    run(output, "1/2")
    with monkeypatch.context() as patch:
        patch.setattr(sharding, "_merge", killed)
        with pytest.raises(KeyboardInterrupt):
            run(output, "2/2")
    assert not output.exists()
    unused = Proposer()
    assert widths(run(output, "1/2", unused)) == [0, 1, 2, 3, 4, 5, 6]
    assert unused.calls == []


def test_two_shards_that_finish_together_merge_once(tmp_path, monkeypatch):
    """The second shard waits while the first one merges."""
    output, merging, merges = tmp_path / "s.arrow", threading.Event(), []
    merge = sharding._merge

    def slow_merge(*arguments):
        merges.append(1)
        merging.set()
        other.join(timeout=0.5)  # it cannot finish before this merge
        assert other.is_alive()
        return merge(*arguments)

    monkeypatch.setattr(sharding, "_merge", slow_merge)
    run(output, "1/2")
    stores = []

    def restarted():
        merging.wait(timeout=10)
        stores.append(run(output, "1/2"))

    other = threading.Thread(target=restarted)
    other.start()
    stores.append(run(output, "2/2"))
    other.join(timeout=10)
    assert [widths(store) for store in stores] == [[0, 1, 2, 3, 4, 5, 6]] * 2
    assert merges == [1]
    assert os.listdir(tmp_path) == ["s.arrow"]


class Nested(Proposer):
    """Calls ``attempt`` at its first image."""

    def __init__(self, attempt):
        super().__init__()
        self.attempt = attempt

    def __call__(self, image):
        if not self.calls:
            self.attempt()
        return super().__call__(image)


def test_running_shard_does_not_lock_out_another_one(tmp_path, no_lock_timeout):
    output = tmp_path / "s.arrow"

    def attempt():
        assert run(output, "2/2") is None

    assert widths(run(output, "1/2", Nested(attempt))) == [0, 1, 2, 3, 4, 5, 6]


def test_another_number_of_shards_raises(tmp_path):
    run(tmp_path / "s.arrow", "1/2")
    with pytest.raises(FileExistsError, match=r"other settings \(shards is 2, expected 3\): delete that folder or"):
        run(tmp_path / "s.arrow", "2/3")


def test_overwrite_discards_parts_of_other_settings_once(tmp_path, caplog):
    """The first of the new shards removes them, the others keep what it has made."""
    output, proposers = tmp_path / "s.arrow", [Proposer({"k": 2}) for _ in range(2)]
    run(output, "1/3", Proposer({"k": 1}))
    assert run(output, "1/2", proposers[0], overwrite=True) is None
    assert "k is 1, expected 2; shards is 3, expected 2): they are discarded" in caplog.text
    assert widths(run(output, "2/2", proposers[1], overwrite=True)) == [0, 1, 2, 3, 4, 5, 6]
    assert [proposer.calls for proposer in proposers] == [[0, 1, 4, 5], [2, 3, 6]]
    assert os.listdir(tmp_path) == ["s.arrow"]


def test_overwrite_discards_parts_with_a_damaged_fingerprint(tmp_path):
    run(tmp_path / "s.arrow", "1/2")
    (tmp_path / "s.arrow.parts" / "run.json").write_text("[[")
    with pytest.raises(FileExistsError, match=r"s\.arrow\.parts has .* damaged \(run\.json: .*--overwrite"):
        run(tmp_path / "s.arrow", "2/2")
    assert widths(run(tmp_path / "s.arrow", "1/1", overwrite=True)) == [0, 1, 2, 3, 4, 5, 6]


def test_overwrite_keeps_parts_that_a_running_process_makes(tmp_path, no_lock_timeout):
    output = tmp_path / "s.arrow"

    def attempt():
        with pytest.raises(FileExistsError, match=r"s\.arrow\.parts has .*\(k is 1, .* running process makes them"):
            run(output, "2/2", Proposer({"k": 2}), overwrite=True)

    first = Nested(attempt)
    first.parameters = {"k": 1}
    run(output, "1/2", first)
    parts = (tmp_path / "s.arrow.parts").glob("*.arrow")
    assert sorted(path.name for path in parts) == ["000000.arrow", "000002.arrow"]


def test_partly_removed_folder_does_not_affect_another_run(tmp_path, monkeypatch):
    """Killed while the folder is removed: the parts go before their fingerprint."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharding.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "s.arrow", "1/1")
    assert sorted(os.listdir(tmp_path / "s.arrow.parts")) == ["run.json", "shard1.lock"]
    assert widths(run(tmp_path / "s.arrow", "1/1", overwrite=True)) == [0, 1, 2, 3, 4, 5, 6]
