"""What keeps a CUDA GPU busy while it trains on Keras' torch backend.

Two things would leave it idle. Python takes longer to start the thousands of operations of a step one by one than the
GPU to do them: they are recorded once as a CUDA graph and replayed. And a core changes some hundred images a second,
where the GPU trains on thousands: the batches are made by processes beside the training.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras

from .network import BACKBONE

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from .batches import Batches

MOST_WORKERS = 12


def on_gpu() -> bool:
    """Whether Keras computes with PyTorch on a CUDA GPU."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return torch.cuda.is_available() and keras.ops.zeros(()).device.type == "cuda"


def record(model: keras.Model, batch_size: int) -> None:
    """Have `model` train and be validated by recorded graphs from now on, in batches of one size.

    The step is Keras' own in other words: the same loss, each gradient clipped by its norm, AdamW on the same moments
    in the same variables, so that a checkpoint holds all. Training batches must be whole; the last validation batch
    need not be. Recording leaves no trace in the weights or the statistics of batch normalisation.

    Args:
        model: From `network.build_classifier`, compiled with AdamW and categorical cross-entropy.
        batch_size: Images in a step.
    """
    import torch

    optimiser = model.optimizer
    optimiser.build(model.trainable_variables)
    weights = [variable.value for variable in model.trainable_variables]
    decayed = [variable.value for variable in model.trainable_variables if optimiser._use_weight_decay(variable)]
    means = [variable.value for variable in optimiser._momentums]
    squares = [variable.value for variable in optimiser._velocities]
    rates = _rates(optimiser)
    normalise = model.get_layer("normalise")
    device = weights[0].device
    pixels = normalise(torch.zeros((batch_size, *model.input_shape[1:]), dtype=torch.uint8, device=device))
    targets = torch.zeros((batch_size, model.output_shape[-1]), device=device)
    shares = torch.ones(batch_size, device=device)
    rate, scale = torch.zeros((), device=device), torch.zeros((), device=device)

    def probabilities(training: bool) -> torch.Tensor:
        value = pixels
        for layer in model.layers[model.layers.index(normalise) + 1 :]:
            if isinstance(layer, keras.layers.Dropout):  # Keras' own asks the CPU for its seed
                value = torch.nn.functional.dropout(value, layer.rate, training)
            elif layer.name == BACKBONE:
                value = layer(value, training=training)
            else:
                value = layer(value)
        return value

    def loss_of(answers: torch.Tensor) -> torch.Tensor:
        smoothing = model.loss.label_smoothing
        smoothed = targets * (1 - smoothing) + smoothing / targets.shape[1]
        return -(shares * (smoothed * answers.clamp(1e-7, 1 - 1e-7).log()).sum(dim=1)).mean()

    def gradients() -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        answers = probabilities(True)
        loss = loss_of(answers)
        return answers.detach(), loss.detach(), list(torch.autograd.grad(loss, weights))

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        answers, loss, changes = gradients()
        with torch.no_grad():
            norms = torch.stack(torch._foreach_norm(changes))
            torch._foreach_mul_(changes, list((optimiser.clipnorm / norms).clamp(max=1).unbind()))
            torch._foreach_mul_(decayed, 1 - rate * optimiser.weight_decay)
            torch._foreach_mul_(means, optimiser.beta_1)
            torch._foreach_add_(means, changes, alpha=1 - optimiser.beta_1)
            torch._foreach_mul_(squares, optimiser.beta_2)
            torch._foreach_addcmul_(squares, changes, changes, value=1 - optimiser.beta_2)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, optimiser.epsilon)
            moves = torch._foreach_div(means, roots)
            torch._foreach_mul_(moves, scale)
            torch._foreach_sub_(weights, moves)
        return answers, loss

    @torch.no_grad()
    def answer() -> torch.Tensor:
        return probabilities(False)

    statistics = [(variable.value, variable.value.clone()) for variable in model.non_trainable_variables]
    train, ask = _recorded(step, gradients), _recorded(answer, answer)
    with torch.no_grad():
        for value, before in statistics:
            value.copy_(before)

    def train_step(data: Any) -> Any:
        images, wanted, share = (keras.ops.convert_to_tensor(part) for part in data)
        nonlocal done
        pixels.copy_(normalise(images))
        targets.copy_(wanted)
        shares.copy_(share)
        rate.fill_(rates[done])
        bias = (1 - optimiser.beta_2 ** (done + 1)) ** 0.5 / (1 - optimiser.beta_1 ** (done + 1))
        scale.fill_(rates[done] * bias)
        answers, loss = train()
        done += 1
        optimiser.iterations.assign(done)
        model._loss_tracker.update_state(loss, sample_weight=batch_size)
        return model.compute_metrics(images, wanted, answers, sample_weight=share)

    def test_step(data: Any) -> Any:
        images, wanted, share = (keras.ops.convert_to_tensor(part) for part in data)
        pixels[: len(images)].copy_(normalise(images))
        answers = ask()[: len(images)]
        loss = model.compute_loss(x=images, y=wanted, y_pred=answers, sample_weight=share, training=False)
        model._loss_tracker.update_state(loss, sample_weight=len(images))
        return model.compute_metrics(images, wanted, answers, sample_weight=share)

    done = int(optimiser.iterations.value)
    model.train_step, model.test_step = train_step, test_step


def _rates(optimiser: keras.optimizers.Optimizer) -> list[float]:
    """The learning rate of every step, the phase's last one repeated for good measure."""
    schedule = optimiser._learning_rate
    if not isinstance(schedule, keras.optimizers.schedules.CosineDecay):
        raise ValueError("a recorded training needs the schedule cosine")
    steps = schedule.warmup_steps + schedule.decay_steps + 1
    with keras.device("cpu"):
        return [float(schedule(step)) for step in range(steps)]


def _recorded(function: Callable[[], Any], rehearsal: Callable[[], Any]) -> Callable[[], Any]:
    """`function` as a graph: called, it does the same to the same memory, and its results lie where they lay."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their algorithms and take their memory
            rehearsal()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()

    def replay() -> Any:
        graph.replay()
        return results

    return replay


def forget(model: keras.Model) -> None:
    """Give the memory of `record` back: the next phase needs it, and a cycle of references would keep it."""
    import torch

    del model.train_step, model.test_step
    model.train_function = model.test_function = None
    gc.collect()
    torch.cuda.empty_cache()


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type annotations
    """Tells what depends on the epoch which one it is, so that a resumed training goes on as it would have."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self._batches = batches
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """The batches of this epoch, and dropout that depends on it."""
        import torch

        self._batches.epoch = epoch
        torch.manual_seed((self._seed << 20) + epoch)  # of every device; a recorded step draws from it as well


class _Places:
    """Epoch and place of each batch: what a `DataLoader` asks its workers for, one epoch at a time."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self._batches.epoch
        yield from ((epoch, place) for place in range(len(self)))


class _Source:
    """Batches by epoch and place."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, where: tuple[int, int]) -> Any:
        return self._batches.of_epoch(*where)


def prepared_beside(batches: Batches, workers: int | None = None) -> DataLoader[Any]:
    """The same batches, made by processes beside this one: those of the epoch at which `batches` stands.

    Args:
        batches: What to make; `Epochs` sets its epoch.
        workers: Processes; None is one a core but one, at most `MOST_WORKERS`. Each keeps two batches in /dev/shm.
    """
    import torch
    from torch.utils.data import DataLoader

    class Lazy(DataLoader[Any]):
        """Keras asks for an iterator at the end of an epoch as well, and throws it away: only a used one makes any."""

        def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
            yield from super().__iter__()

    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
        workers = max(1, min(MOST_WORKERS, cores - 1))
    return Lazy(
        _Source(batches),  # type: ignore[arg-type]  # has what a Dataset needs
        sampler=_Places(batches),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=2,
    )
