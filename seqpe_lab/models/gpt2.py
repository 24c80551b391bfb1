"""GPT-2 with any position encoding. Shapes and parameter names are GPT-2's, so its weights load.

Attention is plain scaled-dot-product attention on the queries and keys that the encoding returns,
in torch's fused kernels, or in blocks of queries where an encoding adds a bias to their scores
(:mod:`seqpe_lab.attention`): memory grows linearly with the context either way.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqpe_lab.attention import Cached, positioned_attention, prepare
from seqpe_lab.devices import moved
from seqpe_lab.digits import check_context, is_integer
from seqpe_lab.encodings import PositionEncoding, make_encoding
from seqpe_lab.models import generation
from seqpe_lab.models.output_layer import logits
from seqpe_lab.models.padding import real_positions, real_tokens


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
    gelu: str = "tanh"  # GPT-2's approximation; "none" is the exact function, as in nanoGPT


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
                past: Cached | None, mask: Tensor | None = None) -> tuple[Tensor, Cached]:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in self.c_attn(x).chunk(3, -1))  # (B, H, L, d_head)
        out, present = positioned_attention(encoding, prepared, layer, x, q, k, v, past,
                                            self.dropout if self.training else 0.0, mask=mask)
        out = self.c_proj(out.transpose(1, 2).flatten(-2))
        return F.dropout(out, self.dropout, self.training), present


class MLP(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.dropout, self.gelu = config.dropout, config.gelu
        self.c_fc = Conv1D(config.d_model, 4 * config.d_model)
        self.c_proj = Conv1D(4 * config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_proj(F.gelu(self.c_fc(x), approximate=self.gelu))
        return F.dropout(x, self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.d_model)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, encoding: PositionEncoding, prepared: Any, layer: int,
                past: Cached | None, mask: Tensor | None = None) -> tuple[Tensor, Cached]:
        attended, present = self.attn(self.ln_1(x), encoding, prepared, layer, past, mask)
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
        if config.gelu not in ("tanh", "none"):
            raise ValueError(f"gelu={config.gelu!r} is no form of GELU: choose from tanh, none")
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
        return self.predict(self.hidden_states(tokens, **options))

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits from hidden states: (..., d_model) -> (..., vocab_size)."""
        return logits(hidden, self.transformer.wte.weight)

    def hidden_states(self, tokens: Tensor, *, attention_mask: Tensor | None = None,
                      start: int = 0, positions: Tensor | None = None, vectors: Any = None,
                      cache: list[Cached] | None = None,
                      context_len: int | Sequence[int] | None = None) -> Tensor:
        """The hidden state of every token before the output layer.

        Args:
            tokens: integers (B, L), values in [0, vocab_size).
            attention_mask: 1 for a real token, 0 for padding, (B, L), after a cache (B, all L so
                far). Each sequence's positions then count its real tokens from ``start`` on, and
                their hidden states are those of the sequence alone; those of padding mean nothing.
            start: position of the first token (of the cache, if there is one).
            positions: integers (L, 1) or (B, L, 1) in place of start, start+1, ...
            vectors: position vectors that match ``positions``, if already encoded, as
                :meth:`SeqPE.prepare <seqpe_lab.encodings.SeqPE.prepare>` takes them.
            cache: an empty list, which is filled with the keys and values of each layer; pass it
                again with the tokens that follow.
            context_len: final length of the context, or of each sequence's, to which a learned
                table is interpolated; by default up to the last position given.

        Returns:
            float (B, L, d_model).

        Raises:
            TypeError: positions that are not integers, a mask that is neither bool nor integers.
            ValueError: no tokens, or tokens beyond the vocabulary (checked on the CPU only); a mask
                of another shape or without any real token; positions that are negative, of another
                shape, or beyond ``max_position``.
        """
        tokens = self.checked_tokens(tokens)
        batch, length = tokens.shape
        past = self.cached_tokens(cache, tokens)
        real = real_tokens(attention_mask, batch, past + length)
        if positions is not None and start:
            raise ValueError(f"start={start} has no effect beside `positions`: leave one out")
        if positions is None and real is not None:
            positions = real_positions(real, start)[:, past:]
        elif positions is None:
            positions = torch.arange(start + past, start + past + length).unsqueeze(-1)
        positions = check_context(positions, batch, length, 1, self.config.max_position)
        x = self._embedded(tokens, positions, real is not None, context_len)
        x = F.dropout(x, self.config.dropout, self.training)
        prepared = prepare(self.encoding, positions, vectors, x.device)
        mask = None if real is None else moved([real[:, None, None]], x.device)[0]
        return self.run_layers(x, prepared, cache, mask)

    def _embedded(self, tokens: Tensor, positions: Tensor, padded: bool,
                  context_len: int | Sequence[int] | None) -> Tensor:
        """The embedded tokens; a table is stretched to the context of each sequence, if padded."""
        x = self.transformer.wte(tokens)
        each = positions.expand(len(x), -1, -1)  # (B, L, 1)
        last = each.amax((1, 2)) if padded else positions.amax().expand(len(x))
        lengths = context_len if isinstance(context_len, Sequence) else [context_len or 0] * len(x)
        contexts = [max(end + 1, given) for end, given in zip(last.tolist(), lengths)]
        if len(set(contexts)) == 1:
            return self.encoding.embed(x, positions, contexts[0])
        return self.encoding.embed_each(x, positions, contexts)

    def run_layers(self, x: Tensor, prepared: Any, cache: list[Cached] | None = None,
                   mask: Tensor | None = None) -> Tensor:
        """All layers and the final LayerNorm, without the checks: what torch.compile compiles.

        Args:
            x: float (B, L, d_model), the embedded tokens.
            prepared: what :func:`~seqpe_lab.attention.prepare` returned.
            cache: as in :meth:`hidden_states`.
            mask: bool (B, 1, 1, context), False for padding; None without padding.

        Returns:
            (B, L, d_model).
        """
        presents = []
        for layer, block in enumerate(self.transformer.h):
            past = cache[layer] if cache else None
            x, present = block(x, self.encoding, prepared, layer, past, mask)
            if cache is not None:
                presents.append(present)
        if cache is not None:
            cache[:] = presents
        return self.transformer.ln_f(x)

    generate = generation.generate

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay: those that the encoding names."""
        return {f"encoding.{name}" for name in self.encoding.no_weight_decay()}

    def checked_tokens(self, tokens: Tensor) -> Tensor:
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

    def cached_tokens(self, cache: list[Cached] | None, tokens: Tensor) -> int:
        """How many tokens a cache holds, if it is one of this model and these sequences."""
        if not cache:
            return 0
        if len(cache) != len(self.transformer.h) or len(cache[0][0]) != len(tokens):
            raise ValueError(f"a cache of {len(cache)} layers and {len(cache[0][0])} sequences "
                             f"does not fit {len(self.transformer.h)} layers and {len(tokens)} "
                             "sequences: start with an empty list")
        return cache[0][0].shape[-2]
