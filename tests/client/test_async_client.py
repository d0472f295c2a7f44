from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from densescan import AsyncClient, Classification, Client
from densescan._pipeline import AHEAD
from densescan.errors import (
    ClientClosed,
    DeadlineExceeded,
    DensescanError,
    InvalidImage,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)

from .fake_server import FakeTriton, answer, refuse

Pixels = npt.NDArray[np.uint8]
Answer = TypeVar("Answer")


def run(work: Callable[[AsyncClient], Coroutine[Any, Any, Answer]], url: str, **options: Any) -> Answer:
    async def main() -> Answer:
        async with AsyncClient(url, **{"timeout_s": 5, **options}) as client:
            return await asyncio.wait_for(work(client), 20)

    return asyncio.run(main())


# Twins


def public_methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_both_clients_have_the_same_public_methods() -> None:
    assert list(public_methods(AsyncClient)) == list(public_methods(Client))
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


@pytest.mark.parametrize("name", public_methods(Client))
def test_each_method_takes_and_answers_the_same(name: str) -> None:
    ours, theirs = public_methods(AsyncClient)[name], public_methods(Client)[name]
    mine, yours = inspect.signature(ours), inspect.signature(theirs)
    parameters = [str(parameter).replace(" | AsyncIterable[ImageSource]", "") for parameter in mine.parameters.values()]
    assert parameters == list(map(str, yours.parameters.values()))
    assert str(mine.return_annotation).removeprefix("Async") == str(yours.return_annotation)
    assert inspect.iscoroutinefunction(ours) != str(mine.return_annotation).startswith("AsyncIterator")


# The same answers and the same errors


def test_a_result_is_that_of_the_other_client(fake: FakeTriton, film_path: Path) -> None:
    async def work(client: AsyncClient) -> list[Classification]:
        return [await client.classify_xray(film_path), await client.classify_mri(film_path)]

    with Client(fake.url) as client:
        expected = [client.classify_xray(film_path), client.classify_mri(film_path)]
    for mine, yours in zip(run(work, fake.url), expected, strict=True):
        assert {**mine.to_dict(), "elapsed_ms": 0} == {**yours.to_dict(), "elapsed_ms": 0}


def test_status_and_readiness_are_those_of_the_other_client(fake: FakeTriton) -> None:
    fake.add_model("xray_densenet121", "1", "READY")

    async def work(client: AsyncClient) -> Any:
        await client.wait_until_ready(5)
        return await client.status(), await client.is_ready()

    with Client(fake.url) as client:
        assert run(work, fake.url) == (client.status(), True)
    fake.ready = False
    assert run(lambda client: client.is_ready(), fake.url) is False
    with pytest.raises(ServerUnavailable, match="not ready within"):
        run(lambda client: client.wait_until_ready(0.3), fake.url)
    with pytest.raises(ServerUnavailable, match="not ready within") as caught:
        run(lambda client: client.wait_until_ready(2), "127.0.0.1:9")
    assert "nothing listens there" in str(caught.value.__cause__)


def test_a_last_attempt_that_is_cut_short_does_not_hide_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ServerUnavailable("nothing listens there")
    errors = iter([first])

    async def work(client: AsyncClient) -> None:
        async def ask(deadline: Any) -> bool:
            error = next(errors, None)
            if error is None:
                await asyncio.sleep(deadline.remaining_s())
            raise error or ServerUnavailable("nobody answers")

        monkeypatch.setattr(client, "_ask_ready", ask)
        await client.wait_until_ready(0.5)

    with pytest.raises(ServerUnavailable, match="not ready within") as caught:
        run(work, "127.0.0.1:9")
    assert caught.value.__cause__ is first


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Overloaded),
        (grpc.StatusCode.NOT_FOUND, "unknown model", ModelNotFound),
        (grpc.StatusCode.UNAVAILABLE, "Server exiting", ServerUnavailable),
    ],
)
def test_a_refusal_is_the_same_typed_error(
    fake: FakeTriton, pixels: Pixels, code: Any, details: str, expected: type[DensescanError]
) -> None:
    fake.on_infer = refuse(code, details)
    with pytest.raises(expected, match=details):
        run(lambda client: client.classify_xray(pixels), fake.url)
    assert len(fake.asked("ModelInfer")) == (3 if expected is ServerUnavailable else 1)


def test_wrong_arguments_are_refused_before_anything_is_sent(fake: FakeTriton, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="threshold"):
        run(lambda client: client.classify("mri", pixels, threshold=0.5), fake.url)

    async def many(client: AsyncClient) -> None:
        client.classify_many("xray", [pixels], in_flight=0)

    with pytest.raises(ValueError, match="in_flight"):
        run(many, fake.url)
    assert fake.requests == []


def test_a_slow_server_is_a_deadline_exceeded(fake: FakeTriton, pixels: Pixels) -> None:
    async def work(client: AsyncClient) -> None:
        await client.status(timeout_s=20)  # connecting has its own time
        fake.on_infer = fake.hang
        await client.classify_xray(pixels, timeout_s=0.3)

    with pytest.raises(DeadlineExceeded, match=r"within 0.3 s"):
        run(work, fake.url)


def test_nobody_there_is_an_unavailable_server(pixels: Pixels) -> None:
    for url in ("127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2", "no-such-host.invalid:1,nor-this.invalid:2"):
        with pytest.raises(ServerUnavailable):
            run(lambda client: client.classify_xray(pixels), url)


# Many


def test_many_come_back_in_order_from_lists_and_from_streams(fake: FakeTriton, film_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    paths = [film_path, bad, film_path, film_path]

    async def stream() -> AsyncIterator[Path]:
        for path in paths:
            await asyncio.sleep(0)
            yield path

    async def work(client: AsyncClient) -> list[Any]:
        listed = [result async for result in client.classify_many("xray", paths, in_flight=2)]
        streamed = [result async for result in client.classify_many("xray", stream(), in_flight=3)]
        return [*listed, *streamed]

    results = run(work, fake.url)
    assert [type(result) for result in results] == [Classification, InvalidImage, Classification, Classification] * 2
    assert [result.source for result in results] == list(map(str, paths)) * 2


def test_as_completed_the_slowest_comes_last(fake: FakeTriton, pixels: Pixels) -> None:
    dark = pixels // 4
    released = threading.Event()

    def dark_is_slow(request: Any, context: Any) -> Any:
        if max(request.raw_input_contents[0]) > 128:
            return answer([0.2, 0.8])
        released.wait(10)
        return answer([1, 0])

    fake.on_infer = dark_is_slow

    async def work(client: AsyncClient) -> list[str]:
        labels: list[str] = []
        pictures = [dark, pixels, pixels, pixels]
        async for result in client.classify_many("xray", pictures, in_flight=4, ordered=False, threshold=0.5):
            assert isinstance(result, Classification)
            labels.append(result.label)
            if len(labels) == 3:
                released.set()
        return labels

    assert run(work, fake.url, timeout_s=15) == ["PNEUMONIA"] * 3 + ["NORMAL"]


def test_endless_pictures_are_read_as_they_are_needed_and_dropped_on_leaving(fake: FakeTriton, pixels: Pixels) -> None:
    read = 0

    def endless() -> Iterator[Pixels]:
        nonlocal read
        while True:
            read += 1
            yield pixels

    async def work(client: AsyncClient) -> int:
        results = client.classify_many("mri", endless(), in_flight=3)
        for _ in range(5):
            await anext(results)
        await results.aclose()  # type: ignore[attr-defined]
        return len(asyncio.all_tasks())

    assert run(work, fake.url) <= 2
    assert read <= 5 + 3 * AHEAD


# Life


def test_calls_run_together_on_one_loop(fake: FakeTriton, pixels: Pixels) -> None:
    together = threading.Barrier(8, timeout=5)

    def wait_for_others(request: Any, context: Any) -> Any:
        together.wait()
        return answer([0.2, 0.8])

    fake.on_infer = wait_for_others

    async def work(client: AsyncClient) -> list[Any]:
        return await asyncio.gather(*(client.classify_xray(pixels) for _ in range(8)))

    assert len(run(work, fake.url)) == 8


def hanging(fake: FakeTriton) -> tuple[threading.Event, threading.Event]:
    """Have the server never answer; what comes back is set when a request has arrived, and when it has ended."""
    arrived, ended = threading.Event(), threading.Event()

    def hang(request: Any, context: Any) -> Any:
        context.add_callback(ended.set)
        arrived.set()
        return fake.hang(request, context)

    fake.on_infer = hang
    return arrived, ended


def test_cancelling_a_call_cancels_the_request_at_the_server(fake: FakeTriton, pixels: Pixels) -> None:
    arrived, cancelled = hanging(fake)

    async def work(client: AsyncClient) -> None:
        task = asyncio.ensure_future(client.classify_xray(pixels))
        assert await asyncio.to_thread(arrived.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(cancelled.wait, 5)

    run(work, fake.url)


def test_a_closed_client_says_so_to_those_under_way_and_to_later_ones(fake: FakeTriton, pixels: Pixels) -> None:
    arrived, _ = hanging(fake)

    async def work(client: AsyncClient) -> None:
        task = asyncio.ensure_future(client.classify_xray(pixels))
        assert await asyncio.to_thread(arrived.wait, 5)
        await client.close()
        await client.close()
        uses: list[Callable[[], Awaitable[Any]]] = [
            lambda: task,
            lambda: client.classify_mri(pixels),
            client.status,
            client.is_ready,
        ]
        for use in uses:
            with pytest.raises(ClientClosed, match="closed"):
                await use()

    run(work, fake.url)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not tell who cancelled a task")
def test_a_call_that_its_caller_cancelled_stays_cancelled_when_the_client_closes(
    fake: FakeTriton, pixels: Pixels
) -> None:
    arrived, _ = hanging(fake)

    async def work(client: AsyncClient) -> None:
        task = asyncio.ensure_future(client.classify_xray(pixels))
        assert await asyncio.to_thread(arrived.wait, 5)
        task.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work, fake.url)


def test_a_client_of_another_loop_says_so(fake: FakeTriton) -> None:
    client = AsyncClient(fake.url)

    async def use() -> bool:
        return await client.is_ready()

    assert asyncio.run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())


def test_decoding_leaves_the_loop_free(fake: FakeTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from densescan import _protocol
    from densescan.phantoms import draw_phantom

    path = tmp_path / "large.png"
    draw_phantom("xray", size=512).resize((5000, 5000)).save(path, compress_level=1)
    ticks = 0
    decoded: list[tuple[int, int]] = []
    load = _protocol.load

    def watched(image: Any, options: Any) -> Any:
        before = ticks
        loaded = load(image, options)
        decoded.append((threading.get_ident(), ticks - before))
        return loaded

    monkeypatch.setattr(_protocol, "load", watched)

    async def work(client: AsyncClient) -> None:
        nonlocal ticks
        task = asyncio.ensure_future(client.classify_xray(path))
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await task

    run(work, fake.url, timeout_s=15)
    ((thread, meanwhile),) = decoded
    assert thread != threading.get_ident()
    assert meanwhile >= 1


def test_no_thread_or_task_is_left_behind(fake: FakeTriton, pixels: Pixels) -> None:
    async def work(client: AsyncClient) -> None:
        async for _ in client.classify_many("mri", [pixels] * 6):
            pass

    run(work, fake.url)
    ours = [thread.name for thread in threading.enumerate() if not thread.name.startswith("ThreadPoolExecutor")]
    assert [name for name in ours if "asyncio" in name or "densescan" in name] == []


def test_what_is_sent_again_is_sent_after_a_pause(fake: FakeTriton, pixels: Pixels) -> None:
    times: list[float] = []

    def fails_once(request: Any, context: Any) -> Any:
        times.append(time.perf_counter())
        if len(times) < 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Server exiting")
        return answer([0.2, 0.8])

    async def work(client: AsyncClient) -> str:
        return (await client.classify_xray(pixels)).label

    fake.on_infer = fails_once
    assert run(work, fake.url) == "PNEUMONIA"
    assert times[1] - times[0] >= 0.05


def test_each_call_may_have_metadata_of_its_own(fake: FakeTriton, pixels: Pixels) -> None:
    seen: list[dict[str, str]] = []

    def heard(request: Any, context: Any) -> Any:
        seen.append(dict(context.invocation_metadata()))
        return answer([0.2, 0.8])

    async def work(client: AsyncClient) -> None:
        await client.classify_xray(pixels, metadata={"Authorization": "Bearer one"})
        async for _ in client.classify_many("xray", [pixels] * 2, metadata={"authorization": "Bearer many"}):
            pass

    fake.on_infer = heard
    run(work, fake.url)
    assert [each["authorization"] for each in seen] == ["Bearer one", "Bearer many", "Bearer many"]
