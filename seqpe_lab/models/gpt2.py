"""GPT-2 with any position encoding. Shapes and parameter names are GPT-2's, so its weights load.

Attention is always plain scaled-dot-product attention on the queries and keys that the encoding
returns, in torch's fused kernels: memory grows linearly with the context, for every encoding.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.attention import Cached, positioned_attention, prepare
from seqpe_lab.digits import check_context, is_integer
from seqpe_lab.encodings import PositionEncoding, make_encoding
from seqpe_lab.models.output_layer import logits


@dataclass
class GPT2Config:
    """Shape of the model; the defaults are GPT-2 small with SeqPE as in the paper (Sec. 4.1)."""
    vocab_size: int = 50_257
    d_model: int = 768
    layers: int = 12
    heads: int = 12
    train_len: int = 512
    max_position: int = 20_000  # exclusive; longer contexts raise an error
    dropout: float = 0.1
    encoding: str = "seqpe"
    encoding_options: dict = field(default_factory=dict)


class Conv1D(nn.Module):
    """GPT-2's linear layer: y = x W + b with W stored (in, out), the transpose of nn.Linear's."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_in, d_out).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)


class Attention(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.c_attn = Conv1D(config.d_model, 3 * config.d_model)
        self.c_proj = Conv1D(config.d_model, config.d_model)

    def forward(self, x: Tensor, encoding: PositionEncoding, prepared: Any, layer: int,
                past: Cached | None) -> tuple[Tensor, Cached]:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in self.c_attn(x).chunk(3, -1))  # (B, H, L, d_head)
        out, present = positioned_attention(encoding, prepared, layer, x, q, k, v, past,
                                            self.dropout if self.training else 0.0)
        out = self.c_proj(out.transpose(1, 2).flatten(-2))
        return F.dropout(out, self.dropout, self.training), present


class MLP(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.dropout = config.dropout
        self.c_fc = Conv1D(config.d_model, 4 * config.d_model)
        self.c_proj = Conv1D(4 * config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return F.dropout(x, self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.d_model)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, encoding: PositionEncoding, prepared: Any, layer: int,
                past: Cached | None) -> tuple[Tensor, Cached]:
        attended, present = self.attn(self.ln_1(x), encoding, prepared, layer, past)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), present


class GPT2(nn.Module):
    """GPT-2 (Radford et al. 2019) whose only source of position is ``config.encoding``.

    >>> config = GPT2Config(vocab_size=10, d_model=8, layers=1, heads=2, encoding="rope")
    >>> model = GPT2(config)
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 10])
    """

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.config = config
        self.encoding = make_encoding(config.encoding, d_model=config.d_model, heads=config.heads,
                                      layers=config.layers, train_shape=config.train_len,
                                      **config.encoding_options)
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.vocab_size, config.d_model),
            "h": nn.ModuleList(Block(config) for _ in range(config.layers)),
            "ln_f": nn.LayerNorm(config.d_model),
        })
        nn.init.normal_(self.transformer.wte.weight, std=0.02)
        for block in self.transformer.h:  # GPT-2: residual projections shrink with depth
            for conv in (block.attn.c_proj, block.mlp.c_proj):
                nn.init.normal_(conv.weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, tokens: Tensor, **options) -> Tensor:
        """Logits of the next token after every token.

        They are the :meth:`hidden_states` times the token embeddings (GPT-2 ties the two).

        Args:
            tokens, options: as in :meth:`hidden_states`.

        Returns:
            float (B, L, vocab_size).
        """
        return logits(self.hidden_states(tokens, **options), self.transformer.wte.weight)

    def hidden_states(self, tokens: Tensor, *, start: int = 0, positions: Tensor | None = None,
                      vectors: Any = None, cache: list[Cached] | None = None,
                      context_len: int | None = None) -> Tensor:
        """The hidden state of every token before the output layer.

        Args:
            tokens: integers (B, L), values in [0, vocab_size).
            start: position of the first token (of the cache, if there is one).
            positions: integers (L, 1) or (B, L, 1) in place of start, start+1, ...
            vectors: position vectors that match ``positions``, if already encoded, as
                :meth:`SeqPE.prepare <seqpe_lab.encodings.SeqPE.prepare>` takes them.
            cache: an empty list, which is filled with the keys and values of each layer; pass it
                again with the tokens that follow.
            context_len: final length of the context, to which a learned table is interpolated; by
                default up to the last position given.

        Returns:
            float (B, L, d_model).

        Raises:
            TypeError: positions that are not integers.
            ValueError: no tokens, or tokens beyond the vocabulary (checked on the CPU only);
                positions that are negative, of another shape, or beyond ``max_position``.
        """
        tokens = self._checked(tokens)
        past = self._cached(cache, tokens) if cache else 0
        if positions is None:
            positions = torch.arange(start + past, start + past + tokens.shape[1]).unsqueeze(-1)
        elif start:
            raise ValueError(f"start={start} has no effect beside `positions`: leave one out")
        positions = check_context(positions, *tokens.shape, 1, self.config.max_position)
        end = int(positions.max()) + 1
        x = self.transformer.wte(tokens)
        x = self.encoding.embed(x, positions, max(end, context_len or 0))
        x = F.dropout(x, self.config.dropout, self.training)
        prepared = prepare(self.encoding, positions, vectors, x.device)
        return self.run_layers(x, prepared, cache)

    def run_layers(self, x: Tensor, prepared: Any, cache: list[Cached] | None = None) -> Tensor:
        """All layers and the final LayerNorm, without the checks: what torch.compile compiles.

        Args:
            x: float (B, L, d_model), the embedded tokens.
            prepared: what :func:`~seqpe_lab.attention.prepare` returned.
            cache: as in :meth:`hidden_states`.

        Returns:
            (B, L, d_model).
        """
        presents = []
        for layer, block in enumerate(self.transformer.h):
            x, present = block(x, self.encoding, prepared, layer, cache[layer] if cache else None)
            if cache is not None:
                presents.append(present)
        if cache is not None:
            cache[:] = presents
        return self.transformer.ln_f(x)

    @torch.no_grad()
    def generate(self, tokens: Tensor, new_tokens: int, *, temperature: float = 0.0,
                 top_k: int | None = None, generator: torch.Generator | None = None,
                 start: int = 0, use_cache: bool = True, cache: list[Cached] | None = None,
                 context_len: int | None = None) -> Tensor:
        """Continue each sequence by ``new_tokens`` tokens.

        Args:
            tokens: integers (B, L), L >= 1.
            temperature: 0 takes the likeliest token (greedy); above 0 samples.
            top_k: sample among the k likeliest only.
            generator: of the samples.
            start: as in :meth:`hidden_states`.
            use_cache: False computes the whole context again for every token (for comparison).
            cache: keys and values of the tokens before ``tokens``; new ones are appended.
            context_len: as in :meth:`hidden_states`; by default prompt and new tokens together.

        Returns:
            int64 (B, L + new_tokens).

        Raises:
            ValueError: no prompt or no new tokens; a temperature below 0 or a top_k below 1; a
                cache with ``use_cache=False``; tokens that would reach ``max_position``.
        """
        tokens = self._checked(tokens)
        if new_tokens < 1:
            raise ValueError(f"generation needs at least one new token, got {new_tokens}")
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}; None samples from all tokens")
        if cache and not use_cache:
            raise ValueError("use_cache=False needs the whole context as tokens: leave `cache` "
                             "out, or use it")
        past = self._cached(cache, tokens) if cache else 0
        total = start + past + tokens.shape[1] + new_tokens
        if total > self.config.max_position:
            raise ValueError(f"prompt and new tokens reach position {total - 1} but max_position="
                             f"{self.config.max_position} (exclusive)")
        was_training = self.training
        self.eval()
        if use_cache and cache is None:
            cache = []
        try:
            # no weight changes meanwhile, so the position vectors of all steps are encoded at once
            ahead = self.encoding.encode(torch.arange(start + past, total).unsqueeze(-1))
            first = 0
            for _ in range(new_tokens):
                last = tokens.shape[1]
                scores = self(tokens[:, first:], start=start, cache=cache,
                              vectors=None if ahead is None else ahead[first:last],
                              context_len=context_len or total)[:, -1]
                tokens = torch.cat([tokens, _choose(scores, temperature, top_k, generator)], dim=1)
                first = last if use_cache else 0
        finally:  # also after an error
            self.train(was_training)
        return tokens

    def _checked(self, tokens: Tensor) -> Tensor:
        """Tokens as int64, or an error that says what is wrong with them."""
        if not isinstance(tokens, Tensor):
            raise TypeError(f"tokens must be an integer tensor (B, L), got {type(tokens).__name__}:"
                            " use torch.tensor([[7, 2]])")
        if tokens.dim() != 2 or not is_integer(tokens) or tokens.numel() == 0:
            raise ValueError("tokens must be whole numbers (B, L), a prompt of at least one, "
                             f"got shape {tuple(tokens.shape)}, {tokens.dtype}")
        tokens = tokens.long()
        # on another device this would make it wait, and under torch.compile break the graph
        if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            lowest, highest = int(tokens.min()), int(tokens.max())
            if lowest < 0 or highest >= self.config.vocab_size:
                raise ValueError(f"token {lowest if lowest < 0 else highest} is outside the "
                                 f"vocabulary of {self.config.vocab_size}: the tokenizer and the "
                                 "model do not belong together")
        return tokens

    def _cached(self, cache: list[Cached], tokens: Tensor) -> int:
        """How many tokens a cache holds, if it is one of this model and these sequences."""
        if len(cache) != len(self.transformer.h) or len(cache[0][0]) != len(tokens):
            raise ValueError(f"a cache of {len(cache)} layers and {len(cache[0][0])} sequences "
                             f"does not fit {len(self.transformer.h)} layers and {len(tokens)} "
                             "sequences: start with an empty list")
        return cache[0][0].shape[-2]


def _choose(logits: Tensor, temperature: float, top_k: int | None,
            generator: torch.Generator | None) -> Tensor:
    """The next token of each sequence: (B, vocab_size) -> int64 (B, 1)."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    # the likeliest at 0: small temperatures then lead to -inf, which softmax takes, never to +inf
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)
