"""The paper authors' released checkpoints: found, read, loaded exactly, and evaluated beside the paper's own numbers.

Their hub repository holds a folder a model: ``config.json`` and ``pe_config.json`` beside ``best_model/`` with
``model.safetensors`` (the GPT-2) and ``model_1.safetensors`` (the position encoder), or ``best_model.pth`` with both (the ViT).
Which file a tensor lies in does not matter here, its name does. Every name and shape must match, and what the
names and shapes do not tell must stand in the configuration: nothing is guessed.
"""
from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seqpe_lab.models.checkpoints import load_published, load_published_vit
from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.package_data import paper_table
from seqpe_lab.tasks.corpus import load_from_hub, load_text, make_tokenizer, require_hub
from seqpe_lab.tasks.perplexity import Perplexity, perplexity_by_length

REPOSITORY = "huayangli/seqpe"
FOLDERS = {"lm": "lm_seqpe_ckpt", "qa": "qa_seqpe_ckpt", "image": "image_seqpe_ckpt"}
BEST = "best_model"  # the authors' evaluation takes this one
SOURCES = {"lm": "hub:Salesforce/wikitext:wikitext-103-raw-v1", "image": "hub:ILSVRC/imagenet-1k"}
_WAYS_OUT = (f"Three ways out: (1) connect to the network and try again; (2) download https://huggingface.co/{REPOSITORY} elsewhere and pass its folder; "
             "(3) train a model of your own: python -m seqpe_lab train lm")

PICKLED = {".bin", ".pt", ".pth"}
STATE = ("optimizer", "scheduler", "scaler", "sampler", "random_states", "training_args")  # of a training run, not of its model
INTEGRATIONS = {"attn_scalar": "bias", "attn_mul": "mul", "attn_add": "sum"}
# what this library computes; a configuration that says otherwise is refused
EXPECTED = {"PE_TYPE": "seq_pe", "USE_PE_MULTI_HEAD": True, "SEQPE_ACTIVATION_FUNCTION": "gelu_new", "SEQPE_MASK_PADDING": False, "SEQPE_SCALE_ATTN_WEIGHTS": True,
            "SEQPE_SCALAR_SCALE": 1.0, "SEQPE_TEMPERATURE": 1.0, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False}


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, in the authors' names: tensors of the model and of the position encoder, settings, files read."""
    model: dict[str, Tensor]
    encoder: dict[str, Tensor]
    config: dict
    files: list[Path]

    @property
    def task(self) -> str:
        """"image" or "lm", by the names."""
        return "image" if any(name.startswith("patch_embed.") for name in self.model) else "lm"


# --- finding and reading -----------------------------------------------------------------------

def find(source: str, task: str = "lm") -> Path:
    """The folder of one model.

    Args:
        source: "hub" (the authors' repository), "hub:NAME" (another), or a local folder: of one model, or of all of them.
        task: "lm", "qa" or "image".

    Raises:
        ValueError: an unknown task, a repository without the folder.
        FileNotFoundError: no such folder.
        ConnectionError: the hub cannot be reached; within seconds, with the ways out.
    """
    if task not in FOLDERS:
        raise ValueError(f"unknown task {task!r}: choose from {', '.join(FOLDERS)}")
    if source == "hub" or source.startswith("hub:"):
        root = _download(source.removeprefix("hub").removeprefix(":") or REPOSITORY, FOLDERS[task])
    else:
        root = Path(source).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {source}: give a folder with a released checkpoint, or 'hub' for {REPOSITORY}")
    return root / FOLDERS[task] if (root / FOLDERS[task]).is_dir() else root


def _download(name: str, folder: str) -> Path:
    require_hub(f"the released checkpoints {name!r}", _WAYS_OUT)
    from huggingface_hub import snapshot_download
    wanted = [f"{folder}/*{ending}" for ending in (".json", ".safetensors", *PICKLED)]
    unwanted = [f"*{word}*" for word in STATE] + ["*/step_*", "*/ckpt_epoch_*"]
    try:
        root = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted))
    except Exception as error:  # the hub's client raises many kinds
        raise ConnectionError(f"the hub did not give {name!r} ({type(error).__name__}: {error}). {_WAYS_OUT}") from error
    if not (root / folder).is_dir():
        raise ValueError(f"the repository {name!r} has no folder {folder}; it gave {_listed(root)}")
    return root


def read(folder: Path) -> Checkpoint:
    """All tensors and settings of a model's folder; nothing in it is executed.

    Safetensors are preferred. Pickled files are read only where there are none, and only as torch's
    ``weights_only``, which refuses whatever is more than tensors and plain values.

    Raises:
        ValueError: no weights, several checkpoints, a file that is broken or holds more than weights, one
            name twice; with the files that are there.
    """
    folder = Path(folder)
    files = _weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, value in (_safe(file) if file.suffix == ".safetensors" else _pickled(file)).items():
            name = _plain(name)
            if name in tensors and not torch.equal(tensors[name], value):
                raise ValueError(f"{name} stands twice in {folder}, with different values ({', '.join(f.name for f in files)}): keep one model in the folder")
            tensors[name] = value
    encoder = {name.removeprefix("pe_model."): value for name, value in tensors.items() if _is_encoder(name)}
    model = {name: value for name, value in tensors.items() if not _is_encoder(name) and not re.fullmatch(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)", name)}
    if "lm_head.weight" in model and "transformer.wte.weight" not in model:  # tied: a file holds the two once, under either name
        model["transformer.wte.weight"] = model.pop("lm_head.weight")
    return Checkpoint({name: value.float() for name, value in model.items()}, {name: value.float() for name, value in encoder.items()}, _config(folder), files)


def _weight_files(folder: Path) -> list[Path]:
    for place in (folder, folder / BEST):
        here = [p for p in sorted(place.glob("*")) if p.is_file() and not p.name.startswith(STATE)]
        files = [p for p in here if p.suffix == ".safetensors"] or [p for p in here if p.suffix in PICKLED]
        files = [p for p in files if p.stem == BEST] or files  # of several epochs
        if len(files) > 1 and all(p.suffix == ".pth" for p in files):
            raise ValueError(f"{folder} holds several checkpoints ({', '.join(p.name for p in files)}): leave one, or name it {BEST}.pth")
        if files:
            return files
    raise ValueError(f"{folder} holds no weights: it needs .safetensors (or .bin, .pt, .pth) files, itself or in {BEST}/; it has {_listed(folder)}")


def _safe(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or a truncated one ({error}): download it again") from error


def _pickled(file: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):  # the image checkpoint carries its settings: read as a plain table
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's own
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {asked[1]}" if asked else type(error).__name__
        raise ValueError(f"{file} is refused: it is broken, or holds more than weights and plain values ({reason}). Get it as safetensors") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a table of tensors")
    if not any(isinstance(value, Tensor) for value in content.values()):  # a table of tables
        parts = {key: value for key, value in content.items() if key in ("model", "pe_model", "state_dict", "module") and value is not None}
        if not parts:
            raise ValueError(f"{file} holds no table of weights, only {', '.join(map(str, content)) or 'nothing'}: expected 'model' and 'pe_model'")
        content = {("pe_model." if key == "pe_model" else "") + name: value for key, part in parts.items() for name, value in part.items()}
    if strange := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{file} holds entries that are no tensors: {', '.join(strange)}")
    return content


def _plain(name: str) -> str:
    """Without what wrappers put in front: "module." (DDP), "_orig_mod." (torch.compile), "model."."""
    of_encoder = name.startswith("pe_model.")
    return ("pe_model." if of_encoder else "") + re.sub(r"^((module|_orig_mod|model)\.)+", "", name.removeprefix("pe_model."))


def _is_encoder(name: str) -> bool:
    return name.startswith("pe_model.") or re.match(r"(token_of_seqpe|pos_of_seqpe|dim_of_seqpe|dim_token|cls_token)_embed(\.|$)|layernorm\.|out_proj\.|transformers\.\d", name) is not None


def _config(folder: Path) -> dict:
    """All settings in one table: config.json, its tables "DATA", "MODEL" and "pe_config", and pe_config.json, which is YAML in spite of its name."""
    found: dict = {}
    for name in ("config.json", "pe_config.json"):
        path = folder / name if folder.name != BEST or (folder / name).is_file() else folder.parent / name
        found |= _table(path) if path.is_file() else {}
    nested = {key: value for part in ("DATA", "MODEL", "pe_config") if isinstance(found.get(part), dict) for key, value in found[part].items()}
    return nested | {key: value for key, value in found.items() if not isinstance(value, dict)}


def _table(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    try:
        table = json.loads(text)
    except json.JSONDecodeError:
        import yaml  # comes with huggingface_hub
        try:
            table = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is neither JSON nor YAML ({str(error).splitlines()[0]}): download it again") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} holds no table of settings: download it again")
    return table


def _listed(folder: Path) -> str:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "") if names else "no file at all"


# --- loading -----------------------------------------------------------------------------------

def load(source: str | Path, task: str = "lm", **settings) -> nn.Module:
    """A released model, in evaluation mode.

    Args:
        source, task: as in :func:`find`.
        settings: what the configuration does not say or says wrongly, in its own words: ``NUM_ATTENTION_HEADS=12``.

    Returns:
        :class:`~seqpe_lab.models.gpt2.GPT2` or :class:`~seqpe_lab.models.vit.ViT`, float32, on the CPU.

    Raises:
        ValueError: a model of another kind, settings that are missing or that this library does not
            compute, names or shapes that do not fit; all listed, with the files.
        FileNotFoundError, ConnectionError: as in :func:`find`.
    """
    folder = find(str(source), task)
    checkpoint = read(folder)
    config = checkpoint.config | settings
    if (kind := checkpoint.task) != ("image" if task == "image" else "lm"):
        raise ValueError(f"{folder} holds a model of {'images' if kind == 'image' else 'text'}: say task {kind!r}, or give another folder")
    problems = [f"{key} is {config[key]!r}, this library computes {value!r}" for key, value in EXPECTED.items() if key in config and config[key] != value]
    if problems:
        raise ValueError(f"the settings of {folder} differ from what can be loaded:\n  " + "\n  ".join(problems))
    try:
        if kind == "image":
            model = _make_vit(checkpoint, config)
            load_published_vit(model, checkpoint.model, checkpoint.encoder)
        else:
            model = _make_gpt2(checkpoint, config)
            load_published(model, checkpoint.model, checkpoint.encoder)
    except _Missing as missing:
        raise ValueError(f"{folder} cannot be loaded: {missing}; it has {_listed(folder)}") from missing
    except ValueError as error:
        raise ValueError(f"{error}\nfiles read: {', '.join(str(f.relative_to(folder)) for f in checkpoint.files)}; in the folder: {_listed(folder)}") from error
    return model.eval()


class _Missing(Exception):
    """A tensor or a setting without which the model's shape is not known."""


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size:
    if name not in tensors:
        raise _Missing(f"the weights lack {name} (there are {len(tensors)} others, such as {', '.join(list(tensors)[:5]) or 'none'})")
    return tensors[name].shape


def _setting(config: dict, *names: str):
    for name in names:
        if config.get(name) is not None:
            return config[name]
    raise _Missing(f"its config.json and pe_config.json do not say {' or '.join(names)}: pass it to load(), for instance {names[0]}=12")


def _layers(tensors: dict[str, Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in tensors if (match := re.match(pattern, name))), default=-1)


def _encoding_options(checkpoint: Checkpoint, config: dict, dims: int, digits: int) -> dict:
    method, direction = _setting(config, "PE_APPLY_METHOD"), config.get("SEQPE_ATTN_DIRECTION", "causal")
    if method not in INTEGRATIONS:
        raise ValueError(f"PE_APPLY_METHOD {method!r} is none of {', '.join(INTEGRATIONS)}")
    places = _shape(checkpoint.encoder, "pos_of_seqpe_embed.weight")[0]
    return {"integration": INTEGRATIONS[method], "shared_projection": not any(".attn.pe_qk." in name for name in checkpoint.model), "digits": digits,
            "base": _shape(checkpoint.encoder, "token_of_seqpe_embed.weight")[0], "encoder_layers": _layers(checkpoint.encoder, r"transformers\.(\d+)\."),
            "encoder_heads": _setting(config, "NUM_ATTENTION_HEADS"), "causal": direction == "causal", "shared_places": places == digits}


def _make_gpt2(checkpoint: Checkpoint, config: dict) -> GPT2:
    vocabulary, d_model = _shape(checkpoint.model, "transformer.wte.weight")
    digits = _shape(checkpoint.encoder, "pos_of_seqpe_embed.weight")[0]
    options = _encoding_options(checkpoint, config, 1, digits)
    return GPT2(GPT2Config(vocabulary, d_model, _layers(checkpoint.model, r"transformer\.h\.(\d+)\."), _setting(config, "n_head", "NUM_ATTENTION_HEADS"),
                           max_position=min(config.get("PE_MAX_POSITION") or math.inf, options["base"]**digits), dropout=0.0, encoding="seqpe", encoding_options=options))


def _make_vit(checkpoint: Checkpoint, config: dict) -> nn.Module:
    from seqpe_lab.models.vit import ViT, ViTConfig
    d_model, channels, patch, _ = _shape(checkpoint.model, "patch_embed.proj.weight")
    dims = _shape(checkpoint.encoder, "dim_token_embed")[0]
    digits = _shape(checkpoint.encoder, "pos_of_seqpe_embed.weight")[0] // dims  # the published vision code has a row for each place of each dimension
    options = _encoding_options(checkpoint, config, dims, digits)
    size = config.get("IMG_SIZE") or 224
    return ViT(ViTConfig("vit_small_patch16_224", size // patch * patch, _shape(checkpoint.model, "head.weight")[0], options["base"]**digits, "seqpe", options,
                         dict(patch_size=patch, in_chans=channels, embed_dim=d_model, depth=_layers(checkpoint.model, r"blocks\.(\d+)\."),
                              num_heads=_setting(config, "NUM_HEADS"))))


def position_table(model: nn.Module, *sizes: int) -> Tensor:
    """The position vectors of a released model, as :mod:`~seqpe_lab.geometry` takes them.

    ``position_table(gpt2, 2_048)`` is what the paper's Fig. 2 is made of, ``position_table(vit, 14, 14)`` its Fig. 3.

    Returns:
        float32 (sizes[0] * ..., d_model), row by row, on the CPU, no gradient.
    """
    return model.encoding.encoder.table(*sizes).float().cpu()


# --- evaluation --------------------------------------------------------------------------------

def text_of(source: str, tokenizer: str) -> Tensor:
    """The tokens of a test text, int64 (tokens,).

    WikiText (the hub's, or its wiki.test.raw) is read as the authors do: line by line, blank lines
    left out, nothing between the lines. Other sources: the test split of :func:`~seqpe_lab.tasks.corpus.load_text`.
    """
    path = Path(source).expanduser()
    if source.startswith("hub:"):
        name, _, config = source.removeprefix("hub:").partition(":")
        lines = load_from_hub(f"the data set {name!r}", _WAYS_OUT_DATA, name, config or None, split="test")["text"]
    elif path.suffix in (".raw", ".txt") and path.is_file():
        lines = [line + "\n" for line in path.read_text(encoding="utf-8").split("\n")]
    else:
        return load_text(source, tokenizer).test
    encode = make_tokenizer(tokenizer, {})[0]
    tokens = encode({str(i): line for i, line in enumerate(lines) if line.strip()})
    return tokens[~torch.isin(tokens, encode({"": ""}))]  # without the ends of documents


_WAYS_OUT_DATA = ("Three ways out: (1) connect to the network and try again; (2) download the test split elsewhere and pass it: --source wiki.test.raw, or for images a folder; "
                  "(3) --source python, whose numbers are no reproduction of the paper's.")


def evaluate_text(model: GPT2, tokens: Tensor, lengths: list[int] | None = None) -> list[tuple[Perplexity, float | None]]:
    """Perplexity by length, each with what the paper's Table 1 says of SeqPE there (None where it says nothing)."""
    printed = paper_row(1)
    return [(measured, printed.get(measured.length)) for measured in perplexity_by_length(model, tokens, lengths or list(printed))]


def images_of(source: str):
    """(images, data): the images a ViT is tested on, cut as the authors do: the middle 7/8 of the shorter side.

    Args:
        source: as in :func:`~seqpe_lab.tasks.pictures.load_images`; of a folder with val/, validation/ or test/ only that
            one is read, and a folder of classes is taken whole.
    """
    from seqpe_lab.tasks.pictures import Images, load_images

    class Cut(Images):
        def __getitem__(self, index: int) -> Tensor:
            image = super().__getitem__(index)
            side = round(min(image.shape[-2:]) * 7 / 8)  # 224 of 256
            top, left = ((n - side) // 2 for n in image.shape[-2:])
            return image[:, top: top + side, left: left + side]

    path = Path(source).expanduser()
    inner = next((path / name for name in ("val", "validation", "test") if source.strip() and (path / name).is_dir()), None)
    data = load_images(str(inner or source))
    files, labels = data.test.files, data.test.labels
    if path.is_dir() and not any(path.rglob("*.parquet")):  # a folder of classes, of which the loader has made three splits
        parts = [data.train, data.validation, data.test]
        files, labels = [file for part in parts for file in part.files], torch.cat([part.labels for part in parts])
    return Cut(files, labels, data.channels, source), data


def evaluate_images(model: nn.Module, source: str, sizes: list[int] | None = None, count: int = 0) -> list[tuple]:
    """Top-1 accuracy by size, each with what the paper's Table 3 says of SeqPE there (None where it says nothing).

    Args:
        count: only so many of the images; 0 takes all.

    Raises:
        ValueError: images of other classes than the model's.
    """
    from seqpe_lab.recipes import image_model
    from seqpe_lab.tasks.images import accuracy
    printed = paper_row(3)
    images, data = images_of(source)
    if len(data.classes) != model.config.classes:
        raise ValueError(f"{source} has {len(data.classes)} classes but the model tells {model.config.classes} apart: give the data that it was trained on")
    sizes = sizes or list(printed)
    recipe = image_model("seqpe-mul", "full", patch=model.patch, image_size=model.config.image_size, max_position=model.config.max_position,
                         eval_sizes=tuple(sizes), alpha=0.0, beta=0.0)
    if count:
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]  # files are sorted by class
        images = type(images)([images.files[int(i)] for i in chosen], images.labels[chosen], images.channels, images.origin)
    return [(accuracy(model, images, data, recipe, size), printed.get(size)) for size in sizes]


def paper_row(table: int) -> dict[int, float]:
    """What the paper's Table 1 (perplexity by tokens) or 3 (top-1 by pixels) says of SeqPE.

    >>> paper_row(1)[16_384], paper_row(3)[672]
    (19.37, 76.7)
    """
    row = next(row for row in paper_table(table) if row["model"] == "SeqPE")
    return {int(key): value for key, value in row.items() if key.isdigit()}
