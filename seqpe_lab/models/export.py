"""A model for inference with its table of positions, which torch.export and ONNX can take.

An encoding computes what depends on positions in Python, from their values. Here that is done once
for the longest text or for one image size, and the results become buffers of the model.

    program = export(model, 1_024)              # a torch.export.ExportedProgram
    torch.onnx.export(program).save("model.onnx")  # needs onnx and onnxscript
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from seqpe_lab.attention import prepare
from seqpe_lab.devices import device_of
from seqpe_lab.digits import check_context, grid
from seqpe_lab.models.gpt2 import GPT2


class InferenceModel(nn.Module):
    """A GPT-2 or a ViT in evaluation mode, from position 0, without checks of its input.

    It shares the model's weights, and keeps the positions of today: make a new one after training.

    Args:
        model: in evaluation mode.
        size: of a GPT-2 the longest text, tokens; of a ViT the image, pixels a side or (height,
            width).

    Raises:
        ValueError: a model in training mode; a size that the model does not take; an encoding that
            does more to embeddings than to add a vector.

    >>> from seqpe_lab.models.gpt2 import GPT2Config
    >>> model = GPT2(GPT2Config(vocab_size=10, d_model=8, layers=1, heads=2)).eval()
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> torch.allclose(InferenceModel(model, 100)(tokens), model(tokens), atol=1e-5)
    True
    """

    def __init__(self, model: nn.Module, size: int | tuple[int, int]):
        super().__init__()
        if model.training:
            raise ValueError("the model is in training mode: call model.eval() first")
        self.model, self.is_text = model, isinstance(model, GPT2)
        if self.is_text:
            positions, context, width = grid(size), size, model.config.d_model
        else:
            context = model.grid_of(_empty_images(model, size, device="meta"))
            positions, width = grid(*context), model.vit.embed_dim
        count, dims = positions.shape
        check_context(positions, 1, count, dims, model.config.max_position)
        device = device_of(model)
        with torch.no_grad():
            x = torch.zeros(2, count, width, device=device)
            x[1] = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
            added, other = model.encoding.embed(x, positions, context) - x
            if not torch.allclose(added, other, atol=1e-4):
                raise ValueError(f"{type(model.encoding).__name__} does more to embeddings than to "
                                 "add a vector: it cannot be tabulated")
            prepared = prepare(model.encoding, positions, None, device)
            more = torch.cat([positions, positions[:1]])
            longer = prepare(model.encoding, more, None, device)
        self.register_buffer("added", added.clone())
        leaves, self.structure = pytree.tree_flatten(prepared)
        self.leaves: list = []  # numbers and the like; a tensor's place holds its axis of positions
        for number, (leaf, more) in enumerate(zip(leaves, pytree.tree_leaves(longer))):
            if isinstance(leaf, Tensor):
                own = leaf.clone(memory_format=torch.contiguous_format)
                self.register_buffer(f"prepared_{number}", own)
                sizes = zip(leaf.shape, more.shape)
                leaf = next((axis for axis, (a, b) in enumerate(sizes) if a != b), None)
            self.leaves.append(leaf)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, of tokens int64 (B, L) or of images float (B, channels, height, width)."""
        if not self.is_text:
            patches = self.model.vit.patch_embed(x).flatten(1, 2)
            return self.model.classify(patches + self.added, self._prepared())
        places = torch.arange(x.shape[1], device=x.device)
        x = self.model.transformer.wte(x) + self.added[:x.shape[1]]
        return self.model.predict(self.model.run_layers(x, self._prepared(places)))

    def _prepared(self, places: Tensor | None = None):
        """What the encoding prepared; of a text, for the places of its tokens, int64 (L,)."""
        leaves = []
        for number, leaf in enumerate(self.leaves):
            tensor = getattr(self, f"prepared_{number}", None)
            if tensor is not None and leaf is not None and places is not None:
                tensor = tensor.index_select(leaf, places)  # a slice would not be contiguous
            leaves.append(leaf if tensor is None else tensor)
        return pytree.tree_unflatten(leaves, self.structure)


def export(model: nn.Module, size: int | tuple[int, int]) -> torch.export.ExportedProgram:
    """An exported program of any batch size; a GPT-2's takes texts of 1 to ``size`` tokens.

    A learned table is stretched to a context of ``size`` tokens, if that is longer than the
    trained one, whatever the length of the text: as ``model(tokens, context_len=size)``.

    Args:
        model, size: as for :class:`InferenceModel`.

    Raises:
        ValueError: as :class:`InferenceModel`.
    """
    fixed = InferenceModel(model, size).eval()
    dynamic, device = {0: torch.export.Dim("batch")}, device_of(model)
    if fixed.is_text:
        example = torch.zeros(2, min(size, 2), dtype=torch.long, device=device)
        dynamic[1] = torch.export.Dim("length", max=size)
    else:
        example = _empty_images(model, size, device=device)
    return torch.export.export(fixed, (example,), dynamic_shapes=(dynamic,))


def _empty_images(model: nn.Module, size: int | tuple[int, int], **options) -> Tensor:
    from seqpe_lab.models.vit import sides_of  # timm takes seconds to import
    return torch.zeros(2, model.channels, *sides_of(size), **options)
