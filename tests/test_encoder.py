"""The sequential position encoder, its prefix tree and its table (SeqPE, Sec. 3.2, 3.5, Eq. 8)."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqpe_lab.digits import grid, to_digits
from seqpe_lab.encoder import PositionEncoder
from seqpe_lab.prefix_tree import prefix_tree


def make_encoder(d_model=16, *, digits=3, heads=2, gain=8.0, seed=0, **options) -> PositionEncoder:
    """An encoder whose weights are large enough that a wrong one is seen."""
    torch.manual_seed(seed)
    encoder = PositionEncoder(d_model, digits=digits, heads=heads, **options)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def independent_encoder(
    ours: PositionEncoder, positions: torch.Tensor, causal: bool
) -> torch.Tensor:
    """Sec. 3.2 once more, written with torch's own Transformer layers."""
    d, k, n = ours.d_model, ours.digits, ours.dims
    rows = []
    for i in range(n):
        for j in range(k):
            place = ours.place.weight[j] + (
                0 if ours.dimension is None else ours.dimension.weight[i]
            )
            rows.append(
                ours.token(to_digits(positions, k, ours.base)[:, i * k + j]) + place
            )  # U = T + O + D
    x = torch.stack(
        [*rows, ours.token.weight[-1].expand(len(positions), d)], dim=1
    )  # U (+) T_[CLS]
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if causal else None
    for block in ours.blocks:
        layer = nn.TransformerEncoderLayer(
            d,
            block.heads,
            4 * d,
            dropout=0.0,
            norm_first=True,
            batch_first=True,
            activation=lambda t: F.gelu(t, approximate="tanh"),
        )
        names = {
            "self_attn.in_proj_weight": block.qkv.weight,
            "self_attn.in_proj_bias": block.qkv.bias,
            "self_attn.out_proj.weight": block.proj.weight,
            "self_attn.out_proj.bias": block.proj.bias,
            "linear1.weight": block.mlp[0].weight,
            "linear1.bias": block.mlp[0].bias,
            "linear2.weight": block.mlp[2].weight,
            "linear2.bias": block.mlp[2].bias,
            "norm1.weight": block.ln_1.weight,
            "norm1.bias": block.ln_1.bias,
            "norm2.weight": block.ln_2.weight,
            "norm2.bias": block.ln_2.bias,
        }
        layer.load_state_dict(names)
        x = layer(x, src_mask=mask)
    return ours.out(ours.ln_f(x[:, -1]))


@pytest.mark.parametrize("dims, causal", [(1, True), (2, True), (3, True), (2, False)])
def test_eq_8_equals_an_independent_transformer(dims, causal):
    encoder = make_encoder(dims=dims, causal=causal)
    positions = torch.randint(1_000, (30, dims), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        encoder(positions), independent_encoder(encoder, positions, causal), atol=1e-5, rtol=1e-5
    )


def test_eq_8_reads_the_sum_of_three_embeddings_and_bare_cls():
    encoder = make_encoder(digits=2, dims=2)
    u = encoder.embed(torch.tensor([[0, 2, 0, 3, 10]]), torch.arange(5).unsqueeze(0))[0]
    for place, (digit, j, i) in enumerate(
        [(0, 0, 0), (2, 1, 0), (0, 0, 1), (3, 1, 1)]
    ):  # the patch (2, 3)
        torch.testing.assert_close(
            u[place],
            encoder.token.weight[digit] + encoder.place.weight[j] + encoder.dimension.weight[i],
        )
    assert torch.equal(u[4], encoder.token.weight[10])


@pytest.mark.parametrize("base, digits, dims", [(10, 5, 1), (10, 2, 2), (2, 14, 3)])
def test_it_needs_b_plus_1_plus_k_plus_n_embeddings(base, digits, dims):
    encoder = PositionEncoder(8, digits=digits, base=base, dims=dims, heads=2)
    assert encoder.token.num_embeddings == base + 1
    assert encoder.place.num_embeddings == digits
    assert (
        encoder.dimension is None if dims == 1 else encoder.dimension.num_embeddings == dims
    )  # App. A.1: D = 0 in one dimension


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
@given(data=st.data())
def test_the_prefix_tree_gives_what_whole_sequences_give(architecture, data):
    dims, digits, base = (
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 4)),
        data.draw(st.integers(2, 11)),
    )
    encoder = make_encoder(
        8,
        dims=dims,
        digits=digits,
        base=base,
        architecture=architecture,
        layers=data.draw(st.integers(1, 3)),
    )
    one = st.lists(st.integers(0, base**digits - 1), min_size=dims, max_size=dims)
    positions = torch.tensor(data.draw(st.lists(one, min_size=1, max_size=12)))
    shared = encoder(positions)
    encoder.share_prefixes = False
    torch.testing.assert_close(shared, encoder(positions), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["transformer", "gru"])
def test_the_prefix_tree_gives_the_same_gradients(architecture):
    encoder = make_encoder(dims=2, digits=2, architecture=architecture)
    positions = torch.randint(100, (40, 2), generator=torch.Generator().manual_seed(0))
    weights = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    gradients = []
    for share in (True, False):
        encoder.share_prefixes = share
        encoder.zero_grad()
        (encoder(positions) * weights).sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    for ours, plain in zip(*gradients):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_shared_prefixes_need_no_fused_attention(monkeypatch):
    """The number of nodes changes at every step; some kernels would be planned anew for each."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    make_encoder()(grid(30)).sum().backward()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_large_base_has_too_many_symbols_for_all_scores_at_once(layers, monkeypatch):
    encoder = make_encoder(base=300, digits=2, layers=layers)
    monkeypatch.setattr("seqpe_lab.prefix_tree._first_layer", None)
    positions = torch.arange(0, 90_000, 307).unsqueeze(-1)
    shared = encoder(positions)
    encoder.share_prefixes = False
    torch.testing.assert_close(shared, encoder(positions), atol=2e-5, rtol=1e-5)


def test_0_to_4095_at_five_digits_are_4553_prefixes_and_4096_cls():
    sequences = F.pad(to_digits(grid(4096), 5), (0, 1), value=10)
    tree = prefix_tree(sequences)
    assert tree.place.bincount().tolist() == [1, 5, 41, 410, 4096, 4096]
    assert len(tree.token) == 4553 + 4096


@given(st.sets(st.integers(0, 999), min_size=1, max_size=30))
def test_the_tree_holds_each_distinct_prefix_once_and_leads_back_to_every_sequence(positions):
    sequences = to_digits(torch.tensor(sorted(positions)).unsqueeze(-1), digits=3)
    tree = prefix_tree(sequences)
    assert tree.token[tree.complete].tolist() == sequences.tolist()
    for level in range(3):
        at_level = tree.place == level
        path = tree.path[at_level]
        prefixes = [tuple(tree.token[row].tolist()) for row in path[:, : level + 1]]
        assert prefixes == sorted({tuple(s[: level + 1]) for s in sequences.tolist()})
        assert (tree.place[path[:, : level + 1]] == torch.arange(level + 1)).all()
        assert (path[:, level:] == at_level.nonzero()).all()  # the node itself fills the rest


def test_duplicates_are_computed_once_and_come_out_identical(monkeypatch):
    encoder, seen = make_encoder(), []
    original = encoder.encode_shared
    monkeypatch.setattr(
        encoder,
        "encode_shared",
        lambda sequences: seen.append(len(sequences)) or original(sequences),
    )
    vectors = encoder(torch.tensor([[7], [123], [7], [7]]))
    assert seen == [2]
    assert torch.equal(vectors[0], vectors[2]) and torch.equal(vectors[0], vectors[3])


@given(st.permutations(range(12)))
def test_the_vector_of_a_position_does_not_depend_on_its_place_in_the_batch(order):
    encoder, positions = make_encoder(), torch.arange(12).unsqueeze(-1) * 83
    torch.testing.assert_close(encoder(positions[list(order)]), encoder(positions)[list(order)])


def test_different_positions_get_different_vectors():
    vectors = make_encoder()(grid(1000))
    assert torch.pdist(vectors.detach()).min() > 1e-3


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 2, 2)])
def test_leading_axes_are_kept(shape):
    encoder = make_encoder(dims=2)
    assert encoder(torch.zeros(*shape, 2, dtype=torch.long)).shape == (*shape, 16)


def test_a_single_position_without_leading_axes_gives_a_single_vector():
    encoder = make_encoder(dims=2)
    assert torch.equal(encoder(torch.tensor([2, 3])), encoder(torch.tensor([[2, 3]]))[0])


def test_a_gru_takes_no_heads():
    assert PositionEncoder(6, digits=2, architecture="gru", heads=4)(torch.tensor([[7]])).shape == (
        1,
        6,
    )


def test_a_bidirectional_encoder_takes_the_plain_path():
    assert not PositionEncoder(8, heads=2, causal=False).share_prefixes


@pytest.mark.parametrize(
    "options",
    [{}, {"architecture": "gru"}, {"dims": 3}, {"causal": False}, {"share_prefixes": False}],
)
def test_gradients_reach_every_parameter(options):
    encoder = make_encoder(**options)
    vectors = encoder(
        torch.randint(1_000, (20, encoder.dims), generator=torch.Generator().manual_seed(0))
    )
    (vectors * torch.randn(20, 16, generator=torch.Generator().manual_seed(1))).sum().backward()
    silent = [
        name
        for name, p in encoder.named_parameters()
        if p.grad is None or p.grad.abs().max() < 1e-7
    ]
    assert not silent
