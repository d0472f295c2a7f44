"""The asynchronous client: the twin of `densescan.Client`, with the same names, awaited."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any

from . import _explaining, _protocol
from ._async_pipeline import run_many
from ._base import ClientBase
from ._explaining import Question
from ._faults import Call, translated
from ._pipeline import check_many
from ._protocol import Job
from ._settings import Deadline, Terms, check_timeout
from ._targets import channel_options, credentials, target
from .errors import ClientClosed, DensescanError, ServerUnavailable
from .explanation import Explanation
from .images import ImageSource
from .results import Classification
from .status import ServerStatus
from .tasks import MRI, XRAY, Task

log = logging.getLogger("densescan")

_POLL_S = 0.2


class AsyncClient(ClientBase):
    """Calls the classifiers of one Triton server from an event loop.

    It behaves as `densescan.Client` in everything: options, results, errors, deadlines and retries.
    Pictures are decoded in the loop's default executor, so that the loop stays free. A plain
    iterator that is given to `classify_many` or `explain_many`, such as `densescan.frames`, is
    advanced in a thread of its own. A client belongs to the event loop that its first request runs
    in. Cancelling a call cancels the request.

    Example:
        ```python
        async with AsyncClient("localhost:8001") as client:
            result = await client.classify_xray("film.png")
            async for result in client.classify_many("xray", paths):
                ...
        ```

    The arguments, and their environment variables, are those of `ClientBase`.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; requests under way and later ones raise `ClientClosed`."""
        self._closing.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def classify_xray(
        self,
        image: ImageSource,
        *,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Classification:
        """Classify a frontal chest X-ray as NORMAL or PNEUMONIA; see `Client.classify_xray`."""
        return await self.classify(
            XRAY, image, threshold=threshold, timeout_s=timeout_s, model_version=model_version, metadata=metadata
        )

    async def classify_mri(
        self,
        image: ImageSource,
        *,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Classification:
        """Classify a brain MRI slice as glioma, meningioma, notumor or pituitary; see `Client.classify_mri`."""
        return await self.classify(MRI, image, timeout_s=timeout_s, model_version=model_version, metadata=metadata)

    async def classify(
        self,
        task: str | Task,
        image: ImageSource,
        *,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Classification:
        """Classify a picture for the task of that name; see `Client.classify`."""
        return await self._classify(Job.of(task, threshold, model_version), image, self._terms(timeout_s, metadata))

    def classify_many(
        self,
        task: str | Task,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        in_flight: int = 8,
        ordered: bool = True,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Classification | DensescanError]:
        """Classify pictures, several at once, and yield the results in their order; see `Client.classify_many`."""
        job, terms = Job.of(task, threshold, model_version), self._terms(timeout_s, metadata)
        check_many(images, in_flight)
        return run_many(lambda image: self._classify_in_turn(job, image, terms), images, in_flight, ordered=ordered)

    async def explain_xray(
        self,
        image: ImageSource,
        *,
        target: str | None = None,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Explanation:
        """Classify a frontal chest X-ray, and show with Grad-CAM what speaks for a label; see `Client.explain_xray`."""
        return await self.explain(
            XRAY,
            image,
            target=target,
            threshold=threshold,
            timeout_s=timeout_s,
            model_version=model_version,
            metadata=metadata,
        )

    async def explain_mri(
        self,
        image: ImageSource,
        *,
        target: str | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Explanation:
        """Classify a brain MRI slice, and show with Grad-CAM what speaks for a label; see `Client.explain_mri`."""
        return await self.explain(
            MRI, image, target=target, timeout_s=timeout_s, model_version=model_version, metadata=metadata
        )

    async def explain(
        self,
        task: str | Task,
        image: ImageSource,
        *,
        target: str | None = None,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Explanation:
        """Explain a picture for the task of that name; see `Client.explain`."""
        return await self._explain(
            Question.of(task, target, threshold, model_version), image, self._terms(timeout_s, metadata)
        )

    def explain_many(
        self,
        task: str | Task,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        in_flight: int = 8,
        ordered: bool = True,
        target: str | None = None,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Explanation | DensescanError]:
        """Explain pictures, several at once, and yield the results in their order; see `Client.explain_many`."""
        question, terms = Question.of(task, target, threshold, model_version), self._terms(timeout_s, metadata)
        check_many(images, in_flight)
        return run_many(lambda image: self._explain_in_turn(question, image, terms), images, in_flight, ordered=ordered)

    async def is_ready(self, *, timeout_s: float | None = None, metadata: Mapping[str, str] | None = None) -> bool:
        """Whether a server answers at the address and its models take requests; see `Client.is_ready`."""
        try:
            return await self._ask_ready(Deadline(*self._terms(timeout_s, metadata)))
        except ClientClosed:
            raise
        except DensescanError:
            return False

    async def wait_until_ready(self, timeout_s: float = 60.0, *, metadata: Mapping[str, str] | None = None) -> None:
        """Return as soon as the server is ready; see `Client.wait_until_ready`."""
        deadline = Deadline(check_timeout(timeout_s))
        cause: DensescanError | None = None
        while True:
            try:
                if await self._ask_ready(Deadline(*self._terms(min(self.timeout_s, deadline.remaining_s()), metadata))):
                    return
                cause = None
            except ClientClosed:
                raise
            except DensescanError as error:
                # The last attempt may have been cut short: then the one before it knows more.
                if cause is None or deadline.remaining_s() > _POLL_S:
                    cause = error
            if deadline.remaining_s() <= _POLL_S:
                raise ServerUnavailable(f"the server at {self.url} was not ready within {timeout_s:g} s") from cause
            await asyncio.sleep(_POLL_S)

    async def _ask_ready(self, deadline: Deadline) -> bool:
        return bool(await self._send("is_server_ready", deadline, "its status", reached=False))

    async def status(
        self, *, timeout_s: float | None = None, metadata: Mapping[str, str] | None = None
    ) -> ServerStatus:
        """What the server says about itself and its models; see `Client.status`."""
        deadline = Deadline(*self._terms(timeout_s, metadata))
        about = "its status"
        await self._reach(deadline, about)
        return _protocol.parse_status(
            self.url,
            live=await self._call("is_server_live", deadline, about),
            ready=await self._call("is_server_ready", deadline, about),
            metadata=await self._call("get_server_metadata", deadline, about),
            index=await self._call("get_model_repository_index", deadline, about),
        )

    async def _classify_in_turn(self, job: Job, image: ImageSource, terms: Terms) -> Classification:
        """One of many: there is time until it is not held back."""
        terms, come = await self._turn(job.task.classifier, terms)
        return await self._classify(job, image, terms, in_turn=come)

    async def _explain_in_turn(self, question: Question, image: ImageSource, terms: Terms) -> Explanation:
        terms, come = await self._turn(question.job.task.gradcam, terms)
        return await self._explain(question, image, terms, in_turn=come)

    async def _turn(self, model: str, terms: Terms) -> tuple[Terms, bool]:
        """Wait until a request is not held back; the terms with the time that is left, and whether its turn came."""
        deadline = Deadline(*terms)
        while 0 < (pause := self._pause_s(model)) < deadline.remaining_s():
            await asyncio.sleep(pause)
            terms = Terms(deadline.remaining_s(), terms.metadata)
        return terms, not pause

    async def _classify(self, job: Job, image: ImageSource, terms: Terms, *, in_turn: bool = False) -> Classification:
        self._check_open()
        with self._admitted(job.task.classifier, in_turn=in_turn):
            return await self._classify_admitted(job, image, terms)

    async def _classify_admitted(self, job: Job, image: ImageSource, terms: Terms) -> Classification:
        loaded = await asyncio.to_thread(_protocol.load, image, self._options)
        deadline = Deadline(*terms)
        await self._reach(deadline, job.model)
        arguments = _protocol.infer_arguments(job, loaded)
        start = time.perf_counter()
        result = await self._call("infer", deadline, job.model, **arguments)
        elapsed_ms = (time.perf_counter() - start) * 1000
        log.debug("%s answered in %.1f ms", job.model, elapsed_ms)
        point = None
        if job.needs_operating_point:
            point = await self._operating_point(job.task.classifier, _protocol.answered_version(result), deadline)
        return _protocol.parse_classification(job, loaded, result, operating_point=point, elapsed_ms=elapsed_ms)

    async def _explain(
        self, question: Question, image: ImageSource, terms: Terms, *, in_turn: bool = False
    ) -> Explanation:
        self._check_open()
        with self._admitted(question.job.task.gradcam, in_turn=in_turn):
            return await self._explain_admitted(question, image, terms)

    async def _explain_admitted(self, question: Question, image: ImageSource, terms: Terms) -> Explanation:
        loaded = await asyncio.to_thread(_explaining.load, image, self._options)
        deadline = Deadline(*terms)
        await self._reach(deadline, question.model)
        start = time.perf_counter()
        result = await self._call("infer", deadline, question.model, **_explaining.infer_arguments(question, loaded))
        elapsed_ms = (time.perf_counter() - start) * 1000
        log.debug("%s answered in %.1f ms", question.model, elapsed_ms)
        point = None
        if question.job.needs_operating_point:
            point = await self._operating_point(question.job.task.gradcam, _protocol.answered_version(result), deadline)
        decision = _explaining.parse_decision(question, loaded, result, operating_point=point, elapsed_ms=elapsed_ms)
        further = question.follow_up(decision)
        if further is not None:
            result = await self._call("infer", deadline, further.model, **_explaining.infer_arguments(further, loaded))
        return _explaining.parse_explanation(question, loaded, result, decision)

    async def _operating_point(self, model: str, version: str, deadline: Deadline) -> float:
        """The threshold of one version of a model; a new version may bring a new one."""
        key = (model, version)
        if key not in self._operating_points:
            response = await self._call("get_model_config", deadline, model, model_name=model, model_version=version)
            self._operating_points[key] = _protocol.parse_operating_point(model, response)
        return self._operating_points[key]

    async def _reach(self, deadline: Deadline, about: str) -> None:
        """Before the first request, tell a server that is slow from one that is not there."""
        if not self._reached:
            await self._call("is_server_live", deadline, about, reached=False)
            self._reached = True

    async def _call(
        self, method: str, deadline: Deadline, about: str, *, reached: bool = True, **arguments: Any
    ) -> Any:
        """Send a request, and send it again where that is safe, all within the deadline."""
        attempts = self._retries.begin(deadline)
        while True:
            try:
                answer = await self._send(method, deadline, about, reached=reached, **arguments)
            except DensescanError as error:
                pause = attempts.pause_s(error)
                if pause is None:
                    raise
                log.debug("%s failed (%s): again in %.2f s", about, type(error).__name__, pause)
                await asyncio.sleep(pause)
            else:
                self._retries.succeeded()
                return answer

    async def _send(
        self, method: str, deadline: Deadline, about: str, *, reached: bool = True, **arguments: Any
    ) -> Any:
        connection = await self._connect(deadline)
        headers = self._options.headers(deadline.metadata)
        with translated(Call(self.url, about, deadline.timeout_s, reached)):
            try:
                return await getattr(connection, method)(
                    client_timeout=deadline.remaining_s(), headers=headers or None, **arguments
                )
            except asyncio.CancelledError as error:  # by the caller, or because the client was closed meanwhile
                if not _is_cancelling():
                    self._check_open(error)
                raise
            except Exception as error:
                self._check_open(error)
                raise

    async def _connect(self, deadline: Deadline) -> Any:
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this AsyncClient belongs to another event loop: make one for each loop")
        if self._connection is None:
            from tritonclient.grpc.aio import InferenceServerClient

            place = await asyncio.to_thread(target, self.url, deadline.remaining_s())  # it may have to resolve names
            self._check_open()
            if self._connection is None:  # another task may have been faster
                self._connection = InferenceServerClient(
                    place, creds=credentials(self._options), channel_args=channel_options(self._options)
                )
        return self._connection


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(getattr(task, "cancelling", lambda: 0)())  # Python 3.10 does not tell
