"""The synchronous client."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from . import _explaining, _protocol
from ._base import ClientBase
from ._explaining import Question
from ._faults import Call, translated
from ._pipeline import run_many
from ._protocol import Job
from ._settings import Deadline, Terms, check_timeout
from ._targets import channel_options, close_with, credentials, target
from .errors import ClientClosed, DensescanError, ServerUnavailable
from .explanation import Explanation
from .images import ImageSource
from .results import Classification
from .status import ServerStatus
from .tasks import MRI, XRAY, Task

log = logging.getLogger("densescan")

_POLL_S = 0.2


class Client(ClientBase):
    """Calls the classifiers of one Triton server.

    Constructing it does not connect: the first request does. One client serves any number of
    threads over one connection, so make one and keep it.

    Example:
        ```python
        with Client("localhost:8001") as client:
            result = client.classify_xray("film.png")
            print(result.label, result.confidence)
        ```

    The arguments, and their environment variables, are those of `ClientBase`.
    """

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; requests under way and later ones raise `ClientClosed`."""
        with self._lock:
            self._closing.set()
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def classify_xray(
        self,
        image: ImageSource,
        *,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Classification:
        """Classify a frontal chest X-ray as NORMAL or PNEUMONIA.

        Args:
            image: A path, the bytes of a file or a binary file object (JPEG, PNG, TIFF, BMP, GIF,
                WebP, JPEG 2000, PNM, DICOM); a PIL image; a pydicom Dataset; a `Picture` of
                `densescan.frames`; or an array, [height, width] or [height, width, 1, 3 or 4], of
                uint8 0..255, uint16 0..65535, bool, float 0..1 or float 0..255, low being black.
            threshold: Call it PNEUMONIA from this probability on, 0 to 1; by default the
                operating point that the served model was released with.
            timeout_s: Longest to wait for the server, in seconds; by default the client's.
            model_version: Version of the served model, such as ``"2"``; by default the newest.
            metadata: What goes with this call's requests besides the client's own, such as a caller's
                ``{"authorization": "Bearer ..."}``.

        Raises:
            InvalidImage: `image` is no picture that can be read.
            ServerUnavailable: Nobody answers at the address.
            Overloaded: The server's queue is full.
            DeadlineExceeded: No answer came in time.
            ModelNotFound: The server does not serve the model, or not in that version.
            InferenceFailed: The server could not answer.
            ClientClosed: The client has been closed.
        """
        return self.classify(
            XRAY, image, threshold=threshold, timeout_s=timeout_s, model_version=model_version, metadata=metadata
        )

    def classify_mri(
        self,
        image: ImageSource,
        *,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Classification:
        """Classify a brain MRI slice as glioma, meningioma, notumor or pituitary.

        Args:
            image: As in `classify_xray`.
            timeout_s: Longest to wait for the server, in seconds; by default the client's.
            model_version: Version of the served model; by default the newest.
            metadata: As in `classify_xray`.

        Raises:
            DensescanError: As in `classify_xray`.
        """
        return self.classify(MRI, image, timeout_s=timeout_s, model_version=model_version, metadata=metadata)

    def classify(
        self,
        task: str | Task,
        image: ImageSource,
        *,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Classification:
        """Classify a picture for the task of that name; see `classify_xray`.

        Args:
            task: ``"xray"`` or ``"mri"``.
            image: As in `classify_xray`.
            threshold: As in `classify_xray`; only for tasks with a positive label.
            timeout_s: Longest to wait for the server, in seconds; by default the client's.
            model_version: Version of the served model; by default the newest.
            metadata: As in `classify_xray`.

        Raises:
            ValueError: There is no such task, or an argument is outside its range.
            DensescanError: As in `classify_xray`.
        """
        return self._classify(Job.of(task, threshold, model_version), image, self._terms(timeout_s, metadata))

    def classify_many(
        self,
        task: str | Task,
        images: Iterable[ImageSource],
        *,
        in_flight: int = 8,
        ordered: bool = True,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Iterator[Classification | DensescanError]:
        """Classify pictures, several at once, and yield the results in the pictures' order.

        At most `in_flight` pictures are in memory at once, and three times as many are taken from
        `images` ahead of the result that is handed out, so `images` may be endless. Stopping early
        drops what has not been sent.

        Args:
            task: ``"xray"`` or ``"mri"``.
            images: Pictures as in `classify_xray`, read as they are needed.
            in_flight: How many to decode and send at once, 1 or more.
            ordered: If False, yield each result as soon as it is there and the next picture is taken; its `source`
                says whose it is.
            threshold: As in `classify_xray`.
            timeout_s: Longest to wait for the server for each picture, in seconds.
            model_version: Version of the served model; by default the newest.
            metadata: As in `classify_xray`.

        Yields:
            For each picture a `Classification`, or the error instance that only it met; both name
            the picture as `source`.

        Raises:
            ValueError: There is no such task, or an argument is outside its range; at the call.
            ClientClosed: The client has been closed.
            Exception: Whatever taking the next of `images` raises, after the results of those before.
        """
        job, terms = Job.of(task, threshold, model_version), self._terms(timeout_s, metadata)
        return run_many(lambda image: self._classify_in_turn(job, image, terms), images, in_flight, ordered=ordered)

    def explain_xray(
        self,
        image: ImageSource,
        *,
        target: str | None = None,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Explanation:
        """Classify a frontal chest X-ray, and show with Grad-CAM what speaks for a label.

        Args:
            image: As in `classify_xray`.
            target: The label to explain; by default the one that is decided on.
            threshold: As in `classify_xray`.
            timeout_s: Longest to wait for the server, in seconds; by default the client's.
            model_version: Version of the served gradient model; by default the newest.
            metadata: As in `classify_xray`.

        Raises:
            ValueError: There is no such label, or an argument is outside its range.
            DensescanError: As in `classify_xray`.
        """
        return self.explain(
            XRAY,
            image,
            target=target,
            threshold=threshold,
            timeout_s=timeout_s,
            model_version=model_version,
            metadata=metadata,
        )

    def explain_mri(
        self,
        image: ImageSource,
        *,
        target: str | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Explanation:
        """Classify a brain MRI slice, and show with Grad-CAM what speaks for a label; see `explain_xray`."""
        return self.explain(
            MRI, image, target=target, timeout_s=timeout_s, model_version=model_version, metadata=metadata
        )

    def explain(
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
        """Explain a picture for the task of that name; see `explain_xray`."""
        return self._explain(
            Question.of(task, target, threshold, model_version), image, self._terms(timeout_s, metadata)
        )

    def explain_many(
        self,
        task: str | Task,
        images: Iterable[ImageSource],
        *,
        in_flight: int = 8,
        ordered: bool = True,
        target: str | None = None,
        threshold: float | None = None,
        timeout_s: float | None = None,
        model_version: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Iterator[Explanation | DensescanError]:
        """Explain pictures, several at once, and yield the results in their order; see `classify_many`.

        An `Explanation` keeps its picture, up to a megabyte.
        """
        question, terms = Question.of(task, target, threshold, model_version), self._terms(timeout_s, metadata)
        return run_many(lambda image: self._explain_in_turn(question, image, terms), images, in_flight, ordered=ordered)

    def is_ready(self, *, timeout_s: float | None = None, metadata: Mapping[str, str] | None = None) -> bool:
        """Whether a server answers at the address and its models take requests."""
        try:
            return self._ask_ready(Deadline(*self._terms(timeout_s, metadata)))
        except ClientClosed:
            raise
        except DensescanError:
            return False

    def wait_until_ready(self, timeout_s: float = 60.0, *, metadata: Mapping[str, str] | None = None) -> None:
        """Return as soon as the server is ready.

        Args:
            timeout_s: Longest to wait, in seconds.
            metadata: As in `classify_xray`.

        Raises:
            ServerUnavailable: It was not ready in time.
        """
        deadline = Deadline(check_timeout(timeout_s))
        cause: DensescanError | None = None
        while True:
            try:
                if self._ask_ready(Deadline(*self._terms(min(self.timeout_s, deadline.remaining_s()), metadata))):
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
            time.sleep(_POLL_S)

    def _ask_ready(self, deadline: Deadline) -> bool:
        return bool(self._send("is_server_ready", deadline, "its status", reached=False))

    def status(self, *, timeout_s: float | None = None, metadata: Mapping[str, str] | None = None) -> ServerStatus:
        """What the server says about itself and its models.

        Raises:
            ServerUnavailable: Nobody answers at the address.
        """
        deadline = Deadline(*self._terms(timeout_s, metadata))
        about = "its status"
        self._reach(deadline, about)
        return _protocol.parse_status(
            self.url,
            live=self._call("is_server_live", deadline, about),
            ready=self._call("is_server_ready", deadline, about),
            metadata=self._call("get_server_metadata", deadline, about),
            index=self._call("get_model_repository_index", deadline, about),
        )

    def _classify_in_turn(self, job: Job, image: ImageSource, terms: Terms) -> Classification:
        """One of many: there is time until it is not held back."""
        terms, come = self._turn(job.task.classifier, terms)
        return self._classify(job, image, terms, in_turn=come)

    def _explain_in_turn(self, question: Question, image: ImageSource, terms: Terms) -> Explanation:
        terms, come = self._turn(question.job.task.gradcam, terms)
        return self._explain(question, image, terms, in_turn=come)

    def _turn(self, model: str, terms: Terms) -> tuple[Terms, bool]:
        """Wait until a request is not held back; the terms with the time that is left, and whether its turn came."""
        deadline = Deadline(*terms)
        while 0 < (pause := self._pause_s(model)) < deadline.remaining_s():
            if self._closing.wait(pause):
                break
            terms = Terms(deadline.remaining_s(), terms.metadata)
        return terms, not pause

    def _classify(self, job: Job, image: ImageSource, terms: Terms, *, in_turn: bool = False) -> Classification:
        self._check_open()
        with self._admitted(job.task.classifier, in_turn=in_turn):
            return self._classify_admitted(job, image, terms)

    def _classify_admitted(self, job: Job, image: ImageSource, terms: Terms) -> Classification:
        loaded = _protocol.load(image, self._options)
        deadline = Deadline(*terms)
        self._reach(deadline, job.model)
        arguments = _protocol.infer_arguments(job, loaded)
        start = time.perf_counter()
        result = self._call("infer", deadline, job.model, **arguments)
        elapsed_ms = (time.perf_counter() - start) * 1000
        log.debug("%s answered in %.1f ms", job.model, elapsed_ms)
        point = None
        if job.needs_operating_point:
            point = self._operating_point(job.task.classifier, _protocol.answered_version(result), deadline)
        return _protocol.parse_classification(job, loaded, result, operating_point=point, elapsed_ms=elapsed_ms)

    def _explain(self, question: Question, image: ImageSource, terms: Terms, *, in_turn: bool = False) -> Explanation:
        self._check_open()
        with self._admitted(question.job.task.gradcam, in_turn=in_turn):
            return self._explain_admitted(question, image, terms)

    def _explain_admitted(self, question: Question, image: ImageSource, terms: Terms) -> Explanation:
        loaded = _explaining.load(image, self._options)
        deadline = Deadline(*terms)
        self._reach(deadline, question.model)
        start = time.perf_counter()
        result = self._call("infer", deadline, question.model, **_explaining.infer_arguments(question, loaded))
        elapsed_ms = (time.perf_counter() - start) * 1000
        log.debug("%s answered in %.1f ms", question.model, elapsed_ms)
        point = None
        if question.job.needs_operating_point:
            point = self._operating_point(question.job.task.gradcam, _protocol.answered_version(result), deadline)
        decision = _explaining.parse_decision(question, loaded, result, operating_point=point, elapsed_ms=elapsed_ms)
        further = question.follow_up(decision)
        if further is not None:
            result = self._call("infer", deadline, further.model, **_explaining.infer_arguments(further, loaded))
        return _explaining.parse_explanation(question, loaded, result, decision)

    def _operating_point(self, model: str, version: str, deadline: Deadline) -> float:
        """The threshold of one version of a model; a new version may bring a new one."""
        key = (model, version)
        if key not in self._operating_points:
            response = self._call("get_model_config", deadline, model, model_name=model, model_version=version)
            self._operating_points[key] = _protocol.parse_operating_point(model, response)
        return self._operating_points[key]

    def _reach(self, deadline: Deadline, about: str) -> None:
        """Before the first request, tell a server that is slow from one that is not there."""
        if not self._reached:
            self._call("is_server_live", deadline, about, reached=False)
            self._reached = True

    def _call(self, method: str, deadline: Deadline, about: str, *, reached: bool = True, **arguments: Any) -> Any:
        """Send a request, and send it again where that is safe, all within the deadline."""
        attempts = self._retries.begin(deadline)
        while True:
            try:
                answer = self._send(method, deadline, about, reached=reached, **arguments)
            except DensescanError as error:
                pause = attempts.pause_s(error)
                if pause is None:
                    raise
                log.debug("%s failed (%s): again in %.2f s", about, type(error).__name__, pause)
                self._closing.wait(pause)
            else:
                self._retries.succeeded()
                return answer

    def _send(self, method: str, deadline: Deadline, about: str, *, reached: bool = True, **arguments: Any) -> Any:
        connection = self._connect(deadline)
        headers = self._options.headers(deadline.metadata)
        with translated(Call(self.url, about, deadline.timeout_s, reached)):
            try:
                return getattr(connection, method)(
                    client_timeout=deadline.remaining_s(), headers=headers or None, **arguments
                )
            except Exception as error:  # whatever gRPC says when another thread has closed the client
                self._check_open(error)
                raise

    def _connect(self, deadline: Deadline) -> Any:
        self._check_open()
        connection = self._connection
        if connection is not None:
            return connection
        place = target(self.url, deadline.remaining_s())  # not under the lock: a resolver may take long
        with self._lock:
            self._check_open()
            if self._connection is None:  # another thread may have been faster
                from tritonclient.grpc import InferenceServerClient

                self._connection = InferenceServerClient(
                    place, creds=credentials(self._options), channel_args=channel_options(self._options)
                )
                close_with(self, self._connection)
            return self._connection
