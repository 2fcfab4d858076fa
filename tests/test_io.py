import fcntl
import os
import subprocess
import sys

import pytest

from wsd_distill.io import atomic_write, check_file, file_lock, read_limit


def test_atomic_write_replaces_the_file_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.json"
    for text in ("first", "second"):
        with atomic_write(path) as tmp_file:
            tmp_file.write_text(text)
            assert not path.exists() if text == "first" else path.read_text() == "first"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_atomic_write_changes_nothing(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as tmp_file:
        tmp_file.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"


def test_lock_is_exclusive(tmp_path, no_lock_timeout):
    path = tmp_path / "lock"
    with file_lock(path) as file:
        file.write("content")
        with pytest.raises(RuntimeError, match=f"another process is using {tmp_path}: wait for it or stop it"):
            with file_lock(path):
                pass
    with file_lock(path, wait=True) as file:  # released, with its content
        file.seek(0)
        assert file.read() == "content"
    with pytest.raises(ValueError), file_lock(path):
        raise ValueError
    with open(path) as file:  # released after an error too
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def start_child(file, seconds):
    """Start a process that inherits the open file, as forked DataLoader workers do."""
    command = [sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"]
    return subprocess.Popen(command, pass_fds=[file.fileno()])


def test_lock_waits_for_workers_of_a_killed_process(tmp_path):
    with open(tmp_path / "lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        worker = start_child(file, 0.5)
    with file_lock(tmp_path / "lock"):
        assert worker.wait(timeout=5) == 0


def test_lock_is_released_while_workers_are_running(tmp_path, no_lock_timeout):
    with file_lock(tmp_path / "lock") as file:
        worker = start_child(file, 60)
    try:
        with file_lock(tmp_path / "lock"):
            assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()


def test_check_file_accepts_a_file_and_names_anything_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match="a.json"):
        check_file(path)
    path.write_text("12345")
    check_file(path)
    os.mkfifo(tmp_path / "fifo")
    for other, kind in ((tmp_path, "a folder"), (tmp_path / "fifo", "a pipe"), ("/dev/zero", "device")):
        with pytest.raises(ValueError, match=f"{other} is .*{kind}"):
            check_file(other)
    monkeypatch.setenv("WSD_MAX_FILE_GB", "4e-9")
    with pytest.raises(ValueError, match="a.json .* limit of 4e-09: set the environment variable WSD_MAX_FILE_GB"):
        check_file(path)


@pytest.mark.parametrize("text", ["x", "-1", "nan", "0"])
def test_wrong_limit_names_the_variable(monkeypatch, text):
    monkeypatch.setenv("WSD_MAX_FILE_GB", text)
    with pytest.raises(ValueError, match=f"WSD_MAX_FILE_GB is '{text}'"):
        read_limit("WSD_MAX_FILE_GB", 16)
