"""The two regularisers of the position space (SeqPE, Sec. 3.3 and 3.4), which know positions only as vectors,
and the cross entropy of the main task without its table of logits."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DISTILLATION_FORMS = ("paper", "published")


def contrastive_loss(pivots: Tensor, candidates: Tensor, label: Tensor) -> Tensor:
    """L_delta: the nearest candidate should be the most similar one (SeqPE, Eq. 9).

        L_delta = -log( exp(e_p . e_{p+}) / sum_{p' in C} exp(e_p . e_{p'}) )

    Args:
        pivots: e_p, float (B, d).
        candidates: the vectors of C, float (B, m, d).
        label: int64 (B,), which candidate is p+ = argmin delta(p, p').

    Returns:
        Scalar, nats, the mean over the B pivots. With vectors that know nothing it is log m.

    >>> e = torch.tensor([[1., 0.]])
    >>> others = torch.tensor([[[2., 0.], [0., 3.]]])                 # dot products 2 and 0
    >>> round(contrastive_loss(e, others, torch.tensor([0])).item(), 4)   # log(1 + exp(-2))
    0.1269
    """
    if candidates.dim() != 3 or pivots.shape != (candidates.shape[0], candidates.shape[2]):
        raise ValueError(f"pivots (B, d) and candidates (B, m, d) do not fit: {tuple(pivots.shape)} and {tuple(candidates.shape)}")
    if pivots.numel() == 0:
        raise ValueError(f"the contrastive loss needs at least one pivot of at least one feature, got pivots {tuple(pivots.shape)}")
    if candidates.shape[1] < 2:
        raise ValueError(f"the contrastive loss needs at least 2 candidates, got m={candidates.shape[1]}")
    similarity = torch.einsum("bd,bmd->bm", pivots, candidates)
    return F.cross_entropy(similarity.float(), label)


def distillation_loss(teachers: Tensor, students: Tensor, heads: int = 1, form: str = "paper") -> Tensor:
    """L_OOD: shifted positions should resemble one another as the trained ones do (SeqPE, Eq. 10).

        P_ij = softmax_j(e_{p_i} . e_{p_j}),   S_ij = softmax_j(e_{p_i + z} . e_{p_j + z}),   L_OOD = KL(SG(P) || S)

    computed for each head of the split vectors and averaged over them (App. A.3).

    Args:
        teachers: e_{p_i} of positions within the training context, float (B, m, d); no gradient flows into them.
        students: e_{p_i + z}, float (B, m, d).
        heads: how many heads to split d into.
        form: "paper" sums KL over the columns and averages over the m rows, heads and B;
            "published" is the authors' code: KL both ways, averaged over all elements, which
            makes it smaller by a factor of m (and larger by the second direction).

    Returns:
        Scalar, nats (a row).

    >>> t = torch.tensor([[[1., 0.], [0., 1.]]])
    >>> distillation_loss(t, t).item()                                 # students that agree
    0.0
    >>> collapsed = torch.zeros(1, 2, 2)                               # P = (.731, .269), S = (.5, .5)
    >>> round(distillation_loss(t, collapsed).item(), 4)
    0.1109
    """
    if form not in DISTILLATION_FORMS:
        raise ValueError(f"unknown distillation form {form!r}: choose from {', '.join(DISTILLATION_FORMS)}")
    if teachers.shape != students.shape or teachers.dim() != 3:
        raise ValueError(f"teachers and students must both be (B, m, d), got {tuple(teachers.shape)} and {tuple(students.shape)}")
    if teachers.numel() == 0:
        raise ValueError(f"no teachers to learn from: every size of (B, m, d) must be at least 1, got {tuple(teachers.shape)}")
    if heads < 1 or teachers.shape[-1] % heads:
        raise ValueError(f"{heads} heads do not divide vectors of size {teachers.shape[-1]}")
    teacher_log, student_log = _log_similarity(teachers.detach(), heads), _log_similarity(students, heads)
    forward = F.kl_div(student_log, teacher_log, reduction="none", log_target=True)  # (B, H, m, m)
    if form == "paper":
        return forward.sum(-1).mean()
    backward = F.kl_div(teacher_log, student_log, reduction="none", log_target=True)
    return forward.mean() + backward.mean()


def _log_similarity(vectors: Tensor, heads: int) -> Tensor:
    """(B, m, d) -> the logarithm of P or S, (B, H, m, m)."""
    split = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, H, m, d / H)
    return (split @ split.transpose(-1, -2)).float().log_softmax(-1)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, rows: int = 256) -> Tensor:
    """cross_entropy(hidden @ weight.T, targets), without ever holding all logits.

    At GPT-2's vocabulary the logits, their softmax and their gradient are most of a small batch's
    memory. Here they exist for ``rows`` tokens at a time, and both gradients are ready when the
    loss is.

    Args:
        hidden: float (N, d).
        weight: float (V, d), the output layer (GPT-2: the token embedding).
        targets: int64 (N,), values in [0, V).
        rows: tokens at a time.

    Returns:
        Scalar, nats, the mean over the N tokens.

    >>> hidden, weight = torch.tensor([[1., 0.]]), torch.tensor([[2., 0.], [0., 3.]])    # logits 2 and 0
    >>> round(linear_cross_entropy(hidden, weight, torch.tensor([0])).item(), 4)
    0.1269
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, rows)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, rows):
        grad_hidden, grad_weight, total = torch.empty_like(hidden), torch.zeros_like(weight), hidden.new_zeros(())
        for begin in range(0, len(hidden), rows):
            part, at = hidden[begin: begin + rows], targets[begin: begin + rows].unsqueeze(1)
            logits = part @ weight.T
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - logits.gather(1, at)).sum()
            error = logits.sub_(normaliser).exp_().scatter_add_(1, at, logits.new_full(at.shape, -1.0)).div_(len(hidden))  # d loss / d logits
            grad_hidden[begin: begin + rows] = error @ weight
            grad_weight.addmm_(error.T, part)
        ctx.gradients = grad_hidden, grad_weight
        return total / len(hidden)

    @staticmethod
    def backward(ctx, grad):
        if ctx.gradients is None:
            raise RuntimeError("linear_cross_entropy can go backward once: its gradients were handed over the first time")
        (grad_hidden, grad_weight), ctx.gradients = ctx.gradients, None
        return grad_hidden.mul_(grad), grad_weight.mul_(grad), None, None  # in place: here memory is at its peak
