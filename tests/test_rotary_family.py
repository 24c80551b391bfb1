"""The relatives of RoPE against other libraries' functions, or their formulas written out.

Scores of all queries and keys are compared, and the gradients of a random weighting of them.
"""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from seqpe_lab.digits import grid
from seqpe_lab.encodings import ModelShape, NTKRoPE, RoPE, make_encoding, rotary_angles, rotate

H, D_HEAD, LAYERS, TRAIN, L = 2, 16, 2, 16, 40
QK = torch.randn(2, 2, H, L, D_HEAD, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(2, H, L, L, generator=torch.Generator().manual_seed(1))


def make(name, train=TRAIN, **options):
    torch.manual_seed(0)
    shape = {"d_model": H * D_HEAD, "heads": H, "layers": LAYERS, "train_shape": train}
    return make_encoding(name, **shape | options)


def column(length, start=0):
    return torch.arange(start, start + length).unsqueeze(-1)


def scores(transform, *parameters, dtype=torch.float32):
    """q'k'^T (B, H, L, L), and gradients with respect to q, k and the parameters."""
    q, k = (x.clone().to(dtype).requires_grad_() for x in QK)
    new_q, new_k = transform(q, k)
    product = new_q @ new_k.mT
    return product, *torch.autograd.grad((product * WEIGHTS).sum(), [q, k, *parameters])


def of(encoding, layer=0, positions=None):
    """What the library computes, as a function of q and k."""
    prepared = encoding.prepare(column(L) if positions is None else positions)
    return partial(encoding.transform, prepared=prepared, layer=layer)


def assert_equal(ours, theirs, names=("scores", "of q", "of k", "of the first parameter")):
    for name, a, b in zip(names, ours, theirs, strict=False):
        size = max(1.0, b.abs().max().item() / 10)  # rounding grows with the numbers added
        torch.testing.assert_close(
            a, b.float(), atol=1e-5 * size, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


# --- other libraries ----------------------------------------------------------------------------

LLAMA = {  # our name and options -> transformers' rope_parameters
    "rope": ({}, {"rope_type": "default"}),
    "rope-pi": ({"factor": 4}, {"rope_type": "linear", "factor": 4.0}),
    "rope-dynamic": ({}, {"rope_type": "dynamic", "factor": 1.0}),
    "rope-dynamic a": ({"factor": 3}, {"rope_type": "dynamic", "factor": 3.0}),
    "rope-yarn": ({"factor": 8}, {"rope_type": "yarn", "factor": 8.0}),
    "rope-yarn turns": (
        {"factor": 2.5, "beta_fast": 4, "beta_slow": 0.5, "base": 500.0},
        {"rope_type": "yarn", "factor": 2.5, "beta_fast": 4, "beta_slow": 0.5, "rope_theta": 500.0},
    ),
    "p-rope": ({"p": 0.7}, {"rope_type": "proportional", "partial_rotary_factor": 0.7}),
}


@pytest.mark.parametrize("name", LLAMA)
def test_it_equals_transformers_llama(name):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    options, theirs = LLAMA[name]
    theirs = {"rope_theta": 10_000.0, "original_max_position_embeddings": TRAIN} | theirs
    if theirs["rope_type"] != "yarn":
        del theirs["original_max_position_embeddings"]
    config = LlamaConfig(
        hidden_size=H * D_HEAD,
        num_attention_heads=H,
        max_position_embeddings=TRAIN,
        rope_parameters=theirs,
    )
    rotary = LlamaRotaryEmbedding(config)
    cos, sin = rotary(QK[0], torch.arange(L).unsqueeze(0))
    ours = make(name.split()[0], pairing="half", **options)
    expected = scores(partial(apply_rotary_pos_emb, cos=cos, sin=sin))
    assert_equal(scores(of(ours)), expected)
    assert name == "rope" or (expected[0] - scores(of(RoPE(D_HEAD)))[0]).abs().max() > 0.1


@pytest.mark.parametrize("factor", [1, 2])
def test_interpolation_on_a_grid_equals_timm(factor):
    """timm scales the places of a larger grid to those of a reference grid; its rows come first."""
    from timm.layers.pos_embed_sincos import apply_rot_embed, build_rotary_pos_embed

    size = (4 * factor, 5 * factor)
    sin, cos = build_rotary_pos_embed(
        size, dim=D_HEAD, temperature=100.0, in_pixels=False, ref_feat_shape=(4, 5)
    )
    x = torch.randn(1, H, len(sin), D_HEAD, generator=torch.Generator().manual_seed(2))
    theirs = apply_rot_embed(x.unflatten(-1, (2, -1)).flip(-2).flatten(-2), sin, cos)
    ours = make("rope-pi", train=(4, 5), factor=factor, pairing="interleaved")
    turned = of(ours, positions=grid(*size))(x, x)[0]
    expected = theirs.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=1e-5)


def x_transformers():
    return pytest.importorskip("x_transformers.x_transformers", reason="needs x-transformers")


def test_xpos_and_ntk_equal_x_transformers():
    library = x_transformers()
    for name, theirs, options in (
        ("xpos", {"use_xpos": True, "scale_base": 20}, {"scale_base": 20}),
        ("rope-ntk", {"base_rescale_factor": 4.0}, {"factor": 4}),
    ):
        freqs, scale = library.RotaryEmbedding(D_HEAD, **theirs)(torch.arange(L))

        def turn(q, k, freqs=freqs, scale=scale):
            turned = library.apply_rotary_pos_emb
            return turned(q, freqs, scale), turned(k, freqs, scale**-1)

        assert_equal(scores(of(make(name, **options))), scores(turn))


def test_xpos_equals_torchscale():
    xpos = pytest.importorskip(
        "torchscale.component.xpos_relative_position", reason="needs torchscale"
    ).XPOS(D_HEAD, scale_base=20)

    def turn(q, k):
        return (
            xpos(x.flatten(0, 1), downscale=down).view_as(x) for x, down in ((q, False), (k, True))
        )

    assert_equal(scores(of(make("xpos", scale_base=20))), scores(turn))


def test_pope_equals_x_transformers():
    library, ours = x_transformers(), make("pope", uniform=True)
    theirs = library.PolarEmbedding(D_HEAD, H)
    theirs.learned_bias.data = ours.delta[1].detach().clone()
    freqs, bias = theirs(torch.arange(L))

    def polar(q, k):
        return (library.apply_polar_pos_emb(q, freqs), library.apply_polar_pos_emb(k, freqs + bias))

    expected = scores(polar, theirs.learned_bias)
    product, *gradients, of_delta = scores(of(ours, layer=1), ours.delta)
    assert_equal([product, *gradients, of_delta[1]], expected)
    assert of_delta[0].abs().max() == 0  # each layer has its own


# --- their formulas -----------------------------------------------------------------------------


def pairs_turned(x, angle, factor=1.0):
    """Neighbours (x1, x2) as complex numbers, times factor e^(i angle); angle (..., L, d/2)."""
    z = torch.complex(x[..., 0::2], x[..., 1::2]) * factor * torch.exp(1j * angle)
    return torch.stack([z.real, z.imag], -1).flatten(-2)


def test_xpos_by_its_formula():
    """Relative to position 0, in float64; the library's factors are relative to another."""
    place, m = column(L).double(), torch.arange(D_HEAD // 2).double()
    angle, zeta = place * 10_000 ** (-2 * m / D_HEAD), (2 * m / D_HEAD + 0.4) / 1.4
    factor = zeta ** (place / 20)

    def turn(q, k):
        return pairs_turned(q, angle, factor), pairs_turned(k, angle, 1 / factor)

    expected = scores(turn, dtype=torch.float64)
    assert_equal(scores(of(make("xpos", scale_base=20))), expected)


def test_pope_by_its_formula():
    ours = make("pope", uniform=True)
    delta = ours.delta.detach()[0].double().requires_grad_()  # (H, 1, d_head)
    theta = 10_000 ** (-torch.arange(D_HEAD).double() / D_HEAD)
    apart = (column(L).T - column(L)).double()  # j - i

    def product(q, k):
        sizes = F.softplus(q).unsqueeze(-2) * F.softplus(k).unsqueeze(-3)  # (B, H, L, L, d)
        return (sizes * (apart.unsqueeze(-1) * theta + delta.unsqueeze(-2)).cos()).sum(-1)

    q, k = (x.clone().double().requires_grad_() for x in QK)
    gradients = torch.autograd.grad((product(q, k) * WEIGHTS).sum(), [q, k, delta])
    ours_product, *of_qk, of_delta = scores(of(ours), ours.delta)
    assert_equal([ours_product, *of_qk, of_delta[0]], [product(q, k), *gradients])


def test_fope_by_its_formula():
    """h_m(p) = e^(i w_m p) + sum_w a_wm e^(i w p), from frequencies of a turn within L, else 1."""
    ours = make("fope", train=200, sigma=0.5)
    theta = [10_000 ** (-2 * m / D_HEAD) for m in range(D_HEAD // 2)]
    kept = [w for w in theta if 200 * w >= 2 * math.pi]
    assert 1 < len(kept) < len(theta) and ours.coefficients.shape == (H, len(kept), len(kept))
    spread = (ours.coefficients - torch.eye(len(kept))).std().item()
    assert spread == pytest.approx(0.5 / len(kept) ** 0.5, rel=0.5)
    waves = torch.stack([torch.exp(1j * w * column(L).double()) for w in kept], -1)[:, 0]  # (L, K)
    h = torch.ones(H, L, D_HEAD // 2, dtype=torch.complex128)
    for head in range(H):
        for m in range(len(kept)):
            a = ours.coefficients[head, :, m].double()
            h[head, :, m] = sum(a[w] * waves[:, w] for w in range(len(kept)))

    def turn(q, k):
        return pairs_turned(q, 0 * h.real, h), pairs_turned(k, 0 * h.real, h)

    assert_equal(scores(of(ours)), scores(turn, dtype=torch.float64))


@pytest.mark.parametrize("train, block", [((TRAIN,), 8), ((4, 10), 4), ((4, 10), 16)])
def test_liere_by_its_published_form(train, block):
    ours = make("liere", train=train, block=block)
    positions = column(L) if len(train) == 1 else grid(4, 10)
    raw = ours.generator.detach()[:, 1].double().requires_grad_()  # (n, H, blocks, size, size)
    upper = raw.triu(diagonal=1)
    basis = upper.mT - upper  # the published sign turns the other way
    where = positions.double() / torch.tensor(train)
    place = where.reshape(L, len(train), 1, 1, 1, 1) * basis
    rotation = torch.matrix_exp(place.sum(1))  # (L, H, blocks, size, size)
    whole = torch.stack(
        [torch.stack([torch.block_diag(*blocks) for blocks in heads]) for heads in rotation]
    )

    def turn(q, k):
        return (torch.einsum("lhij,bhlj->bhli", whole, x) for x in (q, k))

    expected = scores(turn, raw, dtype=torch.float64)
    product, *of_qk, of_generator = scores(of(ours, 1, positions), ours.generator)
    assert_equal([product, *of_qk, of_generator[:, 1]], expected)


# --- identities ---------------------------------------------------------------------------------

SAME = {  # two encodings that give the same scores
    "interpolation with factor 1": (("rope-pi", {"factor": 1}), ("rope", {})),
    "NTK with factor 1": (("rope-ntk", {"factor": 1}), ("rope", {})),
    "YaRN with factor 1": (("rope-yarn", {"factor": 1}), ("rope", {})),
    "dynamic within the trained length": (("rope-dynamic", {"train": L}), ("rope", {})),
    "dynamic and the factor it needs": (("rope-dynamic", {}), ("rope-ntk", {"factor": L / TRAIN})),
    "interpolation that follows the context": (("rope-pi", {}), ("rope-pi", {"factor": L / TRAIN})),
    "YaRN that follows the context": (("rope-yarn", {}), ("rope-yarn", {"factor": L / TRAIN})),
    "NTK and another base": (
        ("rope-ntk", {"factor": 4}),
        ("rope", {"base": 10_000 * 4 ** (D_HEAD / (D_HEAD - 2))}),
    ),
    "NTK and a base on a grid": (
        ("rope-ntk", {"factor": 4, "train": (4, 10)}),
        ("rope", {"base": 100 * 4 ** (8 / 6), "train": (4, 10)}),
    ),
    "YaRN with factor 1 on a grid": (
        ("rope-yarn", {"factor": 1, "train": (4, 10)}),
        ("rope", {"train": (4, 10)}),
    ),
    "p-RoPE with p = 1": (("p-rope", {"p": 1.0}), ("rope", {})),
    "p-RoPE on a grid": (("p-rope", {"p": 1.0, "train": (4, 10)}), ("rope", {"train": (4, 10)})),
    "FoPE without a series": (
        ("fope", {"sigma": 0.0, "train": 200}),
        ("p-rope", {"p": 4 / 8}),  # 10^-0.5m stays above 2 pi / 200 for m = 0, 1, 2
    ),
    "xPos that does not decay": (("xpos", {"scale_base": 1e9}), ("rope", {})),
    "the first layer of RNoPE": (("rnope", {}), ("rope", {})),
}


def is_grid(options):
    return isinstance(options.get("train"), tuple)


@pytest.mark.parametrize("case", SAME)
def test_special_cases_agree(case):
    (first, options), (second, others) = SAME[case]
    positions = grid(4, 10) if is_grid(options) else None
    ours = scores(of(make(first, **options), positions=positions))
    assert_equal(ours, scores(of(make(second, **others), positions=positions)))


def test_the_second_layer_of_rnope_is_nope():
    assert_equal(scores(of(make("rnope"), layer=1)), scores(of(make("none"), layer=1)))


def test_a_model_with_rnope_generates_with_a_cache_as_without(tiny_model):
    model, tokens = tiny_model("rnope", {"every": 3}, layers=4), torch.randint(23, (2, 5))
    assert torch.equal(model.generate(tokens, 9), model.generate(tokens, 9, use_cache=False))


@pytest.mark.parametrize("uniform", [False, True])
def test_pope_s_delta_learns_from_where_it_starts(uniform):
    encoding = make("pope", uniform=uniform)
    _, _, _, of_delta = scores(of(encoding), encoding.delta)
    assert of_delta[0].abs().min() > 0


@pytest.mark.parametrize("kind", ["rope", "rope-mixed"])
def test_liere_with_the_right_generators_is_rope(kind):
    """2 x 2 blocks whose entry above the diagonal is the frequency times the training size."""
    train = (TRAIN,) if kind == "rope" else (4, 10)
    positions = column(L) if kind == "rope" else grid(4, 10)
    ours, theirs = make("liere", train=train, block=2), make(kind, train=train)
    if kind == "rope":
        frequency = rotary_angles(torch.tensor([[1]]), D_HEAD)  # (1, d_head/2)
        frequency = frequency.expand(LAYERS, H, -1).unsqueeze(0)
    else:
        frequency = theirs.frequency.detach().flip(0)  # ours: rows first
    sizes = torch.tensor(train).view(-1, 1, 1, 1)
    with torch.no_grad():
        ours.generator[..., 0, 1] = (frequency * sizes).float()
    for layer in range(LAYERS):
        assert_equal(
            scores(of(ours, layer, positions)), scores(of(theirs, layer, positions.clone()))
        )


def test_liere_depends_on_the_difference_in_one_dimension():
    ours = make("liere", block=16)
    here, there = (scores(of(ours, 0, column(L, start)))[0] for start in (0, 50_000))
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


# --- the context --------------------------------------------------------------------------------


def test_keys_that_were_cached_early_are_rotated_for_the_final_length(tiny_model):
    """Without the model's context_len the first keys would be those of a shorter context."""
    model, tokens = tiny_model("rope-dynamic"), torch.randint(23, (1, 40))
    with torch.no_grad():
        whole = model(tokens)
        told, cache = [], []
        for part in tokens.split(20, dim=1):
            told.append(model(part, cache=cache, context_len=40))
        torch.testing.assert_close(torch.cat(told, 1), whole, atol=2e-4, rtol=1e-4)
        assert (model(tokens[:, :20]) - whole[:, :20]).abs().max() > 0.01  # 20 is not 40


def test_a_context_belongs_to_the_positions_it_was_given_with():
    """timm's adapter calls prepare first: an earlier image's context must not be taken."""
    encoding, first, second = make("rope-pi"), column(32), column(32)
    encoding.embed(torch.zeros(1, 32, H * D_HEAD), first, 64)
    assert encoding.factors(first) == [[4.0]] and encoding.factors(second) == [[2.0]]


def test_each_dimension_of_a_grid_has_its_own_factor():
    encoding = make("rope-pi", train=(4, 8))
    assert encoding.factors(grid(8, 12)) == [[2.0, 1.5]]
    angles, plain = encoding.angles(grid(8, 12)), rotary_angles(grid(8, 12), D_HEAD, 100.0)
    torch.testing.assert_close(angles[:, :4] * 1.5, plain[:, :4])  # columns first
    torch.testing.assert_close(angles[:, 4:] * 2.0, plain[:, 4:])


@pytest.mark.parametrize("name", ["rope-pi", "rope-ntk", "p-rope", "rnope"])
def test_sequences_of_one_batch_may_have_positions_of_their_own(name):
    options = {"factor": 4} if name.startswith("rope-") else {}
    positions = torch.stack([column(L, start=3), column(L, start=20)])  # (B, L, 1)
    together = of(make(name, **options), positions=positions)(*QK)
    for b in range(2):
        alone = of(make(name, **options), positions=positions[b])(*QK)
        for both, one in zip(together, alone):
            torch.testing.assert_close(both[b], one[b])


# --- precision ----------------------------------------------------------------------------------

PREPARED = {
    "rope-yarn": {"factor": 8},
    "rope-dynamic": {},
    "p-rope": {},
    "rnope": {},
    "liere": {},
    "fope": {},
    "xpos": {"scale_base": 2_000},
    "pope": {},
}


@pytest.mark.parametrize("name", PREPARED)
def test_angles_stay_float32_under_autocast(name):
    encoding, positions = make(name, **PREPARED[name]), column(L, start=99_000)
    plain = encoding.prepare(positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoding.prepare(positions)
        turned = encoding.transform(*QK, low, 0)
    parts = zip(plain[:3], low[:3]) if isinstance(plain, tuple) else [(plain, low)]
    assert all(a.dtype == b.dtype == torch.float32 and torch.equal(a, b) for a, b in parts)
    for ours, alone in zip(turned, encoding.transform(*QK, plain, 0)):
        assert torch.equal(ours, alone)


def test_ntk_at_far_positions_is_exact():
    shape = ModelShape(D_HEAD, 1, 1, (64,))
    cos, _ = NTKRoPE(shape, factor=1_000).prepare(torch.tensor([[99_999]]))
    theta = [10_000 ** (-2 * m / D_HEAD) * 1_000 ** (-m / (D_HEAD // 2 - 1)) for m in range(8)]
    expected = torch.tensor([[math.cos(99_999 * t) for t in theta]])
    torch.testing.assert_close(cos, expected, atol=1e-6, rtol=0)


def test_rotate_scales_by_what_it_is_given():
    """YaRN and xPos put their factors into cosine and sine."""
    x, angle = QK[0][0, 0], torch.rand(L, D_HEAD // 2)
    for pairing in ("interleaved", "half"):
        once = rotate(x, angle.cos(), angle.sin(), pairing)
        twice = rotate(x, 2 * angle.cos(), 2 * angle.sin(), pairing)
        torch.testing.assert_close(twice, 2 * once)


# --- recipes ------------------------------------------------------------------------------------

BY_RECIPE = {  # an option, as --set takes it, and where the encoding keeps it
    "rope-pi": ("factor", 4),
    "rope-ntk": ("factor", 4),
    "rope-dynamic": ("factor", 2),
    "rope-yarn": ("beta_fast", 8),
    "p-rope": ("p", 0.5),
    "rnope": ("every", 2),
    "liere": ("block", 4),
    "fope": ("sigma", 0.1),
    "xpos": ("scale_base", 64),
    "pope": ("base", 500.0),
    "floater": ("step", 0.05),
}


@pytest.mark.parametrize("name", BY_RECIPE)
def test_a_recipe_takes_its_name_and_options(name, tiny_recipe):
    from seqpe_lab.cli.recipe_options import settings_of_recipe
    from seqpe_lab.objective import Objective, build_model

    option, value = BY_RECIPE[name]
    settings = [f"encoding={name}", f'encoding_options={{"{option}": {value}}}']
    recipe = tiny_recipe(layers=2, **settings_of_recipe("lm", settings))
    assert (recipe.method, recipe.alpha, recipe.beta) == (name, 0.0, 0.0)
    model = build_model(recipe, 256)
    encoding = model.encoding
    kept = {"liere": lambda: encoding.generator.shape[-1], "floater": lambda: encoding.encoder.step}
    assert kept.get(name, lambda: getattr(encoding, option))() == value
    tokens = torch.randint(256, (2, 17), generator=torch.Generator().manual_seed(0))
    Objective(model, recipe)(tokens, step=0)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoding.parameters())
