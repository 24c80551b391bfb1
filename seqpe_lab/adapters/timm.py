"""A position encoding in timm's plain vision transformer. A patch stands at (row, column).

    >>> import timm, torch
    >>> from seqpe_lab.adapters.timm import install
    >>> from seqpe_lab.encodings import make_encoding
    >>> shape = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2)
    >>> vit = timm.create_model("vit_small_patch16_224", num_classes=3, **shape)
    >>> seqpe = make_encoding("seqpe", d_model=16, heads=2, layers=2, train_shape=(4, 4), dims=2,
    ...                       prefix=1, integration="mul", projection_bias=1.0)  # prefix: [CLS]
    >>> vit = install(vit, seqpe)
    >>> vit(torch.zeros(1, 3, 16, 16)).sum().backward()  # also trains the encoder
    >>> vit(torch.zeros(1, 3, 24, 40)).shape             # 6 x 10 patches
    torch.Size([1, 3])

The encoding becomes ``vit.position_encoding``: it moves, trains and is saved with the model. To
load a ``state_dict`` of such a model, first create the model and install an encoding made with the
same options. timm's own position table is removed; all other parameters keep their names.
"""
from __future__ import annotations

import torch
from torch import Tensor

from seqpe_lab.adapters import check_fit
from seqpe_lab.attention import prepare
from seqpe_lab.digits import grid
from seqpe_lab.encodings.base import PositionEncoding

try:
    from timm.layers import Attention, Format
    from timm.models.vision_transformer import VisionTransformer

    from seqpe_lab.models.vit import attention, check_plain
except ImportError as error:
    raise ImportError("timm is missing: pip install 'seqpe_lab[adapters]'") from error


NOT_RECOMPUTED = "timm does not recompute blocks with positions: leave gradient checkpointing off"


def install(vit: VisionTransformer, encoding: PositionEncoding) -> VisionTransformer:
    """Make ``encoding`` the only source of position of ``vit``, which is returned.

    From then on ``vit`` takes images of any size that the patch divides. A second call replaces the
    encoding. Raises ValueError where ``vit`` is not made of timm's plain patches, blocks and
    attention, or ``encoding`` was not made for its layers, heads and class token.
    """
    check_plain(vit, type(vit).__name__, PositionedViT, PositionedAttention)
    if vit.grad_checkpointing:
        raise ValueError(NOT_RECOMPUTED)
    attentions = [block.attn for block in vit.blocks]
    heads, d_head = attentions[0].num_heads, attentions[0].head_dim
    check_fit(encoding, grid(1, 3), (1, 3), d_model=vit.embed_dim, heads=heads, d_head=d_head,
              layers=len(attentions), prefix=vit.num_prefix_tokens)
    for layer, attn in enumerate(attentions):
        attn.__class__ = PositionedAttention
        attn.layer = layer
    vit.__class__ = PositionedViT
    vit.pos_embed = None
    vit.dynamic_img_size = True  # patches of any number come as (B, rows, columns, d_model):
    vit.patch_embed.strict_img_size = vit.patch_embed.flatten = False
    vit.patch_embed.output_fmt = Format.NHWC
    vit.position_encoding = encoding.to(vit.patch_embed.proj.weight.device)
    return vit


class PositionedViT(VisionTransformer):
    """timm's model, which passes ``attn_mask`` on to the attention of every block without using it.

    In its place this class passes the encoding and what ``prepare`` returned, so that no state is
    kept between calls.
    """

    def forward_features(self, x: Tensor, attn_mask=None, is_causal=False) -> Tensor:
        return super().forward_features(x, attn_mask=self._prepared(x, attn_mask, is_causal))

    def forward_intermediates(self, x: Tensor, *args, attn_mask=None, is_causal=False, **options):
        prepared = self._prepared(x, attn_mask, is_causal)
        return super().forward_intermediates(x, *args, attn_mask=prepared, **options)

    def _prepared(self, images: Tensor, attn_mask, is_causal: bool) -> tuple:
        if attn_mask is not None or is_causal:
            raise ValueError("with a position encoding patches attend to each other without a "
                             "mask: leave attn_mask and is_causal out")
        positions = grid(*self.patch_embed.dynamic_feat_size(images.shape[-2:]))
        encoding = self.position_encoding
        return encoding, prepare(encoding, positions, None, images.device)

    def _pos_embed(self, x: Tensor) -> Tensor:  # (B, rows, columns, d_model) -> (B, T, d_model)
        size, patches = tuple(x.shape[1:3]), x.flatten(1, 2)
        patches = self.position_encoding.embed(patches, grid(*size), size).to(x.dtype)
        extra = [token.expand(len(x), -1, -1)
                 for token in (self.cls_token, self.reg_token) if token is not None]
        return self.pos_drop(torch.cat([*extra, patches], dim=1))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise ValueError(NOT_RECOMPUTED)

    def no_weight_decay(self) -> set[str]:
        own = self.position_encoding.no_weight_decay()
        return super().no_weight_decay() | {f"position_encoding.{name}" for name in own}


class PositionedAttention(Attention):
    """timm's attention with positions in its queries and keys."""

    def forward(self, x: Tensor, attn_mask: tuple, is_causal: bool = False) -> Tensor:
        return attention(self, x, *attn_mask, self.layer)
