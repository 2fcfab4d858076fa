import fcntl
import subprocess
import sys

import pytest

from wsd_distill.io import atomic_write, file_lock


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    for text in ("first", "second"):
        with atomic_write(path) as tmp_file:
            tmp_file.write_text(text)
            assert not path.exists() if text == "first" else path.read_text() == "first"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_early_changes_nothing_and_leaves_nothing(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as tmp_file:
        tmp_file.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"


def test_one_holds_a_lock_at_a_time(tmp_path, no_lock_timeout):
    path = tmp_path / "lock"
    with file_lock(path) as file:
        file.write("mine")
        with pytest.raises(RuntimeError, match=f"another process is at work in {tmp_path}: wait for it or stop it"):
            with file_lock(path):
                pass
    with file_lock(path, wait=True) as file:  # free again, with what was written
        file.seek(0)
        assert file.read() == "mine"
    with pytest.raises(ValueError), file_lock(path):
        raise ValueError
    with open(path) as file:  # free after an error too
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def heir(file, seconds):
    """A process that has the open file, as a DataLoader's forked workers have."""
    command = [sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"]
    return subprocess.Popen(command, pass_fds=[file.fileno()])


def test_workers_of_a_killed_process_are_waited_for(tmp_path):
    with open(tmp_path / "lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        worker = heir(file, 0.5)
    with file_lock(tmp_path / "lock"):
        assert worker.wait(timeout=5) == 0


def test_a_block_that_ends_frees_the_lock_whatever_its_workers_do(tmp_path, no_lock_timeout):
    with file_lock(tmp_path / "lock") as file:
        worker = heir(file, 60)
    try:
        with file_lock(tmp_path / "lock"):
            assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
