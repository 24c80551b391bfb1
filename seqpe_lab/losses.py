"""The two regularizers of the position space (SeqPE, Sec. 3.3 and 3.4). They see only vectors.

Both compute in float32, whatever autocast says: in a trained encoder e.e' is about 450, where
bfloat16 cannot tell neighbouring positions apart.
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
        label: int64 (B,), which candidate is p+ = argmin delta(p, p').
        tied: bool (B, m), further candidates that are as near as p+; they are left out of C, so
            that none of the two is pushed away from p.

    Returns:
        Scalar, float32, nats, the mean over the B pivots. Where all vectors are alike it is log m.

    Raises:
        ValueError: shapes that do not fit; no pivot; fewer than two candidates.

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
    with float32_region(pivots.device):
        similarity = (_wide(pivots).unsqueeze(1) * _wide(candidates)).sum(-1)  # (B, m)
        if tied is not None:
            similarity = similarity.masked_fill(tied.to(similarity.device), -torch.inf)
        return F.cross_entropy(similarity, label.to(similarity.device))


def distillation_loss(teachers: Tensor, students: Tensor, heads: int = 1,
                      form: str = "paper") -> Tensor:
    """L_OOD: shifted positions should resemble one another as the trained ones do (SeqPE, Eq. 10).

        P_ij = softmax_j(e_{p_i} . e_{p_j}),   S_ij = softmax_j(e_{p_i + z} . e_{p_j + z}),
        L_OOD = KL(SG(P) || S)

    computed for each head of the split vectors and averaged over them (App. A.3).

    Args:
        teachers: e_{p_i} of positions within the training context, float (B, m, d); no gradient
            flows into them.
        students: e_{p_i + z}, float (B, m, d).
        heads: how many heads to split d into.
        form: "paper" sums KL over the columns and averages over the m rows, the heads and B;
            "published" is the authors' code: KL both ways, averaged over all elements, which
            makes it smaller by a factor of m (and larger by the second direction).

    Returns:
        Scalar, float32, nats (per row).

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
    """In float32 at least."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
