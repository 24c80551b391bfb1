"""Every encoding with a bias, and FoX, against other libraries' functions or their formulas."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call

from seqpe_lab import attention
from seqpe_lab.attention import positioned_attention, prepare
from seqpe_lab.digits import grid
from seqpe_lab.encodings import ENCODINGS, alibi_slopes, make_encoding
from seqpe_lab.encodings.distance_biases import PairMLP

B, H, D, L = 2, 2, 8, 7
SHAPE = dict(d_model=H * D, heads=H, layers=2)
CAUSAL = torch.ones(L, L, dtype=torch.bool).tril()
LAYER = 1
# name: (encoding, options, dims)
CASES = {
    "shaw": ("shaw", {"clip": 3}, 1),
    "t5": ("t5", {"buckets": 6, "max_distance": 5}, 1),
    "t5 two-sided": ("t5", {"buckets": 8, "max_distance": 5, "two_sided": True}, 1),
    "kerple-log": ("kerple-log", {}, 1),
    "kerple-log on a grid": ("kerple-log", {}, 2),
    "kerple-power": ("kerple-power", {}, 1),
    "fire": ("fire", {"threshold": 4.0}, 1),
    "sandwich": ("sandwich", {"features": 6}, 1),
    "sandwich on a grid": ("sandwich", {"features": 6}, 2),
    "alibi-euclidean": ("alibi-euclidean", {}, 2),
    "swin": ("swin", {}, 2),
    "swin, a sequence": ("swin", {}, 1),
    "swin-v2": ("swin-v2", {"hidden": 16}, 2),
    "cope": ("cope", {"max_count": 3}, 1),
    "deberta": ("deberta", {"span": 3}, 1),
    "fox": ("fox", {}, 1),
}


@pytest.fixture(autouse=True)
def blocks_of_three(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 3)


def make(case, train=None, **more):
    name, options, dims = CASES[case]
    torch.manual_seed(0)
    train = train or ((2, 4) if dims == 2 else 5)
    encoding = make_encoding(name, train_shape=train, dims=dims, **SHAPE, **options | more)
    for p in encoding.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return encoding


def inputs(length=L, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(B, length, H * D, generator=generator)
    q, k, v = torch.randn(3, B, H, length, D, generator=generator)
    return [t.requires_grad_() for t in (x, q, k, v)]


def run(encoding, x, q, k, v, positions, causal=True, past=None, mask=None):
    prepared = prepare(encoding, positions)
    return positioned_attention(
        encoding, prepared, LAYER, x, q, k, v, past, causal=causal, mask=mask
    )


# --- references: scores (B, H, L, L) before the causal mask, or their part that is added ----------


def pairs(b, positions):
    """A bias from b(head, i, j), for tuples of numbers i and j."""
    places = [tuple(p) for p in positions.tolist()]
    return torch.stack(
        [torch.stack([torch.stack([b(h, i, j) for j in places]) for i in places]) for h in range(H)]
    )


def shaw(encoding, x, q, k, positions):
    from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as theirs

    module = SimpleNamespace(
        left_max_position_embeddings=3,
        right_max_position_embeddings=3,
        distance_embedding=lambda which: encoding.vectors[LAYER][which],
        scaling=D**-0.5,
    )
    return theirs._apply_relative_key_position_encoding(module, q, k)[1]


def t5(encoding, x, q, k, positions):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        num_heads=H,
        d_kv=D,
        relative_attention_num_buckets=len(encoding.table.weight),
        relative_attention_max_distance=5,
        is_decoder=not encoding.two_sided,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    theirs.relative_attention_bias = encoding.table
    return theirs.compute_bias(L, L)


def kerple_log(encoding, x, q, k, positions):
    r = encoding.log_r[:, LAYER, :, 0, 0].exp()
    return pairs(lambda h, i, j: -r[0, h] * (1 + r[1, h] * math.dist(i, j)).log(), positions)


def kerple_power(encoding, x, q, k, positions):
    r = encoding.log_r[:, LAYER, :, 0, 0].exp()
    return pairs(
        lambda h, i, j: -r[0, h] * math.dist(i, j) ** r[1, h] if i != j else 0 * r[0, h], positions
    )


def fire(encoding, x, q, k, positions):
    c, threshold = encoding.c[LAYER].abs(), encoding.multiplier[LAYER].abs() * 4.0

    def b(h, i, j):
        share = (c * abs(i[0] - j[0])).log1p() / (c * max(threshold, i[0])).log1p()
        return encoding.mlps[LAYER](share.view(1))[h]

    return pairs(b, positions)


def sandwich(encoding, x, q, k, positions):
    """The product of two sinusoidal vectors, as the paper's appendix computes it."""
    t = torch.arange(3)
    angles = positions.unsqueeze(-1) / 10_000 ** (2 * t / 6)  # (L, n, D/2)
    vectors = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
    ratio = torch.arange(1, H + 1) * 8 / H
    return vectors @ vectors.T / ratio.view(-1, 1, 1)


def alibi_euclidean(encoding, x, q, k, positions):
    return pairs(lambda h, i, j: -alibi_slopes(H)[h] * math.dist(i, j), positions)


def swin(encoding, x, q, k, positions):
    from timm.layers import RelPosBias

    window = encoding.window if len(encoding.window) == 2 else (1, *encoding.window)
    theirs = RelPosBias(window, H)
    table = {"relative_position_bias_table": encoding.table[LAYER]}
    zero = torch.zeros(1, H, math.prod(window), math.prod(window))
    return functional_call(theirs, table, (zero,))


def swin_v2(encoding, x, q, k, positions):
    from timm.layers import RelPosMlp

    theirs = RelPosMlp((2, 4), H, hidden_dim=16, mode="swin")
    theirs.mlp.fc1, theirs.mlp.fc2 = encoding.mlps[LAYER].first, encoding.mlps[LAYER].last
    return theirs.eval().get_bias()


def cope(encoding, x, q, k, positions):
    e, rows = encoding.vectors[LAYER], []
    gates = (q @ k.transpose(-1, -2) / D**0.5).sigmoid()
    for i in range(L):
        cells = []
        for j in range(L):
            p = gates[:, :, i, j : i + 1].sum(-1).clamp(max=2.0)  # (B, H)
            low = p.detach().floor().long()
            high = (low + 1).clamp(max=2)
            vector = e[low] + (p - low).unsqueeze(-1) * (e[high] - e[low])
            cells.append((q[:, :, i] * vector).sum(-1))
        rows.append(torch.stack(cells, -1))
    return torch.stack(rows, -2)


def deberta(encoding, x, q, k, positions):
    """transformers' own terms; the content's score also gets their scale, 1/sqrt(3 d_head)."""
    from transformers.models.deberta import modeling_deberta

    Theirs = modeling_deberta.DisentangledSelfAttention
    both = torch.cat([t[LAYER].transpose(0, 1).flatten(1) for t in (encoding.r, encoding.s)], -1)
    module = SimpleNamespace(
        max_relative_positions=3,
        pos_att_type=["c2p", "p2c"],
        num_attention_heads=H,
        pos_proj=lambda e: e[..., : H * D],
        pos_q_proj=lambda e: e[..., H * D :].clone(),
    )
    module.transpose_for_scores = lambda t: Theirs.transpose_for_scores(module, t)
    scaled = q / (3 * D) ** 0.5
    gap = modeling_deberta.build_relative_position(q, k)
    terms = Theirs.disentangled_att_bias(module, scaled, k, gap, both, scale_factor=3)
    return scaled @ k.transpose(-1, -2) + terms - q @ k.transpose(-1, -2) / D**0.5


def fox(encoding, x, q, k, positions):
    forget = encoding.gates[LAYER](x).sigmoid()  # (B, L, H)
    rows = [
        torch.stack([forget[:, j + 1 : i + 1].prod(1).log() for j in range(L)], -1)
        for i in range(L)
    ]
    return torch.stack(rows, -2)


REFERENCES = {
    "t5 two-sided": t5,
    "kerple-log on a grid": kerple_log,
    "sandwich on a grid": sandwich,
    "swin, a sequence": swin,
} | {
    case: globals()[case.replace("-", "_")]
    for case in CASES
    if case.replace("-", "_").isidentifier()
}


@pytest.mark.parametrize("case", CASES)
def test_it_equals_its_reference_in_value_and_gradient(case):
    name, _, dims = CASES[case]
    length = 8 if dims == 2 else L
    positions = grid(2, 4) if dims == 2 else grid(L)
    causal = dims == 1 and "two-sided" not in case
    allowed = CAUSAL if causal else torch.ones(length, length, dtype=torch.bool)
    train = (2, 4) if dims == 2 else L
    encoding, results = make(case, train), []
    for by_reference in (False, True):
        x, q, k, v = inputs(length)
        if by_reference:
            scores = q @ k.transpose(-1, -2) / D**0.5
            scores = scores + REFERENCES[case](encoding, x, q, k, positions)
            out = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
        else:
            out, _ = run(encoding, x, q, k, v, positions, causal)
        wanted = [q, k, v, *encoding.parameters()] + [x] * (name == "fox")
        gradients = torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)
        results.append([out, *gradients])
    for ours, theirs in zip(*results):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
            assert ours.abs().max() > 0


def test_cope_equals_x_transformers():
    theirs = pytest.importorskip("x_transformers.x_transformers", reason="needs x-transformers")
    encoding, (_, q, k, _) = make("cope"), inputs()
    module = theirs.CoPE(D, H, 3)
    module.pos_emb = nn.Parameter(encoding.vectors[LAYER].detach())
    logits = q @ k.transpose(-1, -2) / D**0.5
    expected = module(q, logits.masked_fill(~CAUSAL, torch.finfo(logits.dtype).min))
    ours = encoding.content_bias(q, k, grid(L), grid(L), CAUSAL, LAYER)
    torch.testing.assert_close(ours.masked_fill(~CAUSAL, 0), expected.masked_fill(~CAUSAL, 0))


def test_fox_equals_fla_s():
    naive = pytest.importorskip("fla.ops.forgetting_attn.naive", reason="needs fla")
    encoding, (x, q, k, v) = make("fox"), inputs()
    log_f = nn.functional.logsigmoid(encoding.gates[LAYER](x))
    rows = [t.transpose(1, 2) for t in (q, k, v)]
    expected = naive.naive_forgetting_attn(*rows, log_f).transpose(1, 2)
    out, _ = run(encoding, x, q, k, v, grid(L))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


# --- identities ----------------------------------------------------------------------------------


def out_of(encoding, positions=None, length=L, causal=True):
    x, q, k, v = inputs(length)
    return run(encoding, x, q, k, v, grid(length) if positions is None else positions, causal)[0]


def test_t5_with_one_bucket_is_nope():
    nope = make_encoding("none", train_shape=5, **SHAPE)
    torch.testing.assert_close(out_of(make("t5", buckets=1)), out_of(nope))


def test_fox_with_constant_gates_is_alibi():
    fox = make("fox")
    for gate in fox.gates:
        nn.init.zeros_(gate.weight)
        gate.bias.data = -(alibi_slopes(H).exp() - 1).log()  # log sigmoid(b) = -m
    alibi = make_encoding("alibi", train_shape=5, **SHAPE)
    torch.testing.assert_close(out_of(fox), out_of(alibi), atol=1e-5, rtol=1e-5)


def test_euclidean_alibi_on_a_sequence_is_alibi():
    alibi, euclidean = (
        make_encoding(name, train_shape=5, **SHAPE) for name in ("alibi", "alibi-euclidean")
    )
    torch.testing.assert_close(out_of(euclidean), out_of(alibi), atol=1e-5, rtol=1e-5)


def test_swin_on_one_row_is_t5_with_a_bucket_for_each_distance():
    swin, t5 = make("swin", (1, L)), make("t5", buckets=4 * L, max_distance=8 * L, two_sided=True)
    for distance in range(-(L - 1), L):  # query minus key, as Swin counts
        bucket = abs(distance) + (2 * L if distance < 0 else 0)
        t5.table.weight.data[bucket] = swin.table[LAYER, distance + L - 1].detach()
    row = out_of(swin, grid(1, L), causal=False)
    torch.testing.assert_close(row, out_of(t5, causal=False), atol=1e-5, rtol=1e-5)


def test_swin_takes_the_edge_of_its_table_for_larger_distances():
    encoding = make("swin", (2, 4))
    bias = encoding.bias(torch.tensor([[0, 0]]), torch.tensor([[1, 3], [9, 3], [1, 30]]), LAYER)
    assert torch.equal(bias, bias[..., :1].expand_as(bias))


# --- positions, caches, masks --------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_shift_of_all_positions_changes_nothing_unless_positions_are_absolute(case):
    name, _, dims = CASES[case]
    positions, length = (grid(2, 4), 8) if dims == 2 else (grid(L), L)
    encoding = make(case)
    here, there = (out_of(encoding, p, length, dims == 1) for p in (positions, positions + 40))
    assert torch.allclose(here, there, atol=1e-5) == (name != "fire")


@pytest.mark.parametrize("case", CASES)
def test_positions_of_their_own_give_what_each_sequence_would_get_alone(case):
    dims = CASES[case][2]
    one, length = (grid(2, 4), 8) if dims == 2 else (grid(L), L)
    encoding, (x, q, k, v) = make(case), inputs(length)
    positions = torch.stack([one, 3 * one + 5])
    together, _ = run(encoding, x, q, k, v, positions, dims == 1)
    for b in range(2):
        own = [t[b : b + 1] for t in (x, q, k, v)]
        alone, _ = run(encoding, *own, positions[b], dims == 1)
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-5, rtol=1e-5)
    if ENCODINGS[CASES[case][0]].relative:  # each difference once, or each pair: the same
        encoding.relative = False
        torch.testing.assert_close(run(encoding, x, q, k, v, positions, dims == 1)[0], together)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2] == 1])
def test_cached_padded_and_packed_sequences_give_what_they_give_alone(case):
    encoding, (x, q, k, v) = make(case), inputs()
    positions = grid(L) + 2
    whole, _ = run(encoding, x, q, k, v, positions)
    past, parts = None, []
    for part in (slice(0, 2), slice(2, 6), slice(6, 7)):
        new = [x[:, part], *(t[:, :, part] for t in (q, k, v))]
        out, past = run(encoding, *new, positions[part], past=past)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, -2), whole, atol=1e-5, rtol=1e-5)
    # two texts in one row, the first with three tokens of padding before it
    text = torch.tensor([9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    mask = ((text.unsqueeze(-1) == text) & (text != 9)).unsqueeze(0)
    packed = torch.cat([torch.zeros(3, 1).long(), positions, positions[:4]])
    pick = [0, 0, 0, *range(L), *range(4)]
    rows = [x[:, pick], *(t[:, :, pick] for t in (q, k, v))]
    out, _ = run(encoding, *rows, packed, mask=mask)
    torch.testing.assert_close(out[:, :, 3 : 3 + L], whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out[:, :, 3 + L :], whole[:, :, :4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case != "t5 two-sided"])
def test_it_works_in_the_models_and_every_parameter_learns(case, tiny_model, tiny_vit):
    name, options, dims = CASES[case]
    if dims == 2:
        # without [CLS], which has no bias, and whose row alone counts in the last layer
        without = dict(class_token=False, global_pool="avg")
        model, batch = tiny_vit(name, options, gain=2.0, **without), torch.randn(2, 3, 16, 12)
    else:
        model, batch = tiny_model(name, options), torch.randint(23, (2, 9))
        text = model.generate(batch, 4, start=20)
        assert torch.equal(text, model.generate(batch, 4, start=20, use_cache=False))
    model.train()(batch).square().mean().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    assert all(p.grad.abs().max() > 0 for p in model.encoding.parameters())


@pytest.mark.parametrize("case", [case for case in CASES if case != "t5 two-sided"])
def test_in_bfloat16_it_is_the_bias_of_the_rounded_weights(case):
    """A model in half precision, and one under autocast, whose biases are float32."""
    dims = CASES[case][2]
    length = 8 if dims == 2 else L
    positions = grid(2, 4) if dims == 2 else grid(L)
    encoding = make(case)
    x, q, k, v = (t.detach().bfloat16() for t in inputs(length))
    encoding.bfloat16().float()  # its weights, rounded
    whole, _ = run(encoding, *(t.float() for t in (x, q, k, v)), positions, dims == 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = run(encoding, x, q, k, v, positions, dims == 1)
    half, _ = run(encoding.bfloat16(), x, q, k, v, positions, dims == 1)
    for out in (mixed, half):
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), whole, atol=0.03, rtol=0.03)


def test_fox_keeps_its_sums_exact_in_bfloat16():
    encoding, length = make("fox"), 600
    x = torch.randn(1, length, H * D)
    q, v = torch.zeros(2, 1, H, length, D, dtype=torch.bfloat16)
    total = encoding.at_layer(None, x, LAYER)
    wide_q, wide_k = encoding.transform(q, q, total, LAYER)
    assert wide_k.dtype == torch.bfloat16 and wide_q.shape[-1] % 8 == 0
    features = (wide_q.float() * wide_k.float()).sum(-1, keepdim=True)
    torch.testing.assert_close(features, total, atol=0, rtol=2**-22)


def test_fox_says_that_it_needs_the_hidden_state():
    q = torch.zeros(B, H, L, D)
    with pytest.raises(TypeError, match="hidden state of the layer: call at_layer before"):
        make("fox").transform(q, q, make("fox").prepare(grid(L)), LAYER)


REFUSED = [
    ("t5", {"buckets": 0}, "0 buckets up to distance 128: at least 1"),
    ("t5", {"max_distance": 16}, "32 buckets up to distance 16: .* max_distance above 16"),
    ("t5", {"buckets": 1, "two_sided": True}, "1 buckets"),
    ("shaw", {"clip": -1}, "clip must be at least 0 tokens, got -1"),
    ("deberta", {"span": 0}, "span must be at least 1 token, got 0"),
    ("cope", {"max_count": 0}, "max_count must be at least 1, got 0"),
    ("sandwich", {"features": 7}, "features come in pairs of sine and cosine: 7 must be even"),
    *(
        (name, {"dims": 2}, "n=2|a grid does not have")
        for name in ("t5", "fire", "shaw", "deberta", "cope", "fox")
    ),
]


@pytest.mark.parametrize("name, options, message", REFUSED)
def test_what_it_cannot_do_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_encoding(name, train_shape=5, **SHAPE, **options)


@pytest.mark.parametrize("name", ["t5", "shaw"])
def test_a_compiled_model_with_a_bias_is_one_graph_and_computes_the_same(name, tiny_model):
    model, tokens, graphs = tiny_model(name, layers=1), torch.randint(23, (2, 9)), []
    results = []
    for compiled in (False, True):
        if compiled:
            torch._dynamo.reset()
            keep = lambda graph, _: graphs.append(graph) or graph  # noqa: E731
            model.run_layers = torch.compile(model.run_layers, backend=keep)
        model.zero_grad()
        out = model(tokens)
        out.square().mean().backward()
        results.append([out.detach(), *(p.grad.clone() for p in model.parameters())])
    for eager, other in zip(*results):
        torch.testing.assert_close(other, eager, atol=1e-5, rtol=1e-5)
    assert len(graphs) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_of_one_number_is_looked_up_piece_by_piece(dtype):
    torch.manual_seed(0)
    mlp = PairMLP(1, 32, 3).to(dtype)
    with torch.no_grad():
        mlp.first.weight[3], mlp.first.weight[4], mlp.first.bias[4] = 0, 0, -1  # never bend
    x = (3 * torch.rand(50, 40, dtype=dtype)).requires_grad_()
    outs = [mlp(x.unsqueeze(-1)), mlp.of_number(x)]
    given = torch.randn_like(outs[0])
    both = [torch.autograd.grad(out, [x, *mlp.parameters()], given) for out in outs]
    torch.testing.assert_close(outs[1], outs[0])
    for ours, theirs in zip(*reversed(both)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
