"""What keeps a CUDA GPU busy while it trains on Keras' torch backend.

Two things would leave it idle. Python takes longer to start DenseNet-121's thousand operations one by one than the GPU
to do them: they are recorded once as a CUDA graph and replayed. And a core changes some hundred images a second, the
GPU trains on thousands: the batches are made by processes beside the training.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from .network import BACKBONE

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from .batches import Batches

log = logging.getLogger(__name__)

MOST_WORKERS = 12


def on_gpu() -> bool:
    """Whether Keras computes with PyTorch on a CUDA GPU."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return bool(torch.cuda.is_available())


def capture(model: keras.Model, size: int, batch_size: int) -> None:
    """Have the backbone's training step run as a recorded graph from now on, for whole batches of this size.

    Other batches, and inference, run as before. The weights stay where they are, and so do the statistics of batch
    normalisation, on which the recording would otherwise leave a trace.

    Args:
        model: From `network.build_classifier`, its layers frozen or not as they shall be trained.
        size: Side of the images, in pixels.
        batch_size: Images in a step.
    """
    import torch

    backbone = model.get_layer(BACKBONE)
    if not backbone.trainable_variables:
        return  # nothing is differentiated: the inference of a frozen backbone is short
    plain = backbone.call

    class Backbone(torch.nn.Module):
        """The backbone with its trainable weights as PyTorch knows them."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterList([variable.value for variable in backbone.trainable_variables])

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            """Feature maps of a batch."""
            features: torch.Tensor = plain(pixels, training=True)
            return features

    device = backbone.trainable_variables[0].value.device
    images = torch.zeros((batch_size, size, size, 3), dtype=torch.uint8, device=device)
    pixels = model.get_layer("normalise")(images)
    statistics = [(variable, variable.value.clone()) for variable in backbone.non_trainable_variables]
    recorded = torch.cuda.make_graphed_callables(Backbone(), (pixels,), allow_unused_input=True)
    with torch.no_grad():
        for variable, value in statistics:
            variable.value.copy_(value)

    def call(inputs: torch.Tensor, training: bool | None = None, mask: Any = None) -> Any:
        if training and inputs.shape == pixels.shape:
            return recorded(inputs)
        return plain(inputs, training=training, mask=mask)

    backbone.call = call


class _Places:
    """Epoch and place of each batch: what a `DataLoader` asks its workers for, one epoch at a time."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self._batches.epoch
        yield from ((epoch, place) for place in range(len(self)))
        self._batches.on_epoch_end()


class _Source:
    """Batches by epoch and place."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, where: tuple[int, int]) -> Any:
        return self._batches.of_epoch(*where)


def prepared_beside(batches: Batches, workers: int | None = None) -> DataLoader[Any]:
    """The same batches, epoch after epoch, made by processes beside this one.

    Args:
        batches: From its epoch on.
        workers: Processes; None is one a core but one, at most `MOST_WORKERS`.
    """
    import torch
    from torch.utils.data import DataLoader

    if workers is None:
        workers = max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))
    return DataLoader(
        _Source(batches),  # type: ignore[arg-type]  # has what a Dataset needs
        sampler=_Places(batches),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4,
    )
