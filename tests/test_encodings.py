"""Every encoding against its equation (SeqPE, Sec. 2 and 3.5), built with the L x L matrix."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from seqpe_lab.attention import attend
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.encodings import (
    ENCODINGS,
    ALiBi,
    Learned,
    RoPE,
    SeqPE,
    Sinusoidal,
    alibi_slopes,
    make_encoding,
    rotary_angles,
    rotate,
    sinusoidal_vectors,
)

H, D_HEAD, L = 2, 8, 7
CAUSAL = torch.ones(L, L, dtype=torch.bool).tril()


def random_qkv(length=L, heads=H, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, heads, length, D_HEAD, generator=generator) for _ in range(3))


def column(length, start=0):
    return torch.arange(start, start + length).unsqueeze(-1)


def attention(scores: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Eq. 3 with the causal mask of Eq. 6, from non-normalised scores A (B, H, L, L)."""
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return (scores / D_HEAD**0.5).masked_fill(~mask, -torch.inf).softmax(-1) @ v


def lively_seqpe(integration="bias", layers=2, **options) -> SeqPE:
    torch.manual_seed(0)
    encoding = SeqPE(
        PositionEncoder(H * D_HEAD, digits=3, heads=2), H, layers, integration, **options
    )
    with torch.no_grad():
        for parameter in encoding.parameters():
            parameter.mul_(8.0)
        for projection in encoding.projections:
            projection.bias.normal_()
    return encoding


# --- attention ----------------------------------------------------------------------------------


def test_eq_2_and_3_plain_attention():
    q, k, v = random_qkv()
    torch.testing.assert_close(
        attend(q, k, v), attention(q @ k.transpose(-1, -2), v), atol=1e-5, rtol=1e-5
    )


@given(st.integers(1, 9), st.integers(0, 6))
def test_eq_3_keeps_its_scale_when_queries_and_keys_are_widened(length, extra):
    """1/sqrt(d_head) of the head as it was, whatever was set beside it."""
    q, k, v = random_qkv(length)
    wide_q, wide_k = (F.pad(x, (0, extra), value=0.5) for x in (q, k))
    torch.testing.assert_close(
        attend(wide_q, wide_k, v),
        attention(q @ k.transpose(-1, -2) + 0.25 * extra, v),
        atol=1e-5,
        rtol=1e-5,
    )


@given(st.integers(1, 6), st.integers(0, 6))
def test_new_tokens_after_a_cache_attend_as_the_last_rows_of_the_whole(new, before):
    q, k, v = random_qkv(new + before)
    torch.testing.assert_close(
        attend(q[:, :, before:], k, v), attend(q, k, v)[:, :, before:], atol=1e-5, rtol=1e-5
    )


# --- absolute -----------------------------------------------------------------------------------


def test_eq_4_sinusoidal_adds_e_i_to_the_token_embedding():
    x = torch.randn(2, 5, 6)
    added = Sinusoidal().embed(x, column(5, start=3), 8) - x
    expected = [
        [(math.sin if f % 2 == 0 else math.cos)(p / 10_000 ** (f // 2 * 2 / 6)) for f in range(6)]
        for p in range(3, 8)
    ]
    torch.testing.assert_close(added, torch.tensor(expected).expand(2, 5, 6), atol=1e-5, rtol=1e-5)


def test_eq_4_learned_adds_row_i_of_its_table():
    encoding = Learned(10, 6)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(
        encoding.embed(x, column(5, start=3), 8) - x,
        encoding.table.weight[3:8].expand(2, 5, 6),
        atol=1e-6,
        rtol=1e-5,
    )


@pytest.mark.parametrize("rows, context", [(10, 11), (10, 40), (12, 100), (2, 5)])
def test_a_learned_table_stretches_by_linear_interpolation(rows, context):
    """The same as torch's own linear interpolation with both ends aligned."""
    encoding = Learned(rows, 6)
    stretched = F.interpolate(
        encoding.table.weight.T.unsqueeze(0), size=context, mode="linear", align_corners=True
    )[0].T
    torch.testing.assert_close(
        encoding.embed(torch.zeros(1, context, 6), column(context), context)[0],
        stretched,
        atol=1e-6,
        rtol=1e-5,
    )


def test_a_learned_table_is_not_stretched_up_to_its_own_length():
    encoding = Learned(10, 6)
    assert torch.equal(
        encoding.embed(torch.zeros(1, 10, 6), column(10), 10)[0], encoding.table.weight
    )


def test_a_learned_table_of_one_row_stretches_to_that_row_everywhere():
    encoding = Learned(1, 6)
    assert torch.equal(
        encoding.embed(torch.zeros(1, 3, 6), column(3), 3)[0], encoding.table.weight.expand(3, 6)
    )


def test_sinusoidal_vectors_of_far_positions_are_accurate():
    """float32 angles would be off by 1e-3 at position 16,384; these are not."""
    vectors = sinusoidal_vectors(torch.tensor([[16_383]]), 8)[0]
    expected = [f(16_383 * 10_000 ** (-i / 8)) for i in (0, 2, 4, 6) for f in (math.sin, math.cos)]
    torch.testing.assert_close(vectors, torch.tensor(expected), atol=1e-6, rtol=0)


# --- ALiBi --------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 700), st.booleans())
def test_eq_5_and_6_alibi_s_key_features_equal_its_matrix(length, heads, start, scaled):
    q, k, v = random_qkv(length, heads)
    encoding = ALiBi(heads, D_HEAD, scaled=scaled)
    i, j = column(length), column(length).T
    bias = -alibi_slopes(heads).view(-1, 1, 1) * (
        i - j
    )  # M of Eq. 6 below the diagonal; attention() masks the rest
    bias = bias if scaled else bias * D_HEAD**0.5  # Press et al. add it after the division
    expected = attention(q @ k.transpose(-1, -2) + bias, v)
    wide_q, wide_k = encoding.transform(q, k, encoding.prepare(column(length, start)), layer=0)
    torch.testing.assert_close(attend(wide_q, wide_k, v), expected, atol=2e-4, rtol=1e-4)


def test_alibi_s_key_features_are_exact_in_bf16():
    positions = torch.arange(0, 2**24, 97)
    prepared = ALiBi(8, D_HEAD).prepare(positions.unsqueeze(-1))[1].squeeze(0)  # (L, 8)
    in_bf16 = prepared.to(torch.bfloat16)
    assert torch.equal(in_bf16.float(), prepared)
    assert torch.equal(in_bf16.double().sum(-1), positions.double())


@pytest.mark.parametrize("d_head", [8, 24, 63, 64])
def test_alibi_s_widths_are_multiples_of_8(d_head):
    """Else torch has no fused kernel in float32 and builds the L x L matrix."""
    q = torch.randn(1, 2, 5, d_head)
    encoding = ALiBi(2, d_head)
    wide_q, wide_k = encoding.transform(q, q, encoding.prepare(column(5)), layer=0)
    assert wide_q.shape == wide_k.shape and wide_q.shape[-1] % 8 == 0
    assert d_head + 3 <= wide_q.shape[-1] < d_head + 11


def test_alibi_refuses_positions_that_its_features_cannot_write():
    with pytest.raises(ValueError, match="exact below position 16,777,216, got 16,777,216: short"):
        ALiBi(2, 8).prepare(torch.tensor([[2**24]]))


def test_alibi_s_slopes_are_exact_in_bf16_for_powers_of_two():
    for heads in (1, 2, 4, 8):
        assert torch.equal(alibi_slopes(heads).to(torch.bfloat16).float(), alibi_slopes(heads))


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 20])
def test_alibi_s_slopes_are_those_of_press_et_al(heads):
    def power_of_two(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    def published(n):
        if math.log2(n).is_integer():
            return power_of_two(n)
        closest = 2 ** math.floor(math.log2(n))
        return power_of_two(closest) + published(2 * closest)[0::2][: n - closest]

    torch.testing.assert_close(alibi_slopes(heads), torch.tensor(published(heads)))


# --- RoPE ---------------------------------------------------------------------------------------


def rope_scores(q, k, i, j, pairing, base=1e4):
    """(R_i q) . (R_j k) for single positions."""

    def turn(x, p):
        angles = rotary_angles(torch.tensor([p]), len(x), base)
        return rotate(x.double(), angles.cos(), angles.sin(), pairing)

    return (turn(q, i) * turn(k, j)).sum()


@pytest.mark.parametrize("pairing", ["interleaved", "half"])
@given(
    i=st.integers(0, 20_000),
    j=st.integers(0, 20_000),
    shift=st.integers(0, 20_000),
    base=st.sampled_from([1e4, 1e6, 1e8]),
)
def test_eq_7_rope_depends_on_j_minus_i_only(pairing, i, j, shift, base):
    generator = torch.Generator().manual_seed(i * j)
    q, k = torch.randn(2, 8, generator=generator)
    here, there = (
        rope_scores(q, k, i, j, pairing, base),
        rope_scores(q, k, i + shift, j + shift, pairing, base),
    )
    torch.testing.assert_close(here, there, atol=1e-9, rtol=1e-9)


def test_eq_7_is_the_product_with_the_rotary_matrix():
    encoding, (q, k, _) = RoPE(D_HEAD), random_qkv()
    turned_q, turned_k = encoding.transform(q, k, encoding.prepare(column(L)), layer=0)

    def matrix(p):  # R_{Theta,p}: 2 x 2 rotations along the diagonal
        blocks = [
            torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
            for a in (p * 10_000 ** (-2 * t / D_HEAD) for t in range(D_HEAD // 2))
        ]
        return torch.block_diag(*blocks)

    for i in range(L):
        for j in range(L):
            expected = torch.einsum(
                "bhd,de,bhe->bh", q[:, :, i], matrix(i).T @ matrix(j), k[:, :, j]
            )
            torch.testing.assert_close(
                (turned_q[:, :, i] * turned_k[:, :, j]).sum(-1), expected, atol=1e-4, rtol=1e-4
            )
            torch.testing.assert_close(
                matrix(i).T @ matrix(j),
                matrix(1).matrix_power(j - i) if j >= i else matrix(1).T.matrix_power(i - j),
                atol=1e-5,
                rtol=1e-5,
            )


@given(st.sampled_from([2, 4, 16, 64]), st.integers(0, 20_000))
def test_the_two_pairings_agree_after_a_permutation_of_the_features(d_head, position):
    x = torch.randn(3, d_head, generator=torch.Generator().manual_seed(position))
    angles = rotary_angles(torch.tensor([position]), d_head)
    order = torch.cat(
        [torch.arange(0, d_head, 2), torch.arange(1, d_head, 2)]
    )  # (0, 2, 4, ..., 1, 3, 5, ...)
    interleaved = rotate(x, angles.cos().float(), angles.sin().float(), "interleaved")
    half = rotate(x[:, order], angles.cos().float(), angles.sin().float(), "half")
    torch.testing.assert_close(interleaved[:, order], half)


@pytest.mark.parametrize("pairing", ["interleaved", "half"])
def test_rope_keeps_lengths_and_leaves_position_0_alone(pairing):
    encoding, (q, k, _) = RoPE(D_HEAD, pairing=pairing), random_qkv()
    turned_q, turned_k = encoding.transform(q, k, encoding.prepare(column(L)), layer=0)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(turned_q[:, :, 0], q[:, :, 0]) and torch.equal(turned_k[:, :, 0], k[:, :, 0])
    assert (turned_k[:, :, 1:] - k[:, :, 1:]).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rope_picks_every_other_feature(dtype):
    """The same, feature by feature; the dtype stays, and bfloat16 is rounded once, at the end."""
    x = (
        torch.randn(2, 3, L, D_HEAD, generator=torch.Generator().manual_seed(0))
        .to(dtype)
        .transpose(1, 2)
    )  # as a model's queries: not contiguous
    angles = rotary_angles(torch.arange(3).unsqueeze(-1), D_HEAD).to(
        torch.promote_types(dtype, torch.float32)
    )
    turned = rotate(x, angles.cos(), angles.sin())
    x1, x2 = x[..., 0::2].to(angles.dtype), x[..., 1::2].to(angles.dtype)
    expected = torch.stack(
        [x1 * angles.cos() - x2 * angles.sin(), x1 * angles.sin() + x2 * angles.cos()], -1
    ).flatten(-2)
    torch.testing.assert_close(turned, expected.to(dtype))


# --- SeqPE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_eq_11_e_q_and_e_k_are_e_times_w_pe(shared):
    encoding = lively_seqpe(layers=3, shared_projection=shared)
    vectors = encoding.encoder(column(L))
    prepared = encoding.prepare(column(L))
    assert len(prepared) == len(encoding.projections) == (1 if shared else 3)
    for projection, (e_q, e_k) in zip(encoding.projections, prepared):
        both = vectors @ projection.weight.T + projection.bias  # (L, 2 d)
        for head in range(H):
            features = slice(head * D_HEAD, (head + 1) * D_HEAD)
            torch.testing.assert_close(
                e_q[head], both[:, : H * D_HEAD][:, features], atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                e_k[head], both[:, H * D_HEAD :][:, features], atol=1e-5, rtol=1e-5
            )


def scores_of(encoding, layer=1):
    """(A as the library computes it before Eq. 3, q, k, e^q, e^k)."""
    q, k, _ = random_qkv()
    prepared = encoding.prepare(column(L, start=40))
    new_q, new_k = encoding.transform(q, k, prepared, layer)
    e = encoding.encoder(column(L, start=40))  # Eq. 11, by hand
    e_q, e_k = encoding.projections[layer % len(prepared)](e).chunk(2, -1)
    e_q, e_k = (part.unflatten(-1, (H, D_HEAD)).transpose(0, 1) for part in (e_q, e_k))
    return new_q @ new_k.transpose(-1, -2), q, k, e_q, e_k


def test_eq_12_attnsum():
    scores, q, k, e_q, e_k = scores_of(lively_seqpe("sum"))
    torch.testing.assert_close(
        scores, (q + e_q) @ (k + e_k).transpose(-1, -2), atol=1e-4, rtol=1e-4
    )


def test_eq_13_attnmul():
    scores, q, k, e_q, e_k = scores_of(lively_seqpe("mul", shared_projection=False))
    torch.testing.assert_close(
        scores, (q * e_q) @ (k * e_k).transpose(-1, -2), atol=1e-4, rtol=1e-4
    )


def test_eq_14_attnbias():
    scores, q, k, e_q, e_k = scores_of(lively_seqpe("bias"))
    torch.testing.assert_close(
        scores, q @ k.transpose(-1, -2) + e_q @ e_k.transpose(-1, -2), atol=1e-4, rtol=1e-4
    )


def test_eq_14_unscaled_adds_the_bias_after_the_division():
    scores, q, k, e_q, e_k = scores_of(lively_seqpe("bias", scaled=False))
    expected = q @ k.transpose(-1, -2) / D_HEAD**0.5 + e_q @ e_k.transpose(-1, -2)
    torch.testing.assert_close(scores / D_HEAD**0.5, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "integration, by_hand",
    [
        (
            "sum",
            lambda q, k, eq, ek: (q[0] + eq[0]) * (k[0] + ek[0]) + (q[1] + eq[1]) * (k[1] + ek[1]),
        ),
        ("mul", lambda q, k, eq, ek: q[0] * eq[0] * k[0] * ek[0] + q[1] * eq[1] * k[1] * ek[1]),
        ("bias", lambda q, k, eq, ek: q[0] * k[0] + q[1] * k[1] + eq[0] * ek[0] + eq[1] * ek[1]),
    ],
)
def test_eq_12_13_14_by_hand_on_two_features(integration, by_hand):
    encoding = SeqPE(
        PositionEncoder(2, digits=1, heads=1), heads=1, layers=1, integration=integration
    )
    q, k, e_q, e_k = (
        torch.tensor([1.0, 2.0]),
        torch.tensor([3.0, -1.0]),
        torch.tensor([0.5, 4.0]),
        torch.tensor([2.0, 0.25]),
    )
    new_q, new_k = encoding.transform(
        q.view(1, 1, 1, 2), k.view(1, 1, 1, 2), [(e_q.view(1, 1, 2), e_k.view(1, 1, 2))], layer=0
    )
    assert (new_q * new_k).sum().item() == pytest.approx(
        by_hand(q.tolist(), k.tolist(), e_q.tolist(), e_k.tolist())
    )


def test_the_mul_projection_starts_from_its_bias():
    """A bias of 0 starts blind (products of near-zeros), a bias of 1 from q.k."""
    q, k, _ = random_qkv()
    for bias, expected in [(0.0, 0.0), (1.0, 1.0)]:
        torch.manual_seed(0)
        encoding = SeqPE(
            PositionEncoder(H * D_HEAD, digits=3, heads=2), H, 1, "mul", projection_bias=bias
        )
        new_q, new_k = encoding.transform(q, k, encoding.prepare(column(L)), layer=0)
        torch.testing.assert_close(new_q * new_k, expected * q * k, atol=0.2, rtol=0.2)


def test_given_vectors_replace_the_encoder():
    encoding = lively_seqpe()
    vectors = encoding.encoder(column(L))
    encoding.encoder.forward = None  # would fail if it were called
    assert encoding.prepare(column(L), vectors)[0][0].shape == (H, L, D_HEAD)


def test_without_gradients_the_table_answers_the_same():
    encoding = lively_seqpe()
    with_gradient = encoding.prepare(column(L))
    with torch.no_grad():
        without = encoding.prepare(column(L))
    assert len(encoding.table) == L
    for a, b in zip(with_gradient[0], without[0]):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


# --- one interface ------------------------------------------------------------------------------


def test_every_encoding_acts_in_exactly_one_place(variant):
    """Either it adds to the embeddings, or it transforms queries and keys.

    NoPE does neither, none does both.
    """
    name, options = variant
    torch.manual_seed(0)
    encoding = make_encoding(name, d_model=H * D_HEAD, heads=H, layers=2, train_shape=16, **options)
    x, (q, k, _) = torch.randn(2, L, H * D_HEAD), random_qkv()
    adds = not torch.equal(encoding.embed(x, column(L, start=2), L + 2), x)
    new_q, new_k = encoding.transform(q, k, encoding.prepare(column(L, start=2)), layer=0)
    transforms = new_q is not q or new_k is not k
    assert (adds, transforms) == {
        "none": (False, False),
        "sinusoidal": (True, False),
        "learned": (True, False),
    }.get(name, (False, True))


def test_positions_of_their_own_for_every_sequence_give_what_each_would_get_alone(variant):
    name, options = variant
    torch.manual_seed(0)
    encoding = make_encoding(name, d_model=H * D_HEAD, heads=H, layers=2, train_shape=64, **options)
    x, (q, k, v) = torch.randn(2, L, H * D_HEAD), random_qkv()
    positions = torch.stack([column(L, start=3), column(L, start=20)])  # (B, L, 1)

    def run(rows, positions):
        embedded = encoding.embed(x[rows], positions, 27)
        return embedded, attend(
            *encoding.transform(q[rows], k[rows], encoding.prepare(positions), layer=1), v[rows]
        )

    together = run(slice(0, 2), positions)
    for b in range(2):
        for a, alone in zip(together, run(slice(b, b + 1), positions[b])):
            torch.testing.assert_close(a[b : b + 1], alone, atol=1e-4, rtol=1e-4)


def test_widths_fit_the_fused_kernels(variant):
    """Queries and keys are equally wide and never narrower than the values."""
    name, options = variant
    encoding = make_encoding(name, d_model=H * D_HEAD, heads=H, layers=2, train_shape=16, **options)
    q, k, _ = random_qkv()
    new_q, new_k = encoding.transform(q, k, encoding.prepare(column(L)), layer=0)
    assert (
        new_q.shape == new_k.shape and new_q.shape[:3] == q.shape[:3] and new_q.shape[-1] >= D_HEAD
    )


def test_make_encoding_knows_every_name_it_lists():
    for name in ENCODINGS:
        make_encoding(name, d_model=8, heads=2, layers=2, train_shape=16)


def test_seqpe_s_encoder_takes_the_options_of_the_encoding():
    encoding = make_encoding(
        "seqpe",
        d_model=8,
        heads=2,
        layers=3,
        train_shape=4,
        digits=7,
        base=2,
        encoder_layers=1,
        encoder_heads=4,
        causal=False,
    )
    assert (
        encoding.encoder.digits,
        encoding.encoder.base,
        len(encoding.encoder.blocks),
        encoding.encoder.blocks[0].heads,
    ) == (7, 2, 1, 4)
    assert not encoding.encoder.share_prefixes
