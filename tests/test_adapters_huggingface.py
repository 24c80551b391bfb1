"""Encodings in transformers: against their own RoPE, BLOOM's ALiBi and the lab's GPT-2."""

import copy
from pathlib import Path

import fork_server
import pytest
import torch
from safetensors.torch import load_model
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from seqpe_lab.adapters.huggingface import install
from seqpe_lab.encodings import make_encoding
from seqpe_lab.models import gpt2 as lab
from seqpe_lab.models.checkpoints import load_gpt2

D_MODEL, HEADS, LAYERS, VOCAB = 24, 4, 2, 50
SEQPE = {"digits": 3, "projection_std": 0.2}
ENCODINGS = {
    "none": ("none", {}),
    "sinusoidal": ("sinusoidal", {}),
    "learned": ("learned", {}),
    "rope": ("rope", {}),
    "rope-half": ("rope", {"pairing": "half", "base": 1e6}),
    "rope-mixed": ("rope-mixed", {}),
    "rope-yarn": ("rope-yarn", {"factor": 2}),
    "pope": ("pope", {}),
    "alibi": ("alibi", {}),
    "seqpe-sum": ("seqpe", SEQPE | {"integration": "sum"}),
    "seqpe-mul": (
        "seqpe",
        SEQPE | {"integration": "mul", "shared_projection": False, "projection_bias": 1.0},
    ),
    "seqpe-bias": ("seqpe", SEQPE | {"integration": "bias"}),
    "a bias": (f"{Path(__file__).parent}/outside_encoding.py:Fading", {"strength": 1.5}),
}
IDS = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
LLAMA_SHAPE = IDS | {
    "hidden_size": D_MODEL,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e3},
    "initializer_range": 0.2,
}
LIKE_LLAMA = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama, grouped": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 2}),
    "llama, wide heads": (LlamaConfig, LlamaForCausalLM, {"head_dim": 10}),
    "mistral, window": (MistralConfig, MistralForCausalLM, {"head_dim": 6, "sliding_window": 4}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8, "num_key_value_heads": 1}),
}


def encoding(name, d_model=D_MODEL, heads=HEADS, **options):
    method, own = ENCODINGS[name]
    torch.manual_seed(1)
    return make_encoding(
        method, d_model=d_model, heads=heads, layers=LAYERS, train_shape=16, **own | options
    )


def gpt2(heads=HEADS, **options):
    torch.manual_seed(0)
    config = GPT2Config(
        **IDS,
        n_embd=D_MODEL,
        n_head=heads,
        n_layer=LAYERS,
        n_positions=64,
        initializer_range=0.2,
        **options,
    )
    return GPT2LMHeadModel(config).eval()


def llama(kind="llama", **options):
    config, model, own = LIKE_LLAMA[kind]
    torch.manual_seed(0)
    return model(config(**LLAMA_SHAPE | own | options)).eval()


def installed_rope(kind="llama"):
    model = llama(kind)
    heads, d_head = HEADS, model.base_model.layers[0].self_attn.head_dim
    rope = encoding("rope-half", d_model=heads * d_head, base=5e3)
    return install(model, rope)


MODELS = {
    "gpt2": lambda name: install(gpt2(), encoding(name)),
    "llama": lambda name: install(llama(), encoding(name)),
    "llama, grouped": lambda name: install(llama("llama, grouped"), encoding(name)),
}


@pytest.fixture(params=MODELS)
def model_with(request):
    return MODELS[request.param]


@pytest.fixture
def tokens():
    return torch.randint(1, VOCAB, (2, 9), generator=torch.Generator().manual_seed(3))


def padded(tokens, side, count=4):
    """(B, count + L) with ``count`` tokens of padding in the first row, and the attention mask."""
    pad, more = torch.zeros(count, dtype=torch.long), torch.arange(1, count + 1)
    rows = [[tokens[0], pad], [tokens[1], more]]
    if side == "left":
        rows = [row[::-1] for row in rows]
    batch = torch.stack([torch.cat(row) for row in rows])
    mask = torch.ones_like(batch)
    mask[0] = (batch[0] != 0).long()
    return batch, mask


def close(ours, theirs, atol=1e-5):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-5)


# --- independent references ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", LIKE_LLAMA)
@torch.no_grad()
def test_our_rope_in_place_of_their_own_gives_their_logits(kind, tokens):
    theirs, ours = llama(kind), installed_rope(kind)
    close(ours(tokens).logits, theirs(tokens).logits)
    close(ours(tokens, use_cache=False).logits, theirs(tokens).logits)
    shifted = tokens.new_tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13, 14, 15, 16, 17, 18, 19]])
    close(ours(tokens, position_ids=shifted).logits, theirs(tokens, position_ids=shifted).logits)


@pytest.mark.parametrize("kind", LIKE_LLAMA)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@torch.no_grad()
def test_our_rope_generates_as_their_own_from_a_batch_padded_on_the_left(kind, cache, tokens):
    batch, mask = padded(tokens, "left")
    options = dict(
        attention_mask=mask,
        max_new_tokens=6,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        cache_implementation=cache if cache == "static" else None,
    )
    ours = installed_rope(kind).generate(batch, **options)
    theirs = llama(kind).generate(batch, **options)
    assert torch.equal(ours.sequences, theirs.sequences)
    close(torch.stack(ours.logits), torch.stack(theirs.logits), atol=2e-5)


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("heads", [4, 6])
@torch.no_grad()
def test_alibi_in_gpt2_has_bloom_s_biases(heads, side, tokens):
    """The reference: GPT-2 without positions, BLOOM's biases and the causal mask added."""
    batch, mask = padded(tokens, side) if side else (tokens, torch.ones_like(tokens))
    theirs = gpt2(heads, attn_implementation="eager")
    theirs.transformer.wpe.weight.zero_()
    length = batch.shape[1]
    allowed = torch.ones(length, length).tril().bool() & mask.bool()[:, None, None]
    biases = build_alibi_tensor(mask, heads, torch.float32).view(len(batch), heads, 1, length)
    biases = torch.where(allowed, biases, torch.finfo(torch.float32).min)
    ours = install(gpt2(heads), encoding("alibi", heads=heads))
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = ours(batch, attention_mask=mask, position_ids=position_ids).logits
    real = mask.bool()
    close(logits[real], theirs(batch, attention_mask=biases).logits[real])
    assert (logits - theirs(batch).logits).abs().max() > 1e-2


def lab_model(model, name, dropout=0.0):
    """The lab's own GPT-2 with the weights of ``model``."""
    method, options = ENCODINGS[name]
    ours = lab.GPT2(
        lab.GPT2Config(VOCAB, D_MODEL, LAYERS, HEADS, 16, 900, dropout, method, options)
    ).eval()
    weights = {k: v for k, v in model.state_dict().items() if "position_encoding" not in k}
    if name == "learned":
        weights["wpe.weight"] = model.transformer.position_encoding.table.weight
    load_gpt2(ours, weights)
    ours.encoding.load_state_dict(model.transformer.position_encoding.state_dict())
    return ours


@pytest.mark.parametrize("length", [9, 40], ids=["trained context", "longer"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_gpt2_with_any_encoding_equals_the_lab_s_own(name, length):
    tokens = torch.randint(VOCAB, (2, length))
    model = install(gpt2(), encoding(name))
    ours = lab_model(model, name)
    close(model(tokens, use_cache=False).logits, ours(tokens))
    with torch.no_grad():
        close(model(tokens).logits, ours(tokens))
        shifted = torch.arange(length).unsqueeze(0) + 100
        close(model(tokens, position_ids=shifted).logits, ours(tokens, start=100))


@pytest.mark.parametrize("name", ENCODINGS)
def test_with_dropout_it_trains_as_the_lab_s_own(name, tokens):
    rates = dict(embd_pdrop=0.2, attn_pdrop=0.2, resid_pdrop=0.2)
    model = install(gpt2(**rates), encoding(name)).train()
    ours = lab_model(model, name, dropout=0.2).train()
    torch.manual_seed(5)
    theirs = model(tokens).logits
    torch.manual_seed(5)
    close(theirs, ours(tokens))
    assert (theirs - model.eval()(tokens).logits).abs().max() > 1e-3


@torch.no_grad()
def test_an_encoding_of_grouped_heads_acts_as_with_their_keys_repeated(tokens):
    """The reference has a key and a value projection for each query head, alike within a group."""
    grouped = llama("llama, grouped")
    whole = llama()
    weights = grouped.state_dict()
    for name in [n for n in weights if "k_proj" in n or "v_proj" in n]:
        heads = weights[name].unflatten(0, (2, D_MODEL // HEADS))
        weights[name] = heads.repeat_interleave(2, 0).flatten(0, 1)
    whole.load_state_dict(weights)
    for name in ("alibi", "seqpe-sum", "seqpe-mul", "seqpe-bias"):
        install(grouped, encoding(name)), install(whole, encoding(name))
        close(grouped(tokens).logits, whole(tokens).logits)
        close(grouped(tokens, use_cache=False).logits, whole(tokens).logits)


# --- padding, cache, generation -----------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ENCODINGS)
@torch.no_grad()
def test_padding_does_not_matter(name, side, model_with, tokens):
    model = model_with(name)
    batch, mask = padded(tokens, side)
    position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
    alone = model(tokens[:1]).logits[0]
    if name == "learned":  # its table has rows for all of this context: nothing is stretched
        assert batch.shape[1] <= 16
    for use_cache in (True, False):
        logits = model(
            batch, attention_mask=mask, position_ids=position_ids, use_cache=use_cache
        ).logits
        assert logits.isfinite().all()
        close(logits[0][mask[0].bool()], alone)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ENCODINGS)
@torch.no_grad()
def test_generation_with_a_cache_equals_generation_without(name, beams, model_with, tokens):
    model = model_with(name)
    batch, mask = padded(tokens[:, :6], "left", count=3)
    options = dict(attention_mask=mask, max_new_tokens=6, do_sample=False, num_beams=beams)
    with_cache = model.generate(batch, **options)
    without = model.generate(batch, **options, use_cache=False)
    assert torch.equal(with_cache, without)
    if beams == 1:
        static = model.generate(batch, **options, cache_implementation="static")
        assert torch.equal(with_cache, static)


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ENCODINGS)
@torch.no_grad()
def test_a_cached_prefix_gives_the_logits_of_the_whole(name, model_with, tokens):
    model = model_with(name)
    whole = model(tokens).logits
    first = model(tokens[:, :4], use_cache=True)
    second = model(tokens[:, 4:8], cache=first.cache, use_cache=True)  # several tokens at once
    third = model.base_model(tokens[:, 8:], past_key_values=second.cache, use_cache=True)
    ours = torch.cat([first.logits, second.logits, model.lm_head(third.last_hidden_state)], dim=1)
    close(ours, whole)


@torch.no_grad()
def test_embeddings_in_place_of_tokens_give_the_same_logits(model_with, tokens):
    for name in ("seqpe-bias", "sinusoidal"):
        model = model_with(name)
        embeddings = model.get_input_embeddings()(tokens)
        assert torch.equal(model(inputs_embeds=embeddings).logits, model(tokens).logits)


# --- one source of position ---------------------------------------------------------------------


@torch.no_grad()
def test_without_an_encoding_no_position_of_the_model_s_own_is_left(tokens):
    """GPT-2 with a table of zeros, and Llama whose tokens all stand at position 0."""
    table = gpt2()
    table.transformer.wpe.weight.zero_()
    ours = install(gpt2(), encoding("none"))
    close(ours(tokens).logits, table(tokens).logits)
    assert not [name for name in ours.state_dict() if "wpe" in name]
    nowhere = dict(attention_mask=torch.ones_like(tokens), position_ids=torch.zeros_like(tokens))
    ours = install(llama(), encoding("none"))
    close(ours(tokens).logits, llama()(tokens, **nowhere).logits)


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name != "none"])
@torch.no_grad()
def test_every_other_encoding_changes_the_logits_and_a_second_install_replaces_it(
    name, model_with, tokens
):
    model = model_with(name)
    logits = model(tokens).logits
    plain = install(model, encoding("none"))
    assert plain is model and (model(tokens).logits - logits).abs().max() > 1e-3
    assert not [key for key in model.state_dict() if "position_encoding" in key]
    assert torch.equal(install(model, encoding(name))(tokens).logits, logits)


@torch.no_grad()
def test_positions_do_not_silently_vanish_with_another_attention(model_with, tokens):
    model = model_with("rope")
    logits = model(tokens).logits
    with pytest.raises(ValueError, match="output_attentions=False"):
        model(tokens, output_attentions=True)
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="call install again"):
        model(tokens)
    assert torch.equal(install(model, encoding("rope"))(tokens).logits, logits)


@torch.no_grad()
def test_another_model_with_the_same_config_stays_as_it_was(tokens):
    model = gpt2()
    other = GPT2LMHeadModel(model.config).eval()
    logits = other(tokens).logits
    install(model, encoding("rope"))
    assert torch.equal(other(tokens).logits, logits)


# --- training, saving ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODINGS)
def test_gradients_reach_every_parameter_also_where_activations_are_recomputed(
    name, model_with, tokens
):
    model = model_with(name).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model(tokens, labels=tokens).loss.backward()
    plain = {key: p.grad for key, p in model.named_parameters()}
    assert all(grad is not None and grad.abs().max() > 0 for grad in plain.values())
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(tokens, labels=tokens).loss.backward()
    for key, p in model.named_parameters():
        close(p.grad, plain[key])


def test_a_copy_after_a_step_is_a_model_of_its_own(model_with, tokens):
    model = model_with("seqpe-mul")
    model(tokens, labels=tokens).loss.backward()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(twin(tokens).logits, model(tokens).logits)
        twin.base_model.position_encoding.projections[0].weight.add_(1.0)
        assert (twin(tokens).logits - model(tokens).logits).abs().max() > 1e-3


@pytest.mark.parametrize("name", ENCODINGS)
@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_logits(name, model_with, tokens, tmp_path):
    model = model_with(name)
    for p in model.parameters():
        p.add_(0.1 * torch.randn_like(p))
    model.save_pretrained(tmp_path)
    fresh = type(model)(type(model.config).from_pretrained(tmp_path)).eval()
    torch.manual_seed(9)
    load_model(install(fresh, encoding(name)), f"{tmp_path}/model.safetensors")
    assert torch.equal(fresh(tokens).logits, model(tokens).logits)


def test_the_encoding_goes_to_the_model_s_device(model_with):
    model = model_with("seqpe-bias").to("meta")
    assert install(model, encoding("learned")).base_model.position_encoding.table.weight.is_meta


@pytest.mark.parametrize("name", ["seqpe-bias", "learned"])
def test_a_trainer_s_step_trains_the_encoding(name, model_with, tokens, tmp_path):
    model = model_with(name)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    data = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = TrainingArguments(
        tmp_path, max_steps=1, learning_rate=1e-2, use_cpu=True, report_to=[], save_strategy="no"
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    trainer.train()
    changed = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert changed == before.keys()
    trainer.save_model(tmp_path)
    fresh = install(type(model)(model.config).eval(), encoding(name))
    load_model(fresh, f"{tmp_path}/model.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh(tokens).logits, model.eval()(tokens).logits)


@pytest.mark.parametrize("name", ENCODINGS)
@torch.no_grad()
def test_a_model_in_half_precision_keeps_an_encoding_in_single(name, model_with, tokens):
    model = model_with(name)
    expected = model(tokens).logits
    kept = copy.deepcopy(model.base_model.position_encoding)
    half = install(model.bfloat16(), kept)
    assert all(p.dtype == torch.float32 for p in half.base_model.position_encoding.parameters())
    for use_cache in (True, False):
        logits = half(tokens, use_cache=use_cache).logits
        assert logits.dtype == torch.bfloat16
        assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ENCODINGS)
@torch.no_grad()
def test_a_gpu_gives_the_cpu_s_logits(name, model_with, tokens):
    batch, mask = padded(tokens, "left")
    model = model_with(name)
    logits = model(tokens).logits
    options = dict(max_new_tokens=4, do_sample=False)
    continued = model.generate(batch, attention_mask=mask, **options)
    model.cuda()
    close(model(tokens.cuda()).logits.cpu(), logits, atol=1e-3)
    for cache in (None, "static"):
        ours = model.generate(
            batch.cuda(), attention_mask=mask.cuda(), cache_implementation=cache, **options
        )
        assert torch.equal(ours.cpu(), continued)


# --- what is refused ----------------------------------------------------------------------------


def test_other_models_are_refused_by_name():
    small = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    t5 = T5ForConditionalGeneration(T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    for model in (t5, BertModel(BertConfig(**small))):
        with pytest.raises(ValueError, match=f"{type(model).__name__}.*choose one of type gpt2"):
            install(model, encoding("rope"))
    with pytest.raises(TypeError, match="expected a model of transformers, got Linear"):
        install(torch.nn.Linear(2, 2), encoding("rope"))
    with pytest.raises(TypeError, match="expected a PositionEncoding, got str"):
        install(gpt2(), "rope")


@pytest.mark.parametrize(
    "option",
    [{"add_cross_attention": True}, {"scale_attn_by_inverse_layer_idx": True}],
    ids=lambda option: next(iter(option)),
)
def test_attention_of_another_kind_is_refused(option):
    with pytest.raises(ValueError, match="scaled by 1/sqrt"):
        install(gpt2(**option), encoding("rope"))


@pytest.mark.parametrize(
    "misfit",
    [
        lambda: make_encoding("rope", d_model=16, heads=2, layers=2, train_shape=16),
        lambda: make_encoding("alibi", d_model=16, heads=2, layers=2, train_shape=16),
        lambda: make_encoding("learned", d_model=16, heads=2, layers=2, train_shape=16),
        lambda: make_encoding("seqpe", d_model=16, heads=2, layers=2, train_shape=16),
        lambda: encoding("rope", prefix=1),
        lambda: encoding("seqpe-bias", dims=2),
    ],
    ids=["rope", "alibi", "learned", "seqpe", "prefix", "two dimensions"],
)
def test_an_encoding_of_another_shape_is_refused_before_anything_changes(misfit, tokens):
    model = gpt2()
    with pytest.raises(ValueError, match="does not fit 2 layers of 4 heads of 6, d_model=24"):
        install(model, misfit())
    assert torch.equal(model(tokens).logits, gpt2()(tokens).logits)


def test_neither_tokens_nor_embeddings_is_an_error():
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        install(gpt2(), encoding("rope"))()


def test_the_package_imports_neither_library_and_names_the_command_that_installs_them():
    program = (
        "import sys, seqpe_lab.adapters\n"
        "assert not {'timm', 'transformers'} & sys.modules.keys()\n"
        "sys.modules.update(timm=None, transformers=None)\n"
        "for name in ('huggingface', 'timm'):\n"
        "    try: __import__(f'seqpe_lab.adapters.{name}')\n"
        "    except ImportError as error: print(error)\n"
    )
    done = fork_server.python(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pip install 'seqpe_lab[adapters]'") == 2, done.stdout
