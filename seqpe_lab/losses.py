"""L_delta and L_OOD, the two losses of the position encoder, computed from position vectors.

SeqPE, Sec. 3.3 and 3.4. Both are computed in float32 even under autocast: in a trained encoder
e.e' is about 450, where bfloat16 cannot tell neighbouring positions apart.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.devices import float32_region

DISTILLATION_FORMS = ("paper", "published")


def contrastive_loss(pivots: Tensor, candidates: Tensor, label: Tensor,
                     tied: Tensor | None = None) -> Tensor:
    """L_delta: the nearest candidate should be the most similar one (SeqPE, Eq. 9).

        L_delta = -log( exp(e_p . e_{p+}) / sum_{p' in C} exp(e_p . e_{p'}) )

    Args:
        pivots: e_p, float (B, d).
        candidates: the vectors of C, float (B, m, d), m >= 2.
        label: integers (B,), which candidate is p+ = argmin delta(p, p').
        tied: bool (B, m), other candidates that are as near as p+; they are left out of C, so
            that no nearest position is pushed away from p.

    Returns:
        Scalar, float32 (float64 of float64 vectors), nats, the mean over the B pivots. Where all
        vectors are equal and none are tied it is log m.

    Raises:
        ValueError: shapes that do not fit; no pivots, or vectors of size 0; fewer than two
            candidates; a label that names none of them (checked on the CPU only).

    >>> e = torch.tensor([[1., 0.]])
    >>> others = torch.tensor([[[2., 0.], [0., 3.]]])                 # dot products 2 and 0
    >>> round(contrastive_loss(e, others, torch.tensor([0])).item(), 4)   # log(1 + exp(-2))
    0.1269
    """
    if candidates.dim() != 3 or pivots.shape != (candidates.shape[0], candidates.shape[2]):
        raise ValueError("pivots (B, d) and candidates (B, m, d) do not fit: "
                         f"{tuple(pivots.shape)} and {tuple(candidates.shape)}")
    if pivots.numel() == 0:
        raise ValueError("the contrastive loss needs at least one pivot of at least one feature, "
                         f"got pivots {tuple(pivots.shape)}")
    if candidates.shape[1] < 2:
        raise ValueError("the contrastive loss needs at least 2 candidates, "
                         f"got m={candidates.shape[1]}")
    label = label.long()
    if label.device.type == "cpu":  # on another device this would make it wait
        lowest, highest = map(int, label.aminmax())
        if lowest < 0 or highest >= candidates.shape[1]:
            raise ValueError(f"labels name one of m={candidates.shape[1]} candidates, in [0, m), "
                             f"got {lowest}..{highest}")
    with float32_region(pivots.device):
        similarity = (_wide(pivots).unsqueeze(1) * _wide(candidates)).sum(-1)  # (B, m)
        if tied is not None:
            similarity = similarity.masked_fill(tied.to(similarity.device), -torch.inf)
        return F.cross_entropy(similarity, label.to(similarity.device))


def distillation_loss(teachers: Tensor, students: Tensor, heads: int = 1,
                      form: str = "paper") -> Tensor:
    """L_OOD: shifted positions should have the similarities of the trained ones (SeqPE, Eq. 10).

        P_ij = softmax_j(e_{p_i} . e_{p_j}),   S_ij = softmax_j(e_{p_i + z} . e_{p_j + z}),
        L_OOD = KL(SG(P) || S)

    The vectors are split into heads; KL is computed for each head and averaged (App. A.3).

    Args:
        teachers: e_{p_i} of positions within the training context, float (B, m, d); they get no
            gradient.
        students: e_{p_i + z}, float (B, m, d).
        heads: how many heads to split d into.
        form: "paper" sums KL over j and averages it over i, the heads and B; "published", as in
            the authors' code, adds KL(S || P) and averages both over all elements, j too, which
            divides them by m.

    Returns:
        Scalar, float32 (float64 of float64 vectors), nats.

    Raises:
        ValueError: another form; no vectors; shapes that differ; heads that do not divide d.

    >>> t = torch.tensor([[[1., 0.], [0., 1.]]])
    >>> distillation_loss(t, t).item()                                 # students that agree
    0.0
    >>> collapsed = torch.zeros(1, 2, 2)              # P = (.731, .269), S = (.5, .5)
    >>> round(distillation_loss(t, collapsed).item(), 4)
    0.1109
    """
    if form not in DISTILLATION_FORMS:
        raise ValueError(f"unknown distillation form {form!r}: "
                         f"choose from {', '.join(DISTILLATION_FORMS)}")
    if teachers.shape != students.shape or teachers.dim() != 3:
        raise ValueError("teachers and students must both be (B, m, d), "
                         f"got {tuple(teachers.shape)} and {tuple(students.shape)}")
    if teachers.numel() == 0:
        raise ValueError("no teachers to learn from: every size of (B, m, d) must be at least 1, "
                         f"got {tuple(teachers.shape)}")
    if heads < 1 or teachers.shape[-1] % heads:
        raise ValueError(f"{heads} heads do not divide vectors of size {teachers.shape[-1]}")
    with float32_region(teachers.device):
        teacher_log = _log_similarity(teachers.detach(), heads)  # (B, H, m, m)
        student_log = _log_similarity(students, heads)
        forward = F.kl_div(student_log, teacher_log, reduction="none", log_target=True)
        if form == "paper":
            return forward.sum(-1).mean()
        backward = F.kl_div(teacher_log, student_log, reduction="none", log_target=True)
        return forward.mean() + backward.mean()


def _log_similarity(vectors: Tensor, heads: int) -> Tensor:
    """(B, m, d) -> the logarithm of P or S, (B, H, m, m)."""
    split = _wide(vectors).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, H, m, d / H)
    return (split @ split.transpose(-1, -2)).log_softmax(-1)


def _wide(vectors: Tensor) -> Tensor:
    """Vectors in float32, or float64 if they are float64."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
