"""The language model with every encoding: one source of position, fused attention, generation."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from seqpe_lab import attention
from seqpe_lab.models.checkpoints import load_gpt2
from seqpe_lab.models.gpt2 import GPT2, GPT2Config

RELATIVE = ("none", "rope", "alibi", "rope-yarn", "liere", "xpos", "pope")


# --- position: where it comes from and what it does ---------------------------------------------


def test_shifting_all_positions_is_a_no_op_for_rope_alibi_and_nope_and_for_no_other(
    variant, tiny_model, tokens
):
    """App. A.5, on the logits of the whole model."""
    model = tiny_model(*variant)
    shifted = (model(tokens, start=100) - model(tokens, start=0)).abs().max()
    if variant[0] in RELATIVE:
        assert shifted < 2e-4
    else:
        assert shifted > 1e-2


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_an_encoding_changes_the_logits_in_training_and_in_evaluation(
    variant, training, tiny_model, tokens
):
    """The same main weights with and without it, with gradients and without."""
    encoding, options = variant
    model, plain = tiny_model(encoding, options), tiny_model("none")
    plain.transformer.load_state_dict(model.transformer.state_dict())
    model.train(training), plain.train(training)
    with nullcontext() if training else torch.no_grad():
        difference = (model(tokens) - plain(tokens)).abs().max()
    assert difference == 0 if encoding == "none" else difference > 1e-2


def test_training_and_evaluation_mode_give_the_same_logits_without_dropout(
    variant, tiny_model, tokens
):
    model = tiny_model(*variant)
    with torch.no_grad():
        evaluated = model(tokens)
    torch.testing.assert_close(model.train()(tokens), evaluated, atol=1e-4, rtol=1e-4)


@given(st.permutations(range(8)))
def test_without_an_encoding_the_last_token_does_not_see_the_order_of_those_before_it(
    tiny_model, tokens, order
):
    """With encoding="none" a one-layer model has no source of position at all.

    So a model with any other encoding has exactly one.
    """
    model = tiny_model("none", layers=1)
    shuffled = torch.cat([tokens[:, list(order)], tokens[:, 8:]], dim=1)
    torch.testing.assert_close(model(shuffled)[:, -1], model(tokens)[:, -1], atol=1e-4, rtol=1e-4)


def test_with_an_encoding_the_last_token_sees_the_order_of_those_before_it(
    variant, tiny_model, tokens
):
    model = tiny_model(*variant, layers=1)
    shuffled = torch.cat([tokens[:, :8].flip(1), tokens[:, 8:]], dim=1)
    difference = (model(shuffled)[:, -1] - model(tokens)[:, -1]).abs().max()
    assert difference < 1e-4 if variant[0] == "none" else difference > 1e-2


def test_nope_without_a_mask_is_permutation_equivariant(tiny_model, tokens, monkeypatch):
    monkeypatch.setattr(
        attention, "attend", lambda q, k, v, *_, **__: F.scaled_dot_product_attention(q, k, v)
    )
    model = tiny_model("none", layers=3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        model(tokens[:, order]), model(tokens)[:, order], atol=1e-4, rtol=1e-4
    )


def test_nope_with_the_mask_is_not(tiny_model, tokens):
    """Causal attention itself tells a deep model something about the order."""
    model, order = (
        tiny_model("none", layers=3),
        torch.randperm(9, generator=torch.Generator().manual_seed(0)),
    )
    assert (model(tokens[:, order]) - model(tokens)[:, order]).abs().max() > 1e-2


def test_a_later_token_changes_no_earlier_logits(variant, tiny_model, tokens):
    model = tiny_model(*variant)
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 23
    difference = (model(changed) - model(tokens)).abs().amax((0, 2))
    assert (difference[:6] < 1e-5).all() and difference[6] > 1e-3


def test_explicit_positions_mean_the_same_as_start(variant, tiny_model, tokens):
    model = tiny_model(*variant)
    torch.testing.assert_close(
        model(tokens, positions=torch.arange(3, 12).unsqueeze(-1)), model(tokens, start=3)
    )


@pytest.mark.parametrize("integration", ["sum", "mul", "bias"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "gru"},
        {"shared_projection": False},
        {"scaled": False},
        {"causal": False},
    ],
    ids=str,
)
def test_gradients_reach_every_parameter_of_the_encoder_and_w_pe(
    integration, options, tiny_model, tokens
):
    model = tiny_model("seqpe", {"integration": integration, "digits": 3, **options}).train()
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    silent = [
        name
        for name, p in model.encoding.named_parameters()
        if p.grad is None or p.grad.abs().max() < 1e-9
    ]
    assert not silent
    assert any("projections" in name for name, _ in model.encoding.named_parameters())


def test_the_paper_s_initialisation_gives_gradients_too(tokens):
    torch.manual_seed(0)
    model = GPT2(
        GPT2Config(
            vocab_size=23,
            d_model=16,
            layers=2,
            heads=2,
            train_len=12,
            max_position=200,
            dropout=0.0,
        )
    )
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


# --- no L x L matrix ----------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Watches every tensor that torch creates; keeps those whose last two axes reach ``length``."""

    def __init__(self, length):
        super().__init__()
        self.length, self.found, self.operations = length, [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations += 1
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.dim() >= 2
                and min(tensor.shape[-2:]) >= self.length
            ):
                self.found.append((str(function), tuple(tensor.shape)))
        return out


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_no_encoding_builds_an_l_by_l_tensor(variant, training, tiny_model):
    length = 512
    model = tiny_model(*variant, layers=1, max_position=1_000).train(training)
    tokens = torch.zeros(1, length, dtype=torch.long)
    with torch.set_grad_enabled(training), Largest(length) as seen:
        out = model(tokens)
        if training:
            out.sum().backward()
    assert seen.operations > 20
    assert not seen.found


@pytest.mark.parametrize("name", ["t5", "fire", "shaw", "deberta", "cope", "fox"])
def test_no_bias_does_either(name, tiny_model):
    test_no_encoding_builds_an_l_by_l_tensor((name, {}), True, tiny_model)


def test_the_watch_for_l_by_l_tensors_sees_one():
    q = torch.zeros(1, 1, 512, 4)
    with torch.no_grad(), Largest(512) as seen:
        (q @ q.transpose(-1, -2)).softmax(-1)
    assert [shape[-2:] for _, shape in seen.found] == [(512, 512)] * len(seen.found) and len(
        seen.found
    ) >= 2


# --- generation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 5, 90])
def test_cached_logits_equal_the_full_pass_from_any_start(variant, start, tiny_model, tokens):
    """Prompt, single tokens, a block of several; a learned table is stretched over all of them."""
    model = tiny_model(*variant)
    with torch.no_grad():
        full = model(tokens, start=start, context_len=start + 9)
        cache, parts = [], []
        for part in tokens.split([3, 1, 1, 4], dim=1):
            parts.append(model(part, start=start, cache=cache, context_len=start + 9))
    torch.testing.assert_close(torch.cat(parts, 1), full, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("start", [0, 7, 60])
def test_greedy_generation_with_the_cache_equals_generation_without(
    variant, start, tiny_model, tokens
):
    model = tiny_model(
        *variant
    )  # a learned table of 12 rows: start + 3 + 12 tokens reach beyond it
    prompt = tokens[:, :3]
    cached = model.generate(prompt, 12, start=start)
    assert cached.shape == (2, 15) and torch.equal(cached[:, :3], prompt)
    assert torch.equal(cached, model.generate(prompt, 12, start=start, use_cache=False))


def test_greedy_generation_takes_the_likeliest_token_of_the_full_pass(variant, tiny_model, tokens):
    model = tiny_model(*variant)
    out = model.generate(tokens[:, :4], 5)
    with torch.no_grad():
        logits = model(out[:, :-1], context_len=9)
    assert torch.equal(logits[:, 3:].argmax(-1), out[:, 4:])


def test_sampling_is_reproducible_and_top_1_is_greedy(tiny_model, tokens):
    model = tiny_model("rope")

    def sample(seed, **options):
        return model.generate(
            tokens[:, :3],
            20,
            temperature=1.0,
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))
    assert torch.equal(sample(0, top_k=1), model.generate(tokens[:, :3], 20))
    assert torch.equal(sample(0, top_k=10**6), sample(0))


@pytest.mark.parametrize("training", [True, False])
def test_generation_leaves_the_training_mode_as_it_was(training, tiny_model, tokens):
    model = tiny_model("rope").train(training)
    model.generate(tokens, 1)
    assert model.training is training


# --- shape and names ----------------------------------------------------------------------------


def gpt2_weights(d=16, layers=2, vocab=23, context=12, prefix=""):
    """Random weights in the names and shapes of GPT-2's own checkpoint, its buffers included."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "wte.weight": (vocab, d),
        "wpe.weight": (context, d),
        "ln_f.weight": (d,),
        "ln_f.bias": (d,),
    }
    for i in range(layers):
        shapes |= {
            f"h.{i}.{name}": shape
            for name, shape in {
                "ln_1.weight": (d,),
                "ln_1.bias": (d,),
                "ln_2.weight": (d,),
                "ln_2.bias": (d,),
                "attn.bias": (1, 1, context, context),
                "attn.c_attn.weight": (d, 3 * d),
                "attn.c_attn.bias": (3 * d,),
                "attn.c_proj.weight": (d, d),
                "attn.c_proj.bias": (d,),
                "mlp.c_fc.weight": (d, 4 * d),
                "mlp.c_fc.bias": (4 * d,),
                "mlp.c_proj.weight": (4 * d, d),
                "mlp.c_proj.bias": (d,),
            }.items()
        }
    return {
        prefix + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_gpt2_s_own_weights_load(prefix, tiny_model, tokens):
    weights, model = gpt2_weights(prefix=prefix), tiny_model("learned")
    load_gpt2(model, weights)
    assert torch.equal(model.encoding.table.weight, weights[prefix + "wpe.weight"])
    assert torch.equal(
        model.transformer.h[1].mlp.c_fc.weight, weights[prefix + "h.1.mlp.c_fc.weight"]
    )
    assert model(tokens).isfinite().all()


def test_gpt2_s_weights_load_under_another_encoding_without_its_position_table(tiny_model):
    model = tiny_model("seqpe", {"digits": 3})
    before = {name: value.clone() for name, value in model.encoding.state_dict().items()}
    load_gpt2(model, gpt2_weights())
    assert all(
        torch.equal(value, before[name]) for name, value in model.encoding.state_dict().items()
    )
    assert torch.equal(model.transformer.wte.weight, gpt2_weights()["wte.weight"])


def in_nanogpt_s_form(weights, biases):
    """nanoGPT's own checkpoint: nn.Linear's layout, names of a compiled model, in a dictionary."""
    weights = {n: v for n, v in weights.items() if biases or not n.endswith(".bias")}
    linear = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    named = {
        f"_orig_mod.transformer.{name}": value.T if name.endswith(linear) else value
        for name, value in weights.items()
    }
    named["_orig_mod.lm_head.weight"] = weights["wte.weight"]
    return {"model": named, "model_args": {"bias": biases}, "iter_num": 7, "optimizer": {}}


@pytest.mark.parametrize("biases", [True, False], ids=["biases", "no biases"])
def test_nanogpt_s_checkpoint_loads(biases, tiny_model, tokens):
    """Equal to transformers' GPT-2 with the exact GELU, which nanoGPT computes."""
    import transformers

    weights = gpt2_weights()
    checkpoint = in_nanogpt_s_form(weights, biases)
    config = transformers.GPT2Config(
        vocab_size=23, n_positions=12, n_embd=16, n_layer=2, n_head=2, activation_function="gelu"
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    own = {f"transformer.{n}": v for n, v in weights.items() if biases or not n.endswith(".bias")}
    own["lm_head.weight"] = weights["wte.weight"]
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(own[name]) if name in own else parameter.zero_()
        exact, approximate = (tiny_model("learned", gelu=gelu) for gelu in ("none", "tanh"))
        for model in (exact, approximate):
            load_gpt2(model, checkpoint)
        expected = theirs(tokens).logits
        torch.testing.assert_close(exact(tokens), expected, atol=2e-4, rtol=1e-4)
        assert (approximate(tokens) - expected).abs().max() > 1e-4
    load_gpt2(tiny_model("rope"), checkpoint)


def test_an_output_layer_of_its_own_is_refused_by_name(tiny_model):
    weights = gpt2_weights()
    for prefix in ("", "transformer."):
        named = {prefix + name: value for name, value in weights.items()}
        load_gpt2(tiny_model("learned"), named | {"lm_head.weight": weights["wte.weight"].clone()})
        with pytest.raises(ValueError, match="lm_head.weight differs.*output layer of its own"):
            load_gpt2(tiny_model("learned"), named | {"lm_head.weight": weights["wte.weight"] + 1})


def test_the_defaults_are_gpt2_small_with_seqpe_as_in_the_paper():
    config = GPT2Config()
    assert (config.vocab_size, config.d_model, config.layers, config.heads, config.train_len) == (
        50_257,
        768,
        12,
        12,
        512,
    )
    assert (config.max_position, config.dropout, config.encoding) == (20_000, 0.1, "seqpe")


def test_the_output_layer_is_tied_to_the_embedding(tiny_model):
    names = [name for name, _ in tiny_model("none").named_parameters()]
    assert "transformer.wte.weight" in names and not any("head" in name for name in names)


def test_dropout_acts_in_training_only(tiny_model, tokens):
    model = tiny_model("rope", dropout=0.5)
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))
