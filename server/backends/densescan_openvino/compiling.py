"""A network compiled for a few batch sizes of its own, and for one or several numbers of threads.

OpenVINO compiles a network with an open batch so that it can take any. It then works out every layer's shapes anew
whenever the size is another than before, plans no memory ahead, and runs layers one by one that it would fuse if it
knew their sizes: some milliseconds an inference, of which a network in int8 has not many. Compiled for one size it
saves that: ``python -m loadtest.sweep --only "as shipped" --only "any batch size"`` measures how much.

So there is a network for each of a few sizes, and a batch of another size is run as several: 11 as 4, 4, 1, 1 and 1.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov
import triton_python_backend_utils as pb_utils
from batched_backend import Array, Arrays, Run, Settings

THREADS = "INFERENCE_NUM_THREADS"
SIZES = "FIXED_BATCH_SIZES"


def fixed_sizes(settings: Settings) -> tuple[int, ...]:
    """The batch sizes to compile for, ascending; none: one network for any size.

    Raises:
        TritonModelException: The parameter is no list of sizes that the model can take, or lacks 1.
    """
    text = settings.parameters.get(SIZES, "").strip()
    if not text:
        return ()
    try:
        sizes = sorted({int(size) for size in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] != 1 or sizes[-1] > settings.max_batch_size:
        raise pb_utils.TritonModelException(
            f"parameter {SIZES} must be sizes of 1 to {settings.max_batch_size} with commas between, and 1 among them,"
            f" not {text!r}"
        )
    if open_sides := [spec.name for spec in settings.inputs if -1 in spec.shape]:
        raise pb_utils.TritonModelException(f"parameter {SIZES}: input {open_sides[0]!r} has an open side")
    return tuple(sizes)


def compile_for(
    core: ov.Core, model: ov.Model, settings: Settings, chosen: Mapping[str, str], threads: Sequence[int]
) -> list[Run]:
    """The network for each of `threads` numbers of threads, of any batch size.

    Args:
        core: What compiles.
        model: The network as it was read; its batch is left fixed to the last size.
        settings: Of the served model.
        chosen: OpenVINO's properties, but for the threads.
        threads: How many threads, for each.
    """
    sizes = fixed_sizes(settings)
    by_threads: list[dict[int, Run]] = [{} for _ in threads]
    for size in sizes or (0,):
        if size:
            model.reshape({spec.name: [size, *spec.shape] for spec in settings.inputs})
        for networks, compiled in zip(by_threads, _compiled(core, model, chosen, threads), strict=True):
            networks[size] = runner(compiled, settings)
    return [_in_parts(networks) if sizes else networks[0] for networks in by_threads]


def _compiled(
    core: ov.Core, model: ov.Model, chosen: Mapping[str, str], threads: Sequence[int]
) -> list[ov.CompiledModel]:
    """Compiled once, and for the other numbers of threads taken from that: a fifth of the time."""
    first = core.compile_model(model, "CPU", {**chosen, THREADS: str(threads[0])})
    if len(threads) == 1:
        return [first]
    written = io.BytesIO()
    first.export_model(written)
    others = [
        core.import_model(io.BytesIO(written.getvalue()), "CPU", {**chosen, THREADS: str(number)})
        for number in threads[1:]
    ]
    return [first, *others]


def runner(compiled: ov.CompiledModel, settings: Settings) -> Run:
    """One inference of a compiled network."""
    request = compiled.create_infer_request()
    outputs = {spec.name: compiled.output(spec.name) for spec in settings.outputs}

    def run(batch: Mapping[str, Array]) -> Arrays:
        # share_inputs: the network reads the arrays where they lie. The outputs are small, and copied.
        results = request.infer(batch, share_inputs=True)
        return {name: results[port] for name, port in outputs.items()}

    return run


def _in_parts(networks: Mapping[int, Run]) -> Run:
    """A batch of any size by networks of one size each."""

    def run(batch: Mapping[str, Array]) -> Arrays:
        total = len(next(iter(batch.values())))
        if total in networks:
            return networks[total](batch)
        answers, start = [], 0
        for size in parts(total, list(networks)):
            answers.append(networks[size]({name: array[start : start + size] for name, array in batch.items()}))
            start += size
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    return run


def parts(total: int, sizes: Sequence[int]) -> list[int]:
    """`total` as a sum of `sizes`, of which one is 1; the largest first."""
    found: list[int] = []
    for size in sorted(sizes, reverse=True):
        count, total = divmod(total, size)
        found += [size] * count
    return found
