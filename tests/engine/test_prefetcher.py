import itertools
import threading
import time

import pytest

from wsd_distill.engine.trainer import Prefetcher


def test_every_batch_once_and_in_order_then_the_end():
    batches = Prefetcher(range(100))
    assert list(batches) == list(range(100))
    with pytest.raises(StopIteration):
        next(batches)


def test_the_next_batch_is_read_while_the_current_one_is_used():
    started = [threading.Event() for _ in range(4)]

    def loader():
        for i, event in enumerate(started):
            event.set()
            yield i

    batches = Prefetcher(loader())
    for i in range(3):
        assert next(batches) == i
        assert started[i + 1].wait(10)  # before it is requested


def test_no_more_than_one_batch_is_read_ahead():
    read = []
    batches = Prefetcher(read.append(i) or i for i in itertools.count())
    next(batches)
    batches.pause()
    assert read == [0, 1]


def test_an_error_is_raised_with_its_traceback_when_its_batch_is_requested():
    def broken_loader():
        yield "a"
        yield "b"
        raise OSError("c.jpg is cut short")

    batches = Prefetcher(broken_loader())
    assert [next(batches), next(batches)] == ["a", "b"]
    for _ in range(2):
        with pytest.raises(OSError, match=r"c\.jpg is cut short") as caught:
            next(batches)
        assert "broken_loader" in [entry.name for entry in caught.traceback]


def test_a_pause_stops_reading_and_loses_no_batch():
    reading = []

    def loader():
        for i in range(3):
            reading.append(i)
            time.sleep(0.05)
            reading.pop()
            yield i

    batches = Prefetcher(loader())
    assert next(batches) == 0
    batches.pause()
    assert reading == []
    assert list(batches) == [1, 2]
