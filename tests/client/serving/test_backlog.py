"""The count of what is decoded and not yet taken: shared, kept within bounds, and mended where it was wrong."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from densescan.serving.backlog import IN_MOTION_S, Backlog, backlog_file

MOST = 32


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The machine's clock in its one element, in nanoseconds; it stands still."""
    now = [10**12]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


@pytest.fixture
def backlog(memory: Path) -> Iterator[Backlog]:
    opened = Backlog("decoder", create=True)
    yield opened
    opened.close()


def room(backlog: Backlog) -> int:
    """Pictures that may still be decoded, one by one."""
    return next(count for count in range(1000) if not backlog.add(1, MOST))


def test_while_the_network_takes_pictures_no_more_wait_for_it_than_may(backlog: Backlog, clock: list[int]) -> None:
    backlog.take(1, full=True)
    assert room(backlog) == MOST
    backlog.take(10, full=True)
    assert room(backlog) == 10


def test_before_the_network_has_taken_any_nothing_waits(backlog: Backlog, clock: list[int]) -> None:
    assert all(backlog.add(16, MOST) for _ in range(10))


def test_a_batch_may_begin_below_the_limit_and_end_above_it(backlog: Backlog, clock: list[int]) -> None:
    backlog.take(1, full=True)
    assert [backlog.add(16, MOST) for _ in range(3)] == [True, True, False]
    backlog.take(1, full=True)
    assert backlog.add(16, MOST)


def test_a_network_that_finds_less_than_a_full_batch_has_left_none(backlog: Backlog, clock: list[int]) -> None:
    """Callers that went away leave pictures counted that no network will ever take."""
    backlog.take(1, full=True)
    room(backlog)
    backlog.take(3, full=False)
    assert room(backlog) == MOST


def test_what_could_not_be_decoded_is_counted_no_more(backlog: Backlog, clock: list[int]) -> None:
    backlog.take(1, full=True)
    room(backlog)
    backlog.drop(5)
    assert room(backlog) == 5
    backlog.drop(100)
    assert room(backlog) == MOST


def test_pictures_that_came_as_arrays_give_no_room_beyond_the_limit(backlog: Backlog, clock: list[int]) -> None:
    for _ in range(100):
        backlog.take(16, full=True)
    assert room(backlog) == MOST


def test_a_network_that_takes_nothing_for_seconds_is_not_waited_for(backlog: Backlog, clock: list[int]) -> None:
    backlog.take(1, full=True)
    room(backlog)
    clock[0] += round(IN_MOTION_S * 1e9)
    assert not backlog.add(1, MOST)
    clock[0] += 1
    assert backlog.add(1, MOST)


def test_nor_is_one_that_took_its_last_batch_in_the_future(backlog: Backlog, clock: list[int]) -> None:
    """As of a machine that was stopped and is started from what was saved of it."""
    backlog.take(1, full=True)
    room(backlog)
    clock[0] -= 10_000_000_000
    assert backlog.add(1, MOST)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 16))))
def test_whatever_happens_the_count_stays_within_its_bounds(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[bool, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("densescan.serving.backlog.MEMORY", tmp_path_factory.mktemp("memory"))
        patch.setattr(time, "monotonic_ns", lambda: 10**12)
        backlog = Backlog("decoder", create=True)
        backlog.take(1, full=True)
        waiting = 0
        for decoded, pictures in events:
            if decoded:
                allowed = backlog.add(pictures, MOST)
                assert allowed == (waiting < MOST)
                waiting += pictures * allowed
            else:
                backlog.take(pictures, full=pictures == 16)
                waiting = max(0, waiting - pictures) if pictures == 16 else 0
            assert 0 <= waiting < MOST + 16
        backlog.close()


def _take_often(decoder: str, memory: str, server_pid: int) -> None:
    import densescan.serving.backlog as module

    module.MEMORY = Path(memory)
    backlog = Backlog(decoder, create=False, server_pid=server_pid)
    for _ in range(500):
        backlog.take(1, full=True)


def test_processes_that_count_at_one_time_lose_nothing(memory: Path) -> None:
    """A thousand pictures, taken one by one by two processes, leave those that were decoded beyond them."""
    backlog = Backlog("decoder", create=True, server_pid=os.getpid())
    backlog.take(1, full=True)
    assert backlog.add(1000 + MOST, MOST)
    spawn = multiprocessing.get_context("spawn")
    takers = [spawn.Process(target=_take_often, args=("decoder", str(memory), os.getpid())) for _ in range(2)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(60)
    assert [taker.exitcode for taker in takers] == [0, 0]
    backlog.take(1, full=True)  # now, however long the others took
    assert room(backlog) == 1
    backlog.close()


def test_a_decoder_without_a_counting_network_has_no_file(memory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Backlog("decoder", create=False)


def test_each_decoder_and_each_server_has_a_count_of_its_own(memory: Path) -> None:
    one, other = backlog_file("xray_decoder", os.getpid()), backlog_file("mri_decoder", os.getpid())
    third = backlog_file("xray_decoder", os.getppid())
    assert len({one, other, third}) == 3
    assert one.name.startswith(f"densescan-{os.getpid()}-")


def test_a_count_that_memory_has_no_room_for_leaves_no_file_open(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        Backlog("decoder", create=True)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_nobody_else_may_read_or_change_the_count(backlog: Backlog, memory: Path) -> None:
    (file,) = memory.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_was_counted_before_the_network_stood_still_is_forgotten(backlog: Backlog, clock: list[int]) -> None:
    """Its callers have gone meanwhile: none of it will ever be taken, and nothing must wait for it."""
    backlog.take(1, full=True)
    room(backlog)
    clock[0] += round(2 * IN_MOTION_S * 1e9)
    assert backlog.add(1, MOST)
    backlog.take(1, full=True)
    assert room(backlog) == MOST


def test_no_process_counts_while_another_one_does(backlog: Backlog, memory: Path) -> None:
    backlog.take(1, full=True)
    (path,) = memory.iterdir()
    with path.open("rb") as file, ThreadPoolExecutor(1) as pool:  # a lock is of whoever opened the file
        fcntl.flock(file, fcntl.LOCK_EX)
        counted = pool.submit(backlog.add, 1, MOST)
        assert not wait([counted], 0.2).done
        fcntl.flock(file, fcntl.LOCK_UN)
        assert counted.result(10)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nor does it keep the file afterwards
