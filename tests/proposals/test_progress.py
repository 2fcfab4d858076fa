import io
import logging
import sys

from wsd_distill.proposals.progress import progress_bar


def test_log_lines_at_intervals(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO), progress_bar(10, 2, seconds=0) as bar:
        bar.update(3)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("proposals: 2 of 10 images, ")
    assert lines[1].startswith("proposals: 5 of 10 images, ")
    assert "images/s" in lines[1] and lines[1].endswith(" left")
    assert sys.stderr.getvalue() == ""  # nothing is redrawn

    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    caplog.clear()
    with caplog.at_level(logging.INFO), progress_bar(1000, 0, seconds=60) as bar:
        for _ in range(999):  # one image a second
            now[0] += 1
            bar.update(1)
    counts = [int(record.getMessage().split()[1]) for record in caplog.records]
    assert counts == [*range(0, 999, 60), 999]  # and at the end


def test_bar_on_a_terminal(monkeypatch, caplog):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.INFO), progress_bar(10, 0) as bar:
        bar.update(10)
    assert "10/10" in terminal.getvalue()
    assert caplog.records == []
