"""Published checkpoints: folders as the authors' code writes them, and what may be wrong."""

import json
import pickle
import re
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from PIL.Image import Resampling
from safetensors.torch import load_file, save_file

from seqpe_lab import recipes
from seqpe_lab.cli import main
from seqpe_lab.models import published_checkpoints as published
from seqpe_lab.tasks import paper_comparison
from seqpe_lab.tasks.images import accuracy

ENCODER = [
    (r"place\.weight", "pos_of_seqpe_embed.weight"),
    (r"ln_f\.", "layernorm."),
    (r"out\.", "out_proj."),
    (r"blocks\.(\d+)\.ln_", r"transformers.\1.layernorm_"),
    (r"blocks\.(\d+)\.qkv", r"transformers.\1.attn.c_attn"),
    (r"blocks\.(\d+)\.proj", r"transformers.\1.attn.c_proj"),
    (r"blocks\.(\d+)\.mlp\.0", r"transformers.\1.mlp.c_fc"),
    (r"blocks\.(\d+)\.mlp\.2", r"transformers.\1.mlp.c_proj"),
]
TEXT = {"integration": "bias", "digits": 3}
IMAGE = {"integration": "mul", "digits": 2, "shared_projection": False, "shared_places": False}
PE_CONFIG = {
    "NUM_ATTENTION_HEADS": 2,
    "PE_APPLY_METHOD": "attn_scalar",
    "PE_MAX_POSITION": 200,
    "PE_TYPE": "seq_pe",
    "SEQPE_ATTN_DIRECTION": "causal",
    "SEQPE_TEMPERATURE": 1.0,
}


def in_their_names(model, of_images=False):
    """Our weights as (their model's, their encoder's) tensors."""
    main_model, encoder = {}, {}
    for name, value in model.state_dict().items():
        value = value.clone()
        if name == "encoding.prefix":
            main_model["cls_token_pos_embed"] = value[None]
        elif name == "encoding.encoder.token.weight":
            encoder |= {
                "token_of_seqpe_embed.weight": value[:-1].clone(),
                "cls_token_embed": value[-1].view(1, 1, -1).clone(),
            }
        elif name == "encoding.encoder.dimension.weight":
            encoder["dim_token_embed"] = value.unsqueeze(1)
        elif name.startswith("encoding.encoder."):
            name = name.removeprefix("encoding.encoder.")
            for ours, theirs in ENCODER:
                name = re.sub("^" + ours, theirs, name)
            encoder[name] = (
                value.T.contiguous() if re.search(r"c_(attn|proj|fc)\.weight", name) else value
            )
        elif name.startswith("encoding.projections."):
            place = re.sub(
                r"encoding\.projections\.(\d+)\.",
                r"blocks.\1.attn.pe_qk." if of_images else "transformer.pe_qk.",
                name,
            )
            main_model[place] = value
        else:
            main_model[name.removeprefix("vit.")] = value
    return main_model, encoder


@pytest.fixture(scope="module")
def colour_folder(colour_folder, tmp_path_factory):
    """All its images in two class folders, without splits: the loader cuts them."""
    flat = tmp_path_factory.mktemp("flat")
    for path in colour_folder.glob("*/*/*.png"):
        (flat / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, flat / path.parent.name / path.name)
    return flat


@pytest.fixture
def text_model(tiny_model):
    return tiny_model("seqpe", TEXT)


@pytest.fixture
def text_folder(text_model, tmp_path):
    """lm_seqpe_ckpt as accelerate and the authors' training leave it."""
    weights, encoder = in_their_names(text_model)
    folder = tmp_path / "lm_seqpe_ckpt"
    (folder / "best_model").mkdir(parents=True)
    save_file(weights, folder / "best_model" / "model.safetensors")
    save_file(encoder, folder / "best_model" / "model_1.safetensors")
    for state in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        (folder / "best_model" / state).write_bytes(b"not weights")
    (folder / "config.json").write_text(
        json.dumps(
            {"n_head": 2, "n_embd": 16, "activation_function": "gelu_new", "pe_config": PE_CONFIG}
        )
    )
    (folder / "pe_config.json").write_text(
        "MODEL: {}\n" + "".join(f"{key}: {value}\n" for key, value in PE_CONFIG.items())
    )  # YAML, as theirs
    return folder


@pytest.fixture
def image_model(tiny_vit):
    return tiny_vit("seqpe", IMAGE)


@pytest.fixture
def image_folder(image_model, tmp_path):
    """image_seqpe_ckpt: one pickled file with both models and the settings, an object of yacs."""
    weights, encoder = in_their_names(image_model, of_images=True)
    folder = tmp_path / "image_seqpe_ckpt"
    folder.mkdir()
    settings = "MODEL:\n  NUM_HEADS: 2\n  NUM_CLASSES: 7\n"
    settings += "DATA:\n  IMG_SIZE: 12\n  INTERPOLATION: bicubic\n"
    settings += "".join(
        f"{key}: {value}\n"
        for key, value in (
            PE_CONFIG | {"PE_APPLY_METHOD": "attn_mul", "PE_MAX_POSITION": 10_000}
        ).items()
    )
    (folder / "config.json").write_text(settings)
    module = types.ModuleType("yacs.config")

    class CfgNode(dict):
        def __init__(self, values):
            super().__init__(values)
            self.__dict__.update(__immutable__=True, __deprecated_keys__=set(), __renamed_keys__={})

    CfgNode.__module__, CfgNode.__qualname__, module.CfgNode = "yacs.config", "CfgNode", CfgNode
    sys.modules |= {"yacs": types.ModuleType("yacs"), "yacs.config": module}
    try:
        torch.save(
            {
                "model": weights,
                "pe_model": encoder,
                "max_accuracy": 81.2,
                "epoch": 399,
                "config": CfgNode({"MODEL": CfgNode({"NUM_HEADS": 2})}),
            },
            folder / "best_model.pth",
        )
    finally:
        del sys.modules["yacs"], sys.modules["yacs.config"]
    return folder


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


# --- round trips -------------------------------------------------------------------------------


def test_a_folder_of_text_gives_equal_logits(text_model, text_folder, tokens):
    model = published.load(text_folder)
    assert not model.training and model.config.max_position == 200
    assert torch.equal(model(tokens), text_model(tokens))
    for source in (
        text_folder.parent,
        text_folder / "best_model",
    ):  # of all models; of the checkpoint itself
        assert torch.equal(published.load(source)(tokens), text_model(tokens))


def test_a_folder_of_images_gives_equal_logits(image_model, image_folder):
    images = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    model = published.load(image_folder.parent, "image")
    assert model.config.image_size == 12
    assert torch.equal(model(images), image_model(images))


@pytest.mark.parametrize("prefix", ["module.", "model.", "module._orig_mod."])
def test_what_wrappers_put_in_front_of_names_is_taken_off_in_joined_and_pickled_files_too(
    prefix, text_model, text_folder, tokens
):
    weights, encoder = in_their_names(text_model)
    best = text_folder / "best_model"
    (best / "model_1.safetensors").unlink()
    joined = {prefix + name: value for name, value in weights.items()} | {
        "pe_model." + name: value for name, value in encoder.items()
    }
    save_file(joined, best / "model.safetensors")
    assert torch.equal(published.load(text_folder)(tokens), text_model(tokens))
    (best / "model.safetensors").unlink()
    torch.save(joined, text_folder / "best_model.pth")
    assert torch.equal(published.load(text_folder)(tokens), text_model(tokens))


def test_tied_weights_may_have_the_output_layer_s_name_and_buffers_of_the_mask_are_no_weights(
    text_model, text_folder, tokens
):
    def change(tensors):
        tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")
        tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 4, 4)

    rewrite(text_folder / "best_model" / "model.safetensors", change)
    assert torch.equal(published.load(text_folder)(tokens), text_model(tokens))


@pytest.mark.parametrize(
    "file, task, name",
    [
        ("gpt2", "lm", "seqpe_bias"),
        ("gpt2", "lm", "seqpe_mul"),
        ("vit", "image", "seqpe_mul"),
        ("vit", "image", "seqpe_bias"),
    ],
)
def test_the_authors_own_weights_give_their_own_outputs(file, task, name, shared, tmp_path):
    tensors = load_file(shared / "reference" / f"{file}_reference.safetensors")
    for part, target in (("model", "model.safetensors"), ("pe_model", "model_1.safetensors")):
        save_file(
            {
                n.removeprefix(f"{name}/{part}/"): v.clone()
                for n, v in tensors.items()
                if n.startswith(f"{name}/{part}/")
            },
            tmp_path / target,
        )
    method = {"seqpe_bias": "attn_scalar", "seqpe_mul": "attn_mul"}[name]
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "n_head": 4,
                "MODEL": {"NUM_HEADS": 4},
                "DATA": {"IMG_SIZE": 20},
                "NUM_ATTENTION_HEADS": 4,
                "PE_APPLY_METHOD": method,
            }
        )
    )
    model = published.load(tmp_path, task)
    given, expected = ("images", "output") if task == "image" else ("input_ids", "logits")
    torch.testing.assert_close(
        model(tensors[given]), tensors[f"{name}/{expected}"], atol=1e-5, rtol=0
    )
    if task == "lm":
        torch.testing.assert_close(
            published.position_table(model, 24),
            tensors[f"{name}/position_embeddings"],
            atol=1e-5,
            rtol=0,
        )


def test_the_position_table_is_the_encoder_s_output_row_by_row(
    image_model, image_folder, text_model, text_folder
):
    table = published.position_table(published.load(image_folder, "image"), 14, 14)
    assert table.shape == (196, 16) and not table.requires_grad
    torch.testing.assert_close(
        table[14 * 3 + 5], image_model.encoding.encoder(torch.tensor([3, 5])).detach()
    )
    torch.testing.assert_close(
        published.position_table(published.load(text_folder), 150)[123],
        text_model.encoding.encoder(torch.tensor([123])).detach(),
    )


# --- what is refused ---------------------------------------------------------------------------


def test_missing_unknown_and_misshapen_tensors_are_all_named_with_the_files(text_folder):
    def change(tensors):
        del tensors["transformer.ln_f.bias"]
        tensors["transformer.h.0.surprise"] = torch.zeros(1)
        tensors["transformer.h.1.ln_1.weight"] = torch.zeros(3)

    rewrite(text_folder / "best_model" / "model.safetensors", change)
    rewrite(
        text_folder / "best_model" / "model_1.safetensors",
        lambda tensors: tensors.pop("out_proj.bias"),
    )
    with pytest.raises(ValueError) as error:
        published.load(text_folder)
    for part in [
        "missing: transformer.ln_f.bias",
        "unknown: transformer.h.0.surprise",
        "shape of transformer.h.1.ln_1.weight: (3,), expected (16,)",
        "missing: encoding.encoder.out.bias",
        "files read: best_model/model.safetensors, best_model/model_1.safetensors",
        "in the folder: best_model/model.safetensors",
    ]:
        assert part in str(error.value), part


def test_a_folder_without_its_encoder_says_so(text_folder):
    (text_folder / "best_model" / "model_1.safetensors").unlink()
    with pytest.raises(
        ValueError,
        match=r"lack pos_of_seqpe_embed.weight(.|\n)*in the folder: best_model/model.safetensors",
    ):
        published.load(text_folder)


def test_an_empty_folder_and_one_of_training_state_alone_say_what_they_hold(tmp_path):
    with pytest.raises(
        ValueError, match="holds no weights: it needs .safetensors .* it has no file at all"
    ):
        published.load(tmp_path)
    (tmp_path / "optimizer.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="holds no weights: .* it has optimizer.bin"):
        published.load(tmp_path)


def test_another_kind_of_file_is_refused_by_name(text_folder):
    path = text_folder / "best_model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(
        ValueError,
        match=r"model.safetensors is no safetensors file, or a truncated one .* download it again",
    ):
        published.load(text_folder)
    path.unlink()
    (text_folder / "best_model" / "model_1.safetensors").unlink()
    (text_folder / "best_model.pth").write_text("<html>not found</html>")
    with pytest.raises(
        ValueError, match=r"best_model.pth is refused: it is broken, or holds more than weights"
    ):
        published.load(text_folder)


class Harm:
    done: list = []

    def __reduce__(self):
        return Harm.done.append, ("executed",)


@pytest.mark.parametrize(
    "write",
    [
        lambda value, path: torch.save(value, path),
        lambda value, path: path.write_bytes(pickle.dumps(value)),
    ],
    ids=["torch.save", "pickle"],
)
def test_nothing_in_a_pickled_file_is_executed(write, image_folder):
    write(
        {"model": {"head.weight": torch.zeros(2)}, "config": Harm()},
        image_folder / "best_model.pth",
    )
    with pytest.raises(ValueError, match="best_model.pth is refused: .*Get it as safetensors"):
        published.load(image_folder, "image")
    assert Harm.done == []


@pytest.mark.parametrize(
    "content, named",
    [
        ({"optimizer": {}, "epoch": 3}, "optimizer, epoch"),
        ({"model": {"epoch": 3}}, "epoch"),
        ([1, 2], "list"),
    ],
)
def test_a_pickled_file_without_weights_lists_what_it_holds(content, named, image_folder):
    torch.save(content, image_folder / "best_model.pth")
    with pytest.raises(ValueError, match=f"holds entries that are no tensors: {named};"):
        published.load(image_folder, "image")


def test_of_several_checkpoints_the_best_is_taken_and_without_one_none(image_model, image_folder):
    (image_folder / "ckpt_epoch_1.pth").write_bytes(b"another")
    published.load(image_folder, "image")
    (image_folder / "best_model.pth").rename(image_folder / "ckpt_epoch_2.pth")
    with pytest.raises(
        ValueError, match=r"several checkpoints \(ckpt_epoch_1.pth, ckpt_epoch_2.pth\)"
    ):
        published.load(image_folder, "image")


def test_one_name_with_two_values_is_refused(text_folder):
    rewrite(
        text_folder / "best_model" / "model_1.safetensors",
        lambda tensors: tensors.update({"transformer.ln_f.bias": torch.ones(16)}),
    )
    with pytest.raises(
        ValueError, match="transformer.ln_f.bias stands twice in .* with different values"
    ):
        published.load(text_folder)


def test_settings_that_are_missing_are_asked_for_and_can_be_given(text_model, text_folder, tokens):
    (text_folder / "config.json").unlink()
    (text_folder / "pe_config.json").unlink()
    with pytest.raises(ValueError, match=r"do not say PE_APPLY_METHOD: pass it to load\(\)"):
        published.load(text_folder)
    with pytest.raises(ValueError, match="do not say NUM_ATTENTION_HEADS"):
        published.load(text_folder, PE_APPLY_METHOD="attn_scalar")
    assert torch.equal(
        published.load(text_folder, PE_APPLY_METHOD="attn_scalar", NUM_ATTENTION_HEADS=2)(tokens),
        text_model(tokens),
    )


def test_settings_that_this_library_does_not_compute_are_refused(text_folder):
    with pytest.raises(
        ValueError,
        match=r"PE_TYPE is 'rotary', this library computes 'seq_pe'\n.*SEQPE_TEMPERATURE is 2.0",
    ):
        published.load(text_folder, PE_TYPE="rotary", SEQPE_TEMPERATURE=2.0)
    (text_folder / "pe_config.json").write_text("a: [b")
    with pytest.raises(ValueError, match="pe_config.json is neither JSON nor YAML"):
        published.load(text_folder)


def test_settings_that_grow_when_they_are_read_are_refused(text_folder):
    """Ten lines of ten references each stand for ten thousand million words."""
    lines = ["a0: &a0 [" + ", ".join(["lol"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 10)]
    for bomb in ("\n".join(lines), "[" * 100_000, "a: " + "[" * 100_000):
        (text_folder / "pe_config.json").write_text(bomb)
        with pytest.raises(ValueError, match="pe_config.json is refused: it(s tables| refers)"):
            published.load(text_folder)


def test_text_and_images_are_not_taken_for_each_other(text_folder, image_folder):
    with pytest.raises(ValueError, match="holds a model of text: say task 'lm'"):
        published.load(text_folder, "image")
    with pytest.raises(ValueError, match="holds a model of images: say task 'image'"):
        published.load(image_folder, "lm")
    with pytest.raises(ValueError, match="unknown task 'qa2': choose from lm, qa, image"):
        published.find("hub", "qa2")
    with pytest.raises(FileNotFoundError, match="no folder /nowhere: give a folder"):
        published.find("/nowhere")


def test_an_unreachable_hub_names_the_ways_out(monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["released", "hub"]) == 2
    message = capsys.readouterr().err
    assert (
        "the hub cannot be reached for the published checkpoints 'huayangli/seqpe'" in message
        and all(way in message for way in ("(1)", "(2) download https", "(3)"))
    )


def test_only_what_a_model_needs_is_downloaded(text_folder, monkeypatch, tokens):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    asked = []

    def download(name, **patterns):
        asked.append((name, patterns))
        return str(text_folder.parent)

    monkeypatch.setattr("seqpe_lab.hub.require_hub", lambda *arguments: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert published.find("hub:someone/copy") == text_folder
    ((name, patterns),) = asked
    there = [
        "lm_seqpe_ckpt/config.json",
        "lm_seqpe_ckpt/best_model/model.safetensors",
        "lm_seqpe_ckpt/best_model/model_1.safetensors",
        "lm_seqpe_ckpt/best_model/optimizer.bin",
        "lm_seqpe_ckpt/best_model/random_states_0.pkl",
        "lm_seqpe_ckpt/step_5000/model.safetensors",
        "qa_seqpe_ckpt/best_model/model.safetensors",
        "squad_qa/train.json",
    ]
    assert name == "someone/copy" and list(filter_repo_objects(there, **patterns)) == there[:3]
    with pytest.raises(
        ValueError,
        match="the repository 'huayangli/seqpe' has no folder image_seqpe_ckpt; it gave "
        "lm_seqpe_ckpt/",
    ):
        published.find("hub", "image")


# --- evaluation --------------------------------------------------------------------------------


def test_wikitext_is_read_line_by_line_without_blank_lines(tmp_path):
    (tmp_path / "wiki.test.raw").write_text(" = Title = \n \n A line . \n\n Another\x85 one . \n")
    tokens = paper_comparison.text_of(str(tmp_path / "wiki.test.raw"), "bytes")
    assert bytes(tokens.tolist()).decode() == " = Title = \n A line . \n Another\x85 one . \n"


def test_the_command_prints_perplexity_beside_table_1(
    tiny_model, text_folder, tmp_path, capsys, monkeypatch
):
    from seqpe_lab.tasks.perplexity import perplexity_by_length

    model = tiny_model("seqpe", TEXT, vocab_size=256, max_position=1_000)
    weights, encoder = in_their_names(model)
    save_file(weights, text_folder / "best_model" / "model.safetensors")
    save_file(encoder, text_folder / "best_model" / "model_1.safetensors")
    (text_folder / "pe_config.json").write_text(json.dumps(PE_CONFIG | {"PE_MAX_POSITION": 1_000}))
    (tmp_path / "wiki.test.raw").write_text(
        "".join(f" Position {i} comes after {i - 1} . \n" for i in range(40))
    )
    arguments = [
        "released",
        str(text_folder),
        "--source",
        str(tmp_path / "wiki.test.raw"),
        "--tokenizer",
        "bytes",
        "--cpu",
    ]
    assert main([*arguments, "--lengths", "64", "512"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = perplexity_by_length(
        model, paper_comparison.text_of(str(tmp_path / "wiki.test.raw"), "bytes"), [64, 512]
    )
    assert "all names and shapes as expected" in lines[0]
    assert (
        lines[1].strip() == f"64 tokens: perplexity {expected[0].perplexity:.2f}, the paper says - "
        f"(non-overlapping, {expected[0].tokens:,} tokens)"
    )
    assert (
        f"512 tokens: perplexity {expected[1].perplexity:.2f}, the paper says 19.65 (" in lines[2]
    )
    assert main([*arguments, "--sizes", "224"]) == 2
    capsys.readouterr()
    for length, advice in (("1001", "choose at most 1000"), ("1000", "give --lengths of at most")):
        (tmp_path / "wiki.test.raw").write_text("A short text.\n" * 9)
        assert main([*arguments, "--lengths", "8", length]) == 2
        error = capsys.readouterr().err
        assert f"{length} " in error and advice in error


def test_the_command_prints_accuracy_beside_table_3(tiny_vit, image_folder, colour_folder, capsys):
    model = tiny_vit("seqpe", IMAGE)
    with torch.no_grad():  # the images have two classes
        model.vit.head.weight.data, model.vit.head.bias.data = (
            model.vit.head.weight[:2].clone(),
            model.vit.head.bias[:2].clone(),
        )
    (image_folder / "best_model.pth").unlink()
    weights, encoder = in_their_names(model, of_images=True)
    save_file(weights | encoder, image_folder / "model.safetensors")
    assert (
        main(
            [
                "released",
                str(image_folder),
                "--task",
                "image",
                "--source",
                str(colour_folder),
                "--sizes",
                "12",
                "224",
                "--images",
                "20",
                "--cpu",
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert (
        "12 pixels: top-1 " in lines[1]
        and "the paper says - (20 images" in lines[1]
        and "224 pixels: top-1 " in lines[2]
        and "the paper says 81.2 (20 images" in lines[2]
    )
    share = float(lines[1].split("top-1 ")[1].split(" %")[0])
    assert share * 20 % 100 == 0


def test_a_folder_of_classes_is_taken_whole_and_one_of_splits_by_its_test_images(
    colour_folder, tmp_path
):
    images, data = paper_comparison.images_of(str(colour_folder))
    assert len(images) == 80 and sorted(images.labels.tolist()) == [0] * 40 + [1] * 40
    assert torch.equal(images[0], data.train[0])
    for split in ("train", "val"):
        shutil.copytree(colour_folder, tmp_path / split)
    (tmp_path / "val" / "dark" / "000.png").unlink()
    assert len(paper_comparison.images_of(str(tmp_path))[0]) == 79


def test_images_are_cut_as_the_authors_do(tiny_vit, colour_folder, monkeypatch):
    """The middle 7/8 of each side: 28 of 32 pixels."""
    model, shown = tiny_vit("seqpe", IMAGE | {"digits": 2}, image_size=20), []
    model.config.classes = 2
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, seen, **_: shown.append(seen) or torch.zeros(len(seen), 2),
    )
    (measured,) = paper_comparison.evaluate_images(model, str(colour_folder), [28])
    images, data = paper_comparison.images_of(str(colour_folder))
    picture = images.picture(0)
    sides = [int(32 * side / min(picture.size)) for side in picture.size]
    whole = torch.from_numpy(np.array(picture.resize(sides, Resampling.BICUBIC))) / 255
    top, left = (round((n - 28) / 2) for n in whole.shape[:2])
    middle = whole[top : top + 28, left : left + 28].permute(2, 0, 1)
    assert measured.images == 80 and shown[0].shape[-2:] == (28, 28)
    torch.testing.assert_close(shown[0][0], data.normalise(middle))


def test_our_own_runs_and_published_models_are_tested_by_one_protocol(tiny_vit, colour_folder):
    model = tiny_vit("seqpe", IMAGE | {"digits": 2}, image_size=20)
    model.config.classes = 2
    with torch.no_grad():
        model.vit.head.weight.mul_(20)
    (published_model,) = paper_comparison.evaluate_images(model, str(colour_folder), [28])
    images, data = paper_comparison.images_of(str(colour_folder))
    own = recipes.image_model(
        "seqpe-mul", "full", patch=4, image_size=20, eval_sizes=(28,), teachers=4
    )
    assert accuracy(model, images, data, own, 28) == published_model


def test_images_of_other_classes_are_refused(image_folder, colour_folder):
    with pytest.raises(ValueError, match="has 2 classes but the model tells 7 apart"):
        paper_comparison.evaluate_images(published.load(image_folder, "image"), str(colour_folder))
