"""Generate text with a GPT-2: greedily or by sampling, for prompts of one or of several lengths."""
from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from seqpe_lab.models.padding import real_positions, real_tokens

if TYPE_CHECKING:
    from seqpe_lab.models.gpt2 import GPT2, Cached


@torch.no_grad()
def generate(model: GPT2, tokens: Tensor, new_tokens: int, *,
             attention_mask: Tensor | None = None, temperature: float = 0.0,
             top_k: int | None = None, top_p: float | None = None, eos: int | None = None,
             generator: torch.Generator | None = None, start: int = 0, use_cache: bool = True,
             cache: list[Cached] | None = None, context_len: int | None = None) -> Tensor:
    """Continue each sequence by up to ``new_tokens`` tokens.

    Args:
        tokens: integers (B, L), L >= 1.
        attention_mask: as in :meth:`~seqpe_lab.models.gpt2.GPT2.hidden_states`, for prompts of
            different lengths, padded on the left or on the right. Each is continued as it would be
            alone.
        temperature: 0 takes the likeliest token (greedy); above 0 samples.
        top_k: sample among the k likeliest only.
        top_p: sample among the likeliest only, as few as have this probability together (Holtzman
            et al. 2020); after ``top_k``.
        eos: a sequence ends with this token, and is filled up with it; generation stops when all
            have ended, which a GPU has to be asked after every token.
        generator: of the samples.
        start: position of the first token.
        use_cache: False computes the whole context again for every token (for comparison).
        cache: keys and values of the tokens before ``tokens``; new ones are appended.
        context_len: as in :meth:`~seqpe_lab.models.gpt2.GPT2.hidden_states`; by default a prompt
            and its new tokens together.

    Returns:
        int64 (B, L + N), the prompts as given and behind them N <= new_tokens new tokens.

    Raises:
        TypeError, ValueError: tokens or a mask that do not fit, as in
            :meth:`~seqpe_lab.models.gpt2.GPT2.hidden_states`; no new tokens; a temperature below
            0, a top_k below 1, a top_p outside (0, 1], or one of these at temperature 0; an eos
            beyond the vocabulary; a cache with ``use_cache=False``; tokens that would reach
            ``max_position``.
    """
    tokens = model.checked_tokens(tokens)
    _check_options(new_tokens, temperature, top_k, top_p, eos)
    if eos is not None and not 0 <= eos < model.config.vocab_size:
        raise ValueError(f"eos={eos} is outside the vocabulary of {model.config.vocab_size}")
    if cache and not use_cache:
        raise ValueError("use_cache=False needs the whole context as tokens: leave `cache` "
                         "out, or use it")
    past, (batch, prompt) = model.cached_tokens(cache, tokens), tokens.shape
    real = real_tokens(attention_mask, batch, past + prompt)
    lengths = [past + prompt] * batch if real is None else real.sum(1).tolist()
    if real is not None and not real[:, past:].any(1).all():
        raise ValueError("a sequence has no real token in its prompt: generation continues the "
                         "last real one")
    total = start + max(lengths) + new_tokens
    if total > model.config.max_position:
        raise ValueError(f"prompt and new tokens reach position {total - 1} but max_position="
                         f"{model.config.max_position} (exclusive)")
    contexts = [context_len or start + length + new_tokens for length in lengths]
    was_training = model.training
    model.eval()
    if use_cache and cache is None:
        cache = []
    try:
        # no weight changes meanwhile, so the position vectors of all steps are encoded at once
        begin = past if real is None else 0
        ahead = model.encoding.encode(torch.arange(start + begin, total).unsqueeze(-1))
        ended = torch.zeros(batch, dtype=torch.bool, device=tokens.device)
        first = 0
        for _ in range(new_tokens):
            places: slice | Tensor = slice(first, tokens.shape[1])
            if real is not None:
                places = real_positions(real)[:, past + first:, 0]
            hidden = model.hidden_states(
                tokens[:, first:], start=start, cache=cache, attention_mask=real,
                vectors=None if ahead is None else ahead[places], context_len=contexts)
            if real is not None and tokens.shape[1] == prompt:  # padding may follow a prompt
                last = (real[:, past:] * torch.arange(1, prompt + 1)).argmax(1)
                hidden = hidden[torch.arange(batch), last].unsqueeze(1)
            scores = model.predict(hidden[:, -1])
            chosen = choose(scores, temperature, top_k, top_p, generator)
            if eos is not None:
                chosen = chosen.masked_fill(ended, eos)
                ended |= chosen == eos
            tokens = torch.cat([tokens, chosen.unsqueeze(1)], 1)
            if eos is not None and ended.all():
                break
            if real is not None:
                real = F.pad(real, (0, 1), value=True)
            first = tokens.shape[1] - 1 if use_cache else 0
    finally:  # also after an error
        model.train(was_training)
    return tokens


def choose(scores: Tensor, temperature: float = 0.0, top_k: int | None = None,
           top_p: float | None = None, generator: torch.Generator | None = None) -> Tensor:
    """The next token of each sequence: logits (B, vocab_size) -> int64 (B,).

    >>> choose(torch.tensor([[0., 3., 1.], [2., 0., 0.]]))
    tensor([1, 0])
    """
    if temperature == 0:
        return scores.argmax(-1)
    # the likeliest at 0: small temperatures then lead to -inf, which softmax takes, never to +inf
    scores = (scores - scores.amax(-1, keepdim=True)) / temperature
    if top_k is not None:
        least = scores.topk(min(top_k, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    p = scores.softmax(-1)
    if top_p is not None:
        ordered, token = p.sort(descending=True)
        enough = ordered.cumsum(-1) - ordered >= top_p  # the likelier ones have top_p already
        p = torch.zeros_like(p).scatter(1, token, ordered.masked_fill(enough, 0))
    return torch.multinomial(p, 1, generator=generator).squeeze(1)


def _check_options(new_tokens: int, temperature: float, top_k: int | None,
                   top_p: float | None, eos: int | None) -> None:
    for name, value in (("new_tokens", new_tokens), ("top_k", top_k), ("eos", eos)):
        if value is not None and not isinstance(value, Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
    if new_tokens < 1:
        raise ValueError(f"generation needs at least one new token, got {new_tokens}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}; None samples from all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}; None samples from all tokens")
    if temperature == 0 and (top_k, top_p) != (None, None):
        raise ValueError("top_k and top_p have no effect at temperature 0, which takes the "
                         "likeliest token: raise the temperature or leave them out")
