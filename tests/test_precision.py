"""Positions stay in float32 under bfloat16 autocast, tested on a trained model of the package.

Random weights cannot reveal the error: in a trained encoder e.e' is about 450 and neighbours differ
by hundredths, where bfloat16's step is 2.
"""

import copy

import pytest
import torch
import torch.nn.functional as F

from seqpe_lab.digits import grid
from seqpe_lab.encodings import MixedRoPE, RoPE, SeqPE, Sinusoidal, make_encoding
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.sampling import contrastive_sample, distillation_sample

LENGTHS = (64, 256, 1_024)


def bfloat16_autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def trained():
    """The language model with SeqPE that comes with the package, with gradients switched on."""
    from seqpe_lab.explorers import shipped_models

    model = shipped_models.model("text", "seqpe")
    yield model.requires_grad_(True)
    model.requires_grad_(False)


@pytest.fixture(scope="module")
def text(trained) -> torch.Tensor:
    """8,193 bytes that the model can predict: it writes them itself, 36 texts at a time."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.tensor([list(b"This module provides a class that represents a position.")])
    options = {"temperature": 0.8, "generator": generator}
    return trained.generate(prompt.expand(36, -1), 172, **options).flatten()[:8_193]


def gradient_of(loss: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    parts = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return torch.cat([p.flatten() for p in parts if p is not None]).double()


def position_losses(encoder):
    generator = torch.Generator().manual_seed(0)
    distil = distillation_sample(32, 32, 64, 1_500, generator=generator)
    contrast = contrastive_sample(32, 32, 1_500, generator=generator)
    return {
        "L_OOD": lambda: distillation_loss(encoder(distil.teachers), encoder(distil.students), 4),
        "L_delta": lambda: contrastive_loss(
            encoder(contrast.pivots), encoder(contrast.candidates), contrast.label, contrast.tied
        ),
    }


def test_bfloat16_cannot_tell_the_trained_vectors_of_neighbours_apart(trained):
    """Otherwise the tests below would prove nothing."""
    vectors = trained.encoding.encoder.table(512)
    similarity = vectors @ vectors.T
    neighbours = (similarity[:-1, :-1] - similarity[:-1, 1:]).diagonal().abs()
    rounded = vectors.bfloat16() @ vectors.bfloat16().T
    assert similarity.diagonal().mean() > 200 and neighbours.mean() < 1
    assert (rounded.float() - similarity).abs().mean() > neighbours.mean()


def test_position_vectors_do_not_depend_on_autocast(trained):
    encoder = trained.encoding.encoder
    plain = encoder(grid(300))
    with bfloat16_autocast():
        assert torch.equal(encoder(grid(300)), plain)


@pytest.mark.parametrize("name", ["L_OOD", "L_delta"])
def test_the_losses_and_their_gradients_do_not_depend_on_autocast(trained, name):
    encoder = trained.encoding.encoder
    loss = position_losses(encoder)[name]
    plain = loss()
    with bfloat16_autocast():
        low = loss()
    assert low.item() == pytest.approx(plain.item(), rel=1e-5) and plain.item() > 0.001
    directions = gradient_of(plain, encoder), gradient_of(low, encoder)
    assert F.cosine_similarity(*directions, dim=0) > 0.9999


def test_the_gradient_of_the_main_loss_keeps_its_direction(trained, text):
    tokens = text[: 8 * 65].view(8, 65)

    def loss():
        logits = trained(tokens[:, :-1]).float()
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    plain = loss()
    with bfloat16_autocast():
        low = loss()
    encoder = trained.encoding.encoder
    directions = gradient_of(plain, encoder), gradient_of(low, encoder)
    assert F.cosine_similarity(*directions, dim=0) > 0.99


@pytest.mark.parametrize("length", LENGTHS)
def test_perplexity_under_autocast_is_that_of_float32(trained, text, length):
    from seqpe_lab.tasks.perplexity import perplexity

    plain = perplexity(trained, text, length).perplexity
    with bfloat16_autocast():
        low = perplexity(trained, text, length).perplexity
    assert low == pytest.approx(plain, rel=0.005)


def test_the_bias_is_corrected_for_rounding_in_a_model_whose_weights_are_bfloat16(trained):
    """Without autocast: queries and keys in bfloat16, the encoding in float32."""
    encoding, scores = trained.encoding, {}
    with torch.no_grad():
        prepared = encoding.prepare(grid(1_024))
        q = torch.zeros(1, 4, 1_024, 24)
        for dtype in (torch.float32, torch.bfloat16):
            wide_q, wide_k = encoding.transform(q.to(dtype), q.to(dtype), prepared, 0)
            assert wide_q.dtype == wide_k.dtype == dtype
            scores[dtype] = wide_q.double() @ wide_k.double().mT / 24**0.5
    causal = torch.ones(1_024, 1_024, dtype=torch.bool).tril()
    weights = [s.masked_fill(~causal, -torch.inf).softmax(-1) for s in scores.values()]
    assert (weights[0] - weights[1]).abs().sum(-1).mean() < 0.005  # 0.09 without the correction


@pytest.mark.parametrize("scaled", [True, False])
def test_float32_needs_no_features_of_correction(scaled):
    torch.manual_seed(0)
    encoding = make_encoding("seqpe", d_model=16, heads=2, layers=1, train_shape=64, scaled=scaled)
    q = torch.randn(1, 2, 64, 8)
    wide_q, _ = encoding.transform(q, q, encoding.prepare(grid(64)), 0)
    assert wide_q.shape[-1] == 8 + 8  # q and e^q


@pytest.mark.parametrize("side", [14, 42])
def test_rotary_angles_do_not_depend_on_autocast(side):
    """In bfloat16 the angles of mixed RoPE would be wrong by up to 0.26 rad on 42 x 42."""
    torch.manual_seed(0)
    mixed_rope, positions = MixedRoPE(64, heads=6, layers=2), grid(side, side)
    plain = mixed_rope.prepare(positions)
    with bfloat16_autocast():
        low = mixed_rope.prepare(positions)
    assert all(torch.equal(a, b) for a, b in zip(plain, low))
    exact = torch.einsum(
        "tn,nlhf->lhtf", positions.flip(-1).double(), mixed_rope.frequency.double()
    )
    assert (plain[0].double() - exact.cos()).abs().max() < 1e-5


def test_angles_and_sinusoids_do_not_depend_on_autocast():
    positions = torch.tensor([[16_383], [99_999]])
    x = torch.zeros(1, 2, 16)
    plain = RoPE(16).prepare(positions), Sinusoidal().embed(x, positions, 100_000)
    with bfloat16_autocast():
        low = RoPE(16).prepare(positions), Sinusoidal().embed(x, positions, 100_000)
    assert torch.equal(plain[1], low[1])
    assert all(torch.equal(a, b) for a, b in zip(plain[0], low[0]))


ON_A_LINE = {  # with their options
    "none": {},
    "sinusoidal": {},
    "rope": {},
    "alibi": {},
    "seqpe": {},
    "rope-yarn": {"factor": 1_000},
    "rope-dynamic": {},
    "liere": {},
    "fope": {},
    "xpos": {"scale_base": 2_000},
    "pope": {},
}
ON_A_GRID = ["none", "rope", "rope-mixed", "seqpe sum", "seqpe mul", "seqpe bias"]
ON_A_GRID += ["rope-yarn", "liere", "pope"]


@pytest.mark.parametrize("start", [0, 1_000, 98_530, 99_936])
@pytest.mark.parametrize("name", ON_A_LINE)
def test_scores_of_far_positions_are_exact_to_one_percent_in_bfloat16(trained, name, start):
    """Among 64 neighbours: softmax does not notice what is the same for all keys."""
    torch.manual_seed(0)
    shape = {"d_model": 96, "heads": 4, "layers": 1, "train_shape": 64}
    encoding = make_encoding(name, **shape, **ON_A_LINE[name])
    if name == "seqpe":
        encoding = trained.encoding
    positions = torch.arange(start, start + 64).unsqueeze(-1)
    assert_exact_to_one_percent(encoding, positions, start + 64)


@pytest.mark.parametrize("first", [(0, 0), (92, 92)])
@pytest.mark.parametrize("name", ON_A_GRID)
def test_scores_of_far_patches_are_exact_to_one_percent_in_bfloat16(name, first):
    torch.manual_seed(0)
    name, _, integration = name.partition(" ")
    options = {"integration": integration, "digits": 2} if integration else {}
    encoding = make_encoding(name, d_model=96, heads=4, layers=1, train_shape=8, dims=2, **options)
    if integration:  # vectors as long as those of a trained encoder
        with torch.no_grad():
            encoding.encoder.out.weight *= 40
    assert_exact_to_one_percent(encoding, grid(8, 8) + torch.tensor(first), (100, 100))


@torch.no_grad()
def assert_exact_to_one_percent(encoding, positions, context):
    """Scores under autocast against those in float64: mean error against their spread."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 64, 96, generator=generator).bfloat16()
    w_q, w_k = torch.randn(2, 96, 96, generator=generator).bfloat16() / 10

    def scores(encoding, dtype):
        embedded = encoding.embed(x.to(dtype), positions, context)
        q, k = (
            (embedded.double() @ w.double()).to(dtype).unflatten(-1, (4, 24)).transpose(1, 2)
            for w in (w_q, w_k)
        )
        # not looked up in a table, which would hold all positions before them, too
        vectors = encoding.encoder(positions) if isinstance(encoding, SeqPE) else None
        q, k = encoding.transform(q, k, encoding.prepare(positions, vectors), layer=0)
        assert q.dtype == k.dtype == dtype
        s = q.double() @ k.double().mT
        return s - s.mean(-1, keepdim=True)

    exact = scores(copy.deepcopy(encoding).double(), torch.float64)
    with bfloat16_autocast():
        low = scores(encoding, torch.bfloat16)
    assert (low - exact).abs().mean() < 0.01 * exact.std()


@pytest.mark.parametrize("size", [24, 72])
def test_an_image_model_with_products_keeps_its_logits_under_autocast(digit_images, size):
    """SeqPE "mul" on the shipped model: direction of the logits, and classes that are no ties."""
    from seqpe_lab.explorers import shipped_models
    from seqpe_lab.tasks.image_views import test_view

    model = shipped_models.model("image", "seqpe-mul")
    recipe = shipped_models.recipe("image", "seqpe-mul")
    seen = torch.stack([test_view(digit_images.test[i], recipe, size, i) for i in range(100)])
    images = digit_images.normalise(seen)
    with torch.no_grad():
        plain = model(images)
        with bfloat16_autocast():
            low = model(images).float()
    assert F.cosine_similarity(plain, low, dim=-1).min() > 0.999
    first, second = plain.topk(2, dim=-1).values.T
    clear = first - second > 0.05 * (first - second).median()
    assert clear.float().mean() > 0.9 and (plain.argmax(-1) == low.argmax(-1))[clear].all()
