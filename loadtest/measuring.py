"""The parts of a benchmark, each run against one server and given as plain values."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from densescan import Client
from densescan.preprocessing import preprocess
from densescan.tasks import MRI, TASKS, XRAY
from server import ServerStartError
from server.repository import read_repository

from . import latency
from .callers import Outcome
from .connection import own_server
from .figures import Latency, Spread, difference, mean_batch, median
from .machine import this_machine
from .pictures import write_phantoms
from .processes import CallersProcess
from .raw import RawNetwork, batches
from .server_side import Counters, cpu_by_model, memory_mb
from .ways import Load, Target, served_files

log = logging.getLogger(__name__)

BATCH_SIZES = (1, 2, 4, 8, 16)
CALLERS = (1, 2, 4, 8, 16, 32)
SHARES_OF_CAPACITY = (0.5, 0.8, 0.95, 1.2)
OVERLOAD = 3.0
MANY = 16
"""Callers at once wherever one number has to do."""
EXPLAINING = (1, 8)
"""Callers at once where the decision with its heatmap is compared with the decision alone."""
_LONGER = (1, 2, 8)
"""A load without any answer is run again, so many times as long: its rate is a divisor later."""


@dataclass(frozen=True)
class Plan:
    """How long everything takes.

    Attributes:
        seconds: Of a load by callers that wait.
        warm_up_s: Before each load.
        rounds: In which all that is compared has its turn.
        turns: Calls of each kind of one caller.
        open_s: Of a load by the clock.
        pictures: That a load should have at least: batches come in lumps, and in a few of them nothing can be read.
    """

    seconds: float = 3.0
    warm_up_s: float = 0.7
    rounds: int = 4
    turns: int = 300
    open_s: float = 8.0
    pictures: int = 200

    @classmethod
    def quick(cls) -> Plan:
        """A look: the figures scatter."""
        return cls(seconds=1.0, warm_up_s=0.3, rounds=2, turns=50, open_s=2.0, pictures=0)

    def at(self, per_second: float) -> Plan:
        """The plan for a machine whose network does so many pictures a second: longer on a slow one."""
        longer = max(1.0, self.pictures / per_second / self.seconds)
        return replace(self, seconds=self.seconds * longer, open_s=self.open_s * longer)


@dataclass
class Bench:
    """A running server, and callers beside it.

    Attributes:
        url: ``host:port`` of the server.
        callers: They ask it.
        counters: Its own.
        files: Paths of the pictures by task.
        plan: How long everything takes.
        say: Told what is being measured.
        pid: Process id of tritonserver, where it runs on this machine.
    """

    url: str
    callers: CallersProcess
    counters: Counters
    files: dict[str, tuple[str, ...]]
    plan: Plan
    say: Callable[[str], None]
    pid: int | None = None

    def target(self, way: str, task: str = XRAY.name) -> Target:
        """A target on this server."""
        return Target(way, task, self.url, self.files[task])

    def load(self, targets: Sequence[Target], callers: int = MANY, rate: float | None = None) -> dict[str, Any]:
        """Run one load; its figures, with what the server did meanwhile."""
        if rate is not None:
            return self._load(targets, callers, self.plan.open_s, rate)
        for longer in _LONGER:
            point = self._load(targets, callers, longer * self.plan.seconds)
            if point["per_second"]:
                break
        return point

    def _load(
        self, targets: Sequence[Target], callers: int, seconds: float, rate: float | None = None
    ) -> dict[str, Any]:
        models = [_network(target) for target in targets]
        before, cpu, start = [*map(self.counters.executed, models)], self._cpu(), time.perf_counter()
        outcome = self.callers.run(Load(tuple(targets), callers, seconds, self.plan.warm_up_s, rate))
        batches_of = [difference(self.counters.executed(model), was) for model, was in zip(models, before, strict=True)]
        spent = {name: taken - cpu.get(name, 0.0) for name, taken in self._cpu().items()}
        server_cores = sum(spent.values()) / (time.perf_counter() - start)
        pictures = sum(size * times for executed in batches_of for size, times in executed.items())
        return {
            **figures(outcome),
            "executed": batches_of[0],  # of two tasks at once, the first one's
            "mean_batch": mean_batch(batches_of[0]),
            "server_cores": server_cores,
            "processor_ms": {name: 1000 * taken / pictures for name, taken in spent.items()} if pictures else {},
        }

    def _cpu(self) -> dict[str, float]:
        """Processor time by model; nothing of a server elsewhere."""
        return {} if self.pid is None else cpu_by_model(self.pid)


def _network(target: Target) -> str:
    """The model whose batches a load of that kind fills."""
    task = TASKS[target.task]
    return task.gradcam if target.way == "gradcam" else task.classifier


def figures(outcome: Outcome) -> dict[str, Any]:
    """A load's outcome as plain values."""
    return {
        "per_second": outcome.per_second,
        "client_ms_per_call": outcome.client_ms,
        "latency_ms": vars(Latency.of_seconds(outcome.latencies_s)) if outcome.latencies_s else None,
        "refusal_ms": vars(Latency.of_seconds(outcome.refusals_s)) if outcome.refusals_s else None,
        "failures": dict(outcome.failures),
        "sent": outcome.sent,
        "sent_per_second": outcome.sent / outcome.seconds,
    }


def raw_speed(raw: RawNetwork, arrays: Sequence[Any], size: int, seconds: float) -> dict[str, float]:
    """The network in this process, in batches of `size`.

    Returns:
        ``raw``, pictures a second, and ``raw_ms``, processor time of a picture in milliseconds.
    """
    turns = batches(arrays, size, 8)
    raw(turns[0])
    done, cpu, start = 0, time.process_time(), time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        raw(turns[done % len(turns)])
        done += 1
    return {"raw": done * size / elapsed, "raw_ms": 1000 * (time.process_time() - cpu) / (done * size)}


def measure(repository: Path, plan: Plan, say: Callable[[str], None], peers: Sequence[str] = ()) -> dict[str, Any]:
    """Run everything, and return it as plain values.

    Raises:
        ServerStartError: The server cannot start.
    """
    machine = this_machine()
    with tempfile.TemporaryDirectory() as folder:
        served = served_models(repository)
        files = drawn_files(served, Path(folder))
        arrays = [preprocess(file) for file in files[XRAY.name]]
        raw = RawNetwork(XRAY, repository)
        report: dict[str, Any] = {"machine": vars(machine), "pictures": "224x224 grey JPEG, drawn"}
        say("the network in this process")
        report["raw"] = {str(size): raw_speed(raw, arrays, size, plan.seconds)["raw"] for size in BATCH_SIZES}
        plan = plan.at(max(report["raw"].values()))
        report["plan"] = vars(plan)
        with own_server(repository, served) as triton, CallersProcess() as callers:
            bench = Bench(triton.grpc_url, callers, Counters(triton.grpc_url), files, plan, say, triton.pid)
            report["one_caller"] = one_caller(bench, raw, arrays)
            report["closed"] = closed_loop(bench, CALLERS)
            best = max(report["raw"], key=lambda size: report["raw"][size])
            alone = partial(raw_speed, raw, arrays, int(best), plan.seconds)
            report["rounds"] = matched_rounds(bench, served, alone)
            capacity = median([turn["ready"]["per_second"] for turn in report["rounds"]])
            report["capacity"] = capacity
            report["open"] = open_loop(bench, capacity)
            report["overload"] = overload(bench, served)
            report["gradcam"] = gradcam(bench, served)
            report["memory_mb"] = memory_mb(triton.pid)
            report["skipped"] = skipped(served)
            report["peers"], failed = measure_peers(bench, peers, repository, served)
            report["skipped"] |= failed
            bench.counters.close()
    report["claims"] = claims(report)
    return report


def served_models(repository: Path) -> list[str]:
    """The models of a repository that can be served: their weights, and those of the models they call, are there."""
    names = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    complete = []
    for name in names:
        try:
            read_repository(repository, "cpu", [name])
        except ServerStartError:
            continue
        complete.append(name)
    if XRAY.classifier not in complete:
        read_repository(repository, "cpu", [XRAY.classifier])  # says what is missing
    return complete


def drawn_files(served: Collection[str], folder: Path) -> dict[str, tuple[str, ...]]:
    """Paths of drawn pictures by task, for those whose classifier is served."""
    tasks = [task for task in TASKS.values() if task.classifier in served]
    return {task.name: served_files(write_phantoms(task, folder)) for task in tasks}


def skipped(served: Sequence[str]) -> dict[str, str]:
    """What could not be measured, and why."""
    wanted = {"encoded": XRAY.ensemble, "both tasks at once": MRI.classifier, "gradcam": XRAY.gradcam}
    return {what: f"{model} is not in the repository" for what, model in wanted.items() if model not in served}


def one_caller(bench: Bench, raw: RawNetwork, arrays: Sequence[Any]) -> dict[str, Any]:
    """Latency of one caller against the network in this process, in turns."""
    bench.say("one caller")
    files = bench.files[XRAY.name]
    with Client(bench.url) as client:
        rounds = latency.in_turns(latency.kinds(XRAY, raw, client, files, arrays), bench.plan.turns)
    return asdict(latency.summarise(XRAY.name, this_machine(), rounds))


def closed_loop(bench: Bench, numbers: Sequence[int]) -> dict[str, Any]:
    """Throughput and latency by number of callers, requests ready."""
    points = {}
    for callers in numbers:
        bench.say(f"{callers} callers")
        points[str(callers)] = bench.load([bench.target("ready")], callers)
    return points


def matched_rounds(
    bench: Bench, served: Collection[str], beside: Callable[[], dict[str, float]] = dict
) -> list[dict[str, Any]]:
    """The ways that are compared with one another, one after the other in each round, so that they share its luck.

    Args:
        bench: The server and its callers.
        served: Names of its models.
        beside: What else has its turn in each round, with its figures by name.
    """
    kinds: dict[str, list[Target]] = {way: [bench.target(way)] for way in ("ready", "sdk_array", "sdk_file")}
    if XRAY.ensemble in served:
        kinds["encoded"] = [bench.target("encoded")]
    if MRI.classifier in served:
        kinds["both_tasks"] = [bench.target("ready"), bench.target("ready", MRI.name)]
    rounds = []
    for number in range(bench.plan.rounds):
        bench.say(f"round {number + 1} of {bench.plan.rounds}")
        turn: dict[str, Any] = beside()
        turn |= {kind: bench.load(targets) for kind, targets in kinds.items()}
        rounds.append(turn)
    return rounds


def open_loop(bench: Bench, capacity: float) -> dict[str, Any]:
    """Latency from the intended send time, at shares of the capacity."""
    points = {}
    for share in SHARES_OF_CAPACITY:
        bench.say(f"{share:.0%} of capacity, by the clock")
        points[str(share)] = bench.load([bench.target("ready")], rate=share * capacity)
    return points


def overload(bench: Bench, served: Sequence[str]) -> dict[str, Any]:
    """What three times the capacity does to those who are let in, and to the server afterwards."""
    ways = {"ready": XRAY.classifier, "encoded_ready": XRAY.ensemble, "sdk_array": XRAY.classifier}
    results = {}
    for way, model in ways.items():
        if model in served:
            bench.say(f"three times the capacity, {way}")
            target = bench.target(way)
            before = bench.load([target])
            flood = bench.load([target], rate=OVERLOAD * before["per_second"])
            results[way] = {"before": before, "flood": flood, "after": bench.load([target])}
    return results


def gradcam(bench: Bench, served: Sequence[str]) -> list[dict[str, Any]]:
    """In each round, by number of callers: the decision, then with its heatmap; empty where that is not served."""
    if XRAY.gradcam not in served:
        return []
    bench.say("gradcam")
    return [
        {
            str(callers): {way: bench.load([bench.target(way)], callers) for way in ("ready", "gradcam")}
            for callers in EXPLAINING
        }
        for _ in range(bench.plan.rounds)
    ]


def measure_peers(
    bench: Bench, names: Sequence[str], repository: Path, served: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Other servers with the same network, in turns with the SDK from files, and with files sent as they are.

    Returns:
        What was measured, and why a peer was not: one that fails does not cost what was measured before it.
    """
    from .peers import measure as measure_peer

    def press(target: Target, callers: int) -> dict[str, Any]:
        load = Load((target,), callers, bench.plan.seconds, bench.plan.warm_up_s)
        return figures(bench.callers.run(load))

    own = {"sdk": bench.target("sdk_file")}
    if XRAY.ensemble in served:
        own["bytes"] = bench.target("encoded")
    results, failed = {}, {}
    for name in names:
        bench.say(f"peer {name}")
        try:
            results[name] = measure_peer(name, bench.files[XRAY.name], repository, press, own)
        except RuntimeError as error:
            failed[f"peer {name}"] = str(error).partition("; its log")[0].partition("\n")[0]
            log.warning("peer %s: %s", name, error)
    return results, failed


def claims(report: dict[str, Any]) -> dict[str, Any]:
    """The ratios that the parts of a round have to one another, each with its spread over the rounds."""

    def over(kind: str, base: str) -> dict[str, float] | None:
        turns = [turn for turn in report["rounds"] if kind in turn and base in turn and _rate(turn[base])]
        ratios = [_rate(turn[kind]) / _rate(turn[base]) for turn in turns]
        return vars(Spread.of(ratios)) if ratios else None

    def explaining(callers: int) -> dict[str, float] | None:
        turns = [turn[str(callers)] for turn in report["gradcam"]]
        ratios = [_rate(turn["ready"]) / _rate(turn["gradcam"]) for turn in turns if _rate(turn["gradcam"])]
        return vars(Spread.of(ratios)) if ratios else None

    one = report["one_caller"]
    return {
        "served_over_raw": over("ready", "raw"),
        "file_over_array": over("sdk_file", "sdk_array"),
        "encoded_over_file": over("encoded", "sdk_file"),
        "both_over_one": over("both_tasks", "ready"),
        "one_caller_extra_ms": one["extra_ms"][latency.ARRAY],
        "one_caller_file_over_raw": one["over_raw"][latency.FILE],
        **{f"explain_over_classify_{callers}": explaining(callers) for callers in EXPLAINING},
    }


def _rate(point: Any) -> float:
    return float(point if isinstance(point, float) else point["per_second"])
