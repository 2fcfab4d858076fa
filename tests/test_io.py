import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wsd_distill.io import atomic_write, check_file, datasets_root, expand_user, file_lock, read_limit, remove_leftovers


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


def test_leftovers_of_killed_writers_are_removed_by_the_next_and_no_others(tmp_path):
    path, program = tmp_path / "a.json", "import sys, time; from wsd_distill.io import atomic_write\n"
    program += "with atomic_write(sys.argv[1]) as p: p.write_text('half'); print(flush=True); time.sleep(60)"
    writers = [subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        writer.stdout.readline()
    killed, running = writers
    killed.kill()
    killed.wait()
    others = [tmp_path / name for name in ("a.json.bak.tmp.json", "a.json.my_backup.tmp", "b.json.0123abcd.tmp")]
    for other in others:
        other.write_text("kept")
    try:
        assert len(list(tmp_path.glob("a.json.*.tmp"))) == 3
        with atomic_write(path) as tmp_file:
            tmp_file.write_text("whole")
        assert path.read_text() == "whole" and all(other.exists() for other in others)
        assert len(list(tmp_path.glob("a.json.*.tmp"))) == 2  # of the running process and the user
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.glob("a.json.*.tmp"))) == 2
    finally:
        running.kill()
        running.wait()
    with atomic_write(path) as tmp_file:
        tmp_file.write_text("again")
    assert {file.name for file in tmp_path.iterdir()} == {"a.json", "a.json.bak.tmp.json", "a.json.my_backup.tmp"}


def test_an_atomic_write_is_flushed_before_and_after_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(stat.S_ISDIR(os.fstat(file).st_mode)), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    with atomic_write(tmp_path / "a.json") as tmp_file:
        tmp_file.write_text("text")
    assert calls == [False, "replace", True]  # the file, then the folder


def test_a_full_disk_and_a_folder_in_a_files_place_name_the_file(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match=f"No space left on device while writing: '{path}'"), atomic_write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match=r"No such file .*: 'input.txt'"), atomic_write(path):
        Path("input.txt").read_text()
    path.mkdir()
    with pytest.raises(ValueError, match=f"{path} is a folder"), atomic_write(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_the_home_folder_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    assert datasets_root() == "/home/me/data"
    assert [expand_user(text) for text in ("~", "~/a", "a/~/b", "~a", "")] == [
        "/home/me",
        "/home/me/a",
        "a/~/b",
        "~a",
        "",
    ]


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
