"""timm's vision transformer with any position encoding.

The model is timm's own, made without position embeddings; only the loop over its blocks is written
here, so that the encoding can transform queries and keys before plain attention.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Attention as TimmAttention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from seqpe_lab.attention import positioned_attention, prepare
from seqpe_lab.digits import check_context, grid
from seqpe_lab.encodings import PositionEncoding, make_encoding


@dataclass
class ViTConfig:
    """Shape of the model; the defaults are ViT-S/16 with SeqPE as in the paper (Sec. 4.3)."""
    model: str = "vit_small_patch16_224"  # any timm name of its VisionTransformer
    image_size: int | tuple[int, int] = 224  # pixels a side in training, or (height, width)
    classes: int = 1_000
    max_position: int = 100  # L_max of rows and of columns, exclusive; larger grids raise an error
    encoding: str = "seqpe"
    encoding_options: dict = field(default_factory=dict)
    timm_options: dict = field(default_factory=dict)  # patch_size, in_chans, embed_dim, depth, ...


class ViT(nn.Module):
    """A timm ViT whose only source of position is ``config.encoding``; patches at (row, column).

    Raises:
        ValueError: a model that timm does not have or that is not made of its plain patches, blocks
            and attention; an image size that is no such size or that the patch does not divide.

    >>> small = dict(patch_size=4, embed_dim=8, depth=1, num_heads=2)
    >>> model = ViT(ViTConfig(image_size=8, classes=3, encoding="rope", timm_options=small))
    >>> model(torch.zeros(1, 3, 8, 16)).shape            # trained on 2 x 2 patches, given 2 x 4
    torch.Size([1, 3])
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        size = sides_of(config.image_size)
        try:
            self.vit = timm.create_model(config.model, pretrained=False,
                                         num_classes=config.classes, img_size=size,
                                         pos_embed="none", dynamic_img_size=True,
                                         **config.timm_options)
        except (RuntimeError, TypeError, AssertionError) as error:  # an unknown name, bad sizes
            heads, width = (config.timm_options.get(o) for o in ("num_heads", "embed_dim"))
            sizes = f" ({heads} heads, embed_dim {width})" if heads and width else ""
            raise ValueError(f"timm cannot make {config.model!r}{sizes} as a plain vision "
                             f"transformer such as vit_small_patch16_224: {error}") from error
        check_plain(self.vit, config.model)
        if len(set(self.vit.patch_embed.patch_size)) > 1:
            raise ValueError("patches must be square, "
                             f"got {tuple(self.vit.patch_embed.patch_size)}")
        self.patch = self.vit.patch_embed.patch_size[0]
        self.channels = self.vit.patch_embed.proj.in_channels
        self.train_grid = _grid(size, self.patch)
        self.heads = self.vit.blocks[0].attn.num_heads
        self.encoding = make_encoding(config.encoding, d_model=self.vit.embed_dim,
                                      heads=self.heads, layers=len(self.vit.blocks),
                                      train_shape=self.train_grid,
                                      prefix=self.vit.num_prefix_tokens,
                                      **config.encoding_options)

    def forward(self, images: Tensor, *, start: tuple[int, int] = (0, 0),
                positions: Tensor | None = None, vectors: Any = None) -> Tensor:
        """Class logits.

        Args:
            images: float (B, channels, height, width), both divisible by the patch; any size,
                square or not.
            start: (row, column) of the first patch.
            positions: integers (N, 2) or (B, N, 2), of the N patches row by row, in place of start.
            vectors: position vectors that match ``positions``, if already encoded, as
                :meth:`SeqPE.prepare <seqpe_lab.encodings.SeqPE.prepare>` takes them (SeqPE).

        Returns:
            float (B, classes).

        Raises:
            TypeError: positions that are not integers.
            ValueError: images of another shape, a size that the patch does not divide, wrong
                channels, a start without two coordinates, positions that are negative, of another
                shape or beyond ``max_position``.
        """
        rows, columns = self.grid_of(images)
        if not isinstance(start, (tuple, list)) or len(start) != 2:
            raise ValueError(f"start is the (row, column) of the first patch, got {start!r}")
        if positions is None:
            positions = grid(rows, columns) + torch.tensor(start)
        elif tuple(start) != (0, 0):
            raise ValueError(f"start={start} has no effect beside `positions`: leave one out")
        positions = check_context(positions, len(images), rows * columns, 2,
                                  self.config.max_position)
        if isinstance(vectors, Tensor) and vectors.shape[-2] != rows * columns:
            raise ValueError(f"position vectors {tuple(vectors.shape)} do not fit "
                             f"{rows * columns} patches")
        x = self.vit.patch_embed(images).flatten(1, 2)  # (B, N, d_model)
        x = self.encoding.embed(x, positions, (rows, columns))
        return self.classify(x, prepare(self.encoding, positions, vectors, x.device))

    def classify(self, x: Tensor, prepared: Any) -> Tensor:
        """Class logits from embedded patches, (B, N, d_model) -> (B, classes), without checks.

        Args:
            prepared: what the encoding's ``prepare`` returned.
        """
        vit = self.vit
        extra = [token.expand(x.shape[0], -1, -1) for token in (vit.cls_token, vit.reg_token)
                 if token is not None]
        x = vit.norm_pre(vit.pos_drop(torch.cat([*extra, x], dim=1)))
        return vit.forward_head(self.run_layers(x, prepared))

    def run_layers(self, x: Tensor, prepared: Any) -> Tensor:
        """All blocks and the final norm, without the checks: what torch.compile compiles.

        Args:
            x: float (B, T, d_model), embedded patches behind the prefix tokens.
            prepared: what :func:`~seqpe_lab.attention.prepare` returned.

        Returns:
            (B, T, d_model).
        """
        for layer, block in enumerate(self.vit.blocks):
            attended = attention(block.attn, block.norm1(x), self.encoding, prepared, layer)
            x = x + block.drop_path1(block.ls1(attended))
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return self.vit.norm(x)

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay: as in timm, vectors of tokens and of positions."""
        return {"vit.cls_token", "vit.reg_token",
                *(f"encoding.{name}" for name in self.encoding.no_weight_decay())}

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches; ValueError for images that do not fit this model."""
        if images.dim() != 4 or not images.dtype.is_floating_point or images.numel() == 0:
            raise ValueError("images must be a float tensor (B, channels, height, width), "
                             f"got shape {tuple(images.shape)}, {images.dtype}")
        if images.shape[1] != self.channels:
            raise ValueError(f"images have {images.shape[1]} channels but the model takes "
                             f"{self.channels}: convert them, or set in_chans in timm_options")
        return _grid(images.shape[2:], self.patch)


def attention(attn: TimmAttention, x: Tensor, encoding: PositionEncoding, prepared: Any,
              layer: int) -> Tensor:
    """timm's attention with positions in queries and keys: (B, T, d_model) -> the same."""
    q, k, v = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    dropout = attn.attn_drop.p if attn.training else 0.0
    out, _ = positioned_attention(encoding, prepared, layer, x, attn.q_norm(q), attn.k_norm(k), v,
                                  dropout=dropout, causal=False)  # (B, H, T, d_head)
    return attn.proj_drop(attn.proj(attn.norm(out.transpose(1, 2).flatten(-2))))


def check_plain(vit: nn.Module, name: str, *also: type) -> None:
    """Refuse a model of timm whose attention or patches an encoding could not reach.

    Args:
        name: of the model, for the message.
        also: classes of models and of attention that are allowed beside timm's own.

    Raises:
        ValueError: other patches, blocks or attention than timm's plain ones; dropped patches.
    """
    plain = type(vit) in (VisionTransformer, *also) and type(vit.patch_embed) is PatchEmbed
    if not plain or not all(type(block) is Block and type(block.attn) in (TimmAttention, *also)
                            and getattr(block.attn, "gate", None) is None for block in vit.blocks):
        raise ValueError(f"{name} is not made of timm's plain patches and blocks, without gates in "
                         "their attention: choose a VisionTransformer such as "
                         "vit_small_patch16_224")
    if not isinstance(vit.patch_drop, nn.Identity):
        raise ValueError("patch_drop_rate drops patches with their positions: leave it at 0")


def sides_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image, from one number for both or from the two."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError("image_size is a whole number of pixels a side, or (height, width), "
                         f"got {size!r}")
    return sides


def _grid(size: Sequence[int], patch: int) -> tuple[int, int]:
    """(rows, columns) of an image's patches; ValueError if they do not divide it."""
    height, width = size
    if height < 1 or width < 1 or height % patch or width % patch:
        rows, columns = (max(1, round(side / patch)) * patch for side in size)
        raise ValueError(f"an image of {height} x {width} pixels does not divide into patches of "
                         f"{patch}: resize it to {rows} x {columns}, say")
    return height // patch, width // patch
