"""Both position losses as one object, for any model (SeqPE, Eq. 15, App. A.2 to A.5).

    regularizer = PositionRegularizer(encoding, train_shape=512, max_position=20_000)
    loss = lm_loss + regularizer(step)               # L = L_main + alpha L_delta + beta L_OOD
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqpe_lab.devices import moved
from seqpe_lab.digits import position_limits
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.losses import DISTILLATION_FORMS, contrastive_loss, distillation_loss
from seqpe_lab.sampling import (ContrastiveSample, DistillationSample, contrastive_sample,
                                distillation_sample, seeded, training_positions)


class Samples(NamedTuple):
    """The positions that one step's losses need; None for a loss that is not computed."""
    contrast: ContrastiveSample | None
    distil: DistillationSample | None

    def positions(self) -> list[Tensor]:
        """All positions that must be encoded, those of L_delta first.

        int64 (..., n) each, or float64 if the encoder's positions have digits after the point.
        """
        contrast = [self.contrast.pivots, self.contrast.candidates] if self.contrast else []
        return contrast + (list(self.distil) if self.distil else [])


NO_SAMPLES = Samples(None, None)


class PositionRegularizer:
    """alpha L_delta + beta L_OOD of a position encoder, with positions drawn from (seed, step).

    It has no parameters of its own; the optimizer of the model must include the encoder's.

    Args:
        encoder: a :class:`~seqpe_lab.encoder.PositionEncoder`, or an encoding that holds one as
            its ``encoder`` (:class:`~seqpe_lab.encodings.SeqPE`).
        train_shape: L of the training context: tokens, or (rows, columns).
        max_position: L_max, exclusive; one for all dimensions or one each. App. A.4: the batch
            sizes of both losses should grow with the number of positions, to at least 16 for
            each 10,000.
        alpha, beta: weights of L_delta and L_OOD, at least 0; a loss of weight 0 is not computed.
        heads: into which L_OOD splits the vectors; by default the encoding's or the encoder's.
        pivots, candidates: B and m of L_delta.
        hard, hard_share, local: which candidates (:func:`~seqpe_lab.sampling.contrastive_sample`).
        distillation_batch, teachers: B and m of L_OOD.
        smallest_shift: of L_OOD's students (:func:`~seqpe_lab.sampling.distillation_sample`).
        form: of L_OOD, "paper" or "published" (:func:`~seqpe_lab.losses.distillation_loss`).
        seed: of all draws.

    Raises:
        TypeError: an ``encoder`` that neither is nor holds a PositionEncoder.
        ValueError: a weight below 0, an unknown form, a max_position that needs more digits than
            the encoder has, a train_shape of other dimensions than the encoder's, or any other
            option outside its range.

    >>> encoder = PositionEncoder(d_model=16, digits=4, heads=2)
    >>> regularizer = PositionRegularizer(encoder, train_shape=64, max_position=1_000)
    >>> regularizer(step=0).item() == regularizer(step=0).item()        # the same positions
    True
    >>> regularizer.positions(step=0, batch=8).shape                    # 2 of the 8 are shifted
    torch.Size([8, 64, 1])
    """

    def __init__(self, encoder: torch.nn.Module, train_shape: int | tuple[int, ...],
                 max_position: int | tuple[int, ...], *, alpha: float = 0.1, beta: float = 0.1,
                 heads: int | None = None, pivots: int = 32, candidates: int = 32, hard: int = 8,
                 hard_share: float = 1.0, local: float = 0.5, distillation_batch: int = 32,
                 teachers: int = 32, smallest_shift: float = 1.0, form: str = "paper",
                 seed: int = 0):
        inner = getattr(encoder, "encoder", encoder)
        if not isinstance(inner, PositionEncoder):
            raise TypeError(f"{type(encoder).__name__} has no position encoder to regularize: "
                            "give a PositionEncoder, or an encoding 'seqpe'")
        if not (0 <= alpha < math.inf and 0 <= beta < math.inf):
            raise ValueError("loss weights must be at least 0 and finite, "
                             f"got alpha={alpha}, beta={beta}")
        shape = (train_shape,) * inner.dims if isinstance(train_shape, int) else tuple(train_shape)
        if len(shape) != inner.dims:
            raise ValueError(f"train_shape={shape} has {len(shape)} dimensions but the encoder's "
                             f"positions have n={inner.dims}: choose another `dims` of the encoder")
        if int(position_limits(max_position, inner.dims).max()) > inner.base**inner.digits:
            raise ValueError(f"max_position={max_position} does not fit into k={inner.digits} "
                             f"digits in base {inner.base}: raise `digits` or lower max_position")
        if form not in DISTILLATION_FORMS:
            raise ValueError(f"unknown form {form!r}: choose from {', '.join(DISTILLATION_FORMS)}")
        self.encoder, self.train_shape, self.max_position = inner, shape, max_position
        self.alpha, self.beta, self.seed, self.form = alpha, beta, seed, form
        self.heads: int = int(getattr(encoder, "heads", inner.heads)) if heads is None else heads
        if self.heads < 1 or inner.d_model % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the encoder's d_model="
                             f"{inner.d_model}: choose other `heads`")
        self.contrastive: dict[str, Any] = dict(
            batch=pivots, candidates=candidates, hard=hard, hard_share=hard_share, local=local,
            base=inner.base)
        self.distillation: dict[str, Any] = dict(
            batch=distillation_batch, teachers=teachers, smallest_shift=smallest_shift)
        self.sample(seeded(seed, 0, stream=2))  # refuse now what the first step could not draw

    def __call__(self, step: int) -> Tensor:
        """alpha L_delta + beta L_OOD of a step: scalar, float32, nats."""
        samples = self.sample(seeded(self.seed, step, stream=2))
        vectors = encode_together(self.encoder, samples.positions()) if any(samples) else []
        return self.weighted(self.losses(samples, vectors))

    def sample(self, generator: torch.Generator, distil: bool = True) -> Samples:
        """Draw a step's positions; ``distil=False`` leaves out those of L_OOD."""
        dims, contrast, students = self.encoder.dims, None, None
        unit = self.encoder.base**self.encoder.decimals  # parts of 1: 10 with one decimal
        limits = tuple((position_limits(self.max_position, dims) * unit).tolist())
        if self.alpha > 0:
            contrast = contrastive_sample(max_position=limits, dims=dims, generator=generator,
                                          **self.contrastive)
        if self.beta > 0 and distil:
            sizes = tuple(size * unit for size in self.train_shape)
            students = distillation_sample(train_shape=sizes, dims=dims, max_position=limits,
                                           generator=generator, **self.distillation)
        if self.encoder.decimals:
            contrast = contrast and contrast._replace(
                pivots=contrast.pivots.double() / unit,
                candidates=contrast.candidates.double() / unit)
            students = students and DistillationSample(*(p.double() / unit for p in students))
        return Samples(contrast, students)

    def losses(self, samples: Samples, vectors: Sequence[Tensor]) -> dict[str, Tensor]:
        """L_delta as "contrastive" and L_OOD as "distillation", scalars in nats, not weighted.

        Args:
            samples: from :meth:`sample`; a loss without positions is left out.
            vectors: of ``samples.positions()``, float (..., d) each, in the same order.
        """
        rest, losses = list(vectors), {}
        if samples.contrast:
            pivots, candidates = rest.pop(0), rest.pop(0)
            label, tied = moved([samples.contrast.label, samples.contrast.tied.long()],
                                pivots.device)
            losses["contrastive"] = contrastive_loss(pivots, candidates, label, tied.bool())
        if samples.distil:
            losses["distillation"] = distillation_loss(rest.pop(0), rest.pop(0), self.heads,
                                                       self.form)
        return losses

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """alpha L_delta + beta L_OOD."""
        weights = {"contrastive": self.alpha, "distillation": self.beta}
        device = self.encoder.token.weight.device
        return sum((weights[name] * value for name, value in losses.items()),
                   torch.zeros((), device=device))

    def positions(self, step: int, batch: int, shifted: float = 0.1) -> Tensor:
        """Positions for the model's own batch: a share of it starts at a random place (App. A.5).

        Returns:
            int64 (batch, L, n), or (L, n) where all sequences start alike. On a grid L is the
            number of its cells.
        """
        return training_positions(batch, self.train_shape, self.max_position, shifted=shifted,
                                  generator=seeded(self.seed, step, stream=3))


def encode_together(encoder: PositionEncoder, parts: Sequence[Tensor]) -> list[Tensor]:
    """Encode several position tensors in one call, so that all share their digit prefixes.

    Args:
        parts: integers (..., n) each.

    Returns:
        float (..., d) each.
    """
    vectors = encoder(torch.cat([part.flatten(0, -2) for part in parts]))
    sizes = [part.shape[:-1].numel() for part in parts]
    return [v.unflatten(0, part.shape[:-1]) for v, part in zip(vectors.split(sizes), parts)]
