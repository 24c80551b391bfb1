"""The paper authors' published checkpoints: found, read, and loaded exactly.

Their hub repository holds a folder for each model: ``config.json`` and ``pe_config.json`` beside
``best_model/`` with ``model.safetensors`` (the GPT-2) and ``model_1.safetensors`` (the position
encoder), or ``best_model.pth`` with both (the ViT). A tensor is known by its name, whichever file
it lies in. Every name and shape must match, and what they do not tell must stand in the
configuration: nothing is guessed.
"""
from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seqpe_lab.hub import require_hub, three_ways_out
from seqpe_lab.models.checkpoints import load_published, load_published_vit
from seqpe_lab.models.gpt2 import GPT2, GPT2Config

REPOSITORY = "huayangli/seqpe"
FOLDERS = {"lm": "lm_seqpe_ckpt", "qa": "qa_seqpe_ckpt", "image": "image_seqpe_ckpt"}
BEST = "best_model"  # the one that the authors' evaluation takes
PICKLED = (".bin", ".pt", ".pth")
STATE = ("optimizer", "scheduler", "scaler", "sampler", "random_states", "training_args")
_WAYS_OUT = three_ways_out(
    f"download https://huggingface.co/{REPOSITORY} elsewhere and pass its folder",
    "train a model of your own: python -m seqpe_lab train lm")

INTEGRATIONS = {"attn_scalar": "bias", "attn_mul": "mul", "attn_add": "sum"}
# what this library computes; a configuration that says otherwise is refused
EXPECTED = {
    "PE_TYPE": "seq_pe", "USE_PE_MULTI_HEAD": True, "SEQPE_ACTIVATION_FUNCTION": "gelu_new",
    "SEQPE_MASK_PADDING": False, "SEQPE_SCALE_ATTN_WEIGHTS": True, "SEQPE_SCALAR_SCALE": 1.0,
    "SEQPE_TEMPERATURE": 1.0, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}

ENCODER = re.compile(r"(token_of_seqpe|pos_of_seqpe|dim_of_seqpe|dim_token|cls_token)_embed(\.|$)|"
                     r"layernorm\.|out_proj\.|transformers\.\d")
MASK_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
WRAPPERS = re.compile(r"((module|_orig_mod|model)\.)+")  # DDP, torch.compile, accelerate


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, in the authors' names.

    Attributes:
        model, encoder: float32 tensors of the main model and of the position encoder.
        config: all settings in one table.
        files: those that were read.
    """
    model: dict[str, Tensor]
    encoder: dict[str, Tensor]
    config: dict
    files: list[Path]

    @property
    def task(self) -> str:
        """"image" or "lm", by the names."""
        return "image" if any(name.startswith("patch_embed.") for name in self.model) else "lm"

    def shape(self, name: str) -> torch.Size:
        """Of a tensor without which the model's shape is not known."""
        tensors = self.model | self.encoder
        if name not in tensors:
            raise ValueError(f"the weights lack {name} (there are {len(tensors)} others, such as "
                             f"{', '.join(list(tensors)[:5]) or 'none'})")
        return tensors[name].shape

    def setting(self, *names: str):
        """The first of some settings that the configuration has."""
        for name in names:
            if self.config.get(name) is not None:
                return self.config[name]
        raise ValueError(f"its config.json and pe_config.json do not say {' or '.join(names)}: pass "
                         f"it to load(), for instance {names[0]}=12")

    def layers(self, pattern: str) -> int:
        """How many layers there are, by the numbers in the names."""
        found = (re.match(pattern, name) for name in self.model | self.encoder)
        return 1 + max((int(match[1]) for match in found if match), default=-1)


def load(source: str | Path, task: str = "lm", **settings) -> nn.Module:
    """A published model, in evaluation mode.

    Args:
        source, task: as in :func:`find`.
        settings: what the configuration does not say or says wrongly, in its own words, such as
            ``NUM_ATTENTION_HEADS=12``.

    Returns:
        :class:`~seqpe_lab.models.gpt2.GPT2` or :class:`~seqpe_lab.models.vit.ViT`, float32, on the
        CPU.

    Raises:
        ValueError: a model of another kind, settings that are missing or that this library does not
            compute, names or shapes that do not fit; all listed, with the files.
        FileNotFoundError, ConnectionError: as in :func:`find`.
    """
    folder = find(str(source), task)
    checkpoint = read(folder)
    checkpoint.config.update(settings)
    if (kind := checkpoint.task) != ("image" if task == "image" else "lm"):
        raise ValueError(f"{folder} holds a model of {'images' if kind == 'image' else 'text'}: "
                         f"say task {kind!r}, or give another folder")
    problems = [f"{key} is {checkpoint.config[key]!r}, this library computes {value!r}"
                for key, value in EXPECTED.items() if checkpoint.config.get(key, value) != value]
    if problems:
        raise ValueError(f"the settings of {folder} differ from what can be loaded:\n  "
                         + "\n  ".join(problems))
    try:
        if kind == "image":
            model = _make_vit(checkpoint)
            load_published_vit(model, checkpoint.model, checkpoint.encoder)
        else:
            model = _make_gpt2(checkpoint)
            load_published(model, checkpoint.model, checkpoint.encoder)
    except ValueError as error:
        read_from = ", ".join(str(file.relative_to(folder)) for file in checkpoint.files)
        raise ValueError(f"{folder} cannot be loaded: {error}\nfiles read: {read_from}; in the "
                         f"folder: {_listed(folder)}") from error
    return model.eval()


def position_table(model: nn.Module, *sizes: int) -> Tensor:
    """The position vectors of a published model, as :mod:`seqpe_lab.geometry` takes them.

    ``position_table(gpt2, 2_048)`` is what the paper's Fig. 2 shows, and
    ``position_table(vit, 14, 14)`` its Fig. 3.

    Returns:
        float32 (sizes[0] * ..., d_model), row by row, on the CPU, without gradient.
    """
    return model.encoding.encoder.table(*sizes).float().cpu()


# --- finding -------------------------------------------------------------------------------------

def find(source: str, task: str = "lm") -> Path:
    """The folder of one model.

    Args:
        source: "hub" (the authors' repository), "hub:NAME" (another), or a local folder: of one
            model, or of all of them.
        task: "lm", "qa" or "image".

    Raises:
        ValueError: an unknown task, a repository without the folder.
        FileNotFoundError: no such folder.
        ConnectionError: the hub cannot be reached; within seconds, with the ways out.
    """
    if task not in FOLDERS:
        raise ValueError(f"unknown task {task!r}: choose from {', '.join(FOLDERS)}")
    if source == "hub" or source.startswith("hub:"):
        name = source.removeprefix("hub").removeprefix(":") or REPOSITORY
        return _download(name, FOLDERS[task])
    root = Path(source).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {source}: give a folder with a published checkpoint, "
                                f"or 'hub' for {REPOSITORY}")
    return root / FOLDERS[task] if (root / FOLDERS[task]).is_dir() else root


def _download(name: str, folder: str) -> Path:
    require_hub(f"the published checkpoints {name!r}", _WAYS_OUT)
    from huggingface_hub import snapshot_download
    wanted = [f"{folder}/*{ending}" for ending in (".json", ".safetensors", *PICKLED)]
    unwanted = [f"*{word}*" for word in STATE] + ["*/step_*", "*/ckpt_epoch_*"]
    try:
        root = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted))
    except Exception as error:  # the hub's client raises many kinds
        raise ConnectionError(f"the hub did not give {name!r} ({type(error).__name__}: {error}). "
                              f"{_WAYS_OUT}") from error
    if not (root / folder).is_dir():
        raise ValueError(f"the repository {name!r} has no folder {folder}; it gave "
                         f"{_listed(root)}")
    return root / folder


def _listed(folder: Path) -> str:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    more = f" and {len(names) - 40} more" if len(names) > 40 else ""
    return ", ".join(names[:40]) + more if names else "no file at all"


# --- reading -------------------------------------------------------------------------------------

def read(folder: Path) -> Checkpoint:
    """All tensors and settings of a model's folder; nothing in it is executed.

    Safetensors are preferred. Pickled files are read only where there are none, and only as
    torch's ``weights_only``, which refuses anything but tensors and plain values.

    Raises:
        ValueError: no weights, several checkpoints, a file that is broken or holds more than
            weights, one name with two values; with the files that are there.
    """
    files = _weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, value in _tensors(file):
            if name in tensors and not torch.equal(tensors[name], value):
                raise ValueError(f"{name} stands twice in {folder}, with different values "
                                 f"({', '.join(f.name for f in files)}): keep one model in it")
            tensors[name] = value.float()
    encoder = {name.removeprefix("pe_model."): tensors.pop(name) for name in list(tensors)
               if name.startswith("pe_model.") or ENCODER.match(name)}
    model = {name: value for name, value in tensors.items() if not MASK_BUFFER.fullmatch(name)}
    if "transformer.wte.weight" not in model and "lm_head.weight" in model:
        model["transformer.wte.weight"] = model.pop("lm_head.weight")  # one tensor, tied
    return Checkpoint(model, encoder, _config(folder), files)


def _weight_files(folder: Path) -> list[Path]:
    for place in (folder, folder / BEST):
        here = [p for p in sorted(place.glob("*")) if p.is_file() and not p.name.startswith(STATE)]
        files = ([p for p in here if p.suffix == ".safetensors"]
                 or [p for p in here if p.suffix in PICKLED])
        files = [p for p in files if p.stem == BEST] or files  # of several epochs
        if len(files) > 1 and all(p.suffix == ".pth" for p in files):
            raise ValueError(f"{folder} holds several checkpoints "
                             f"({', '.join(p.name for p in files)}): leave one, or name it "
                             f"{BEST}.pth")
        if files:
            return files
    raise ValueError(f"{folder} holds no weights: it needs .safetensors (or {', '.join(PICKLED)}) "
                     f"files, itself or in {BEST}/; it has {_listed(folder)}")


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors without the prefixes of wrappers; "pe_model." stays."""
    if file.suffix == ".safetensors":
        try:
            content = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is no safetensors file, or a truncated one ({error}): "
                             "download it again") from error
    else:
        content = _pickled(file)
    for name, value in content.items():
        prefix = "pe_model." if name.startswith("pe_model.") else ""
        yield prefix + WRAPPERS.sub("", name.removeprefix(prefix), count=1) if WRAPPERS.match(
            name.removeprefix(prefix)) else name, value


def _pickled(file: Path) -> dict[str, Tensor]:
    try:  # the image checkpoint carries its settings, an object of yacs: read as a plain table
        with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip and torch
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks for {asked[1]}" if asked else type(error).__name__
        raise ValueError(f"{file} is refused: it is broken, or holds more than weights and plain "
                         f"values ({reason}). Get it as safetensors") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a table of tensors")
    if not any(isinstance(value, Tensor) for value in content.values()):  # a table of tables
        parts = {key: content[key] for key in ("model", "pe_model", "state_dict", "module")
                 if content.get(key) is not None}
        if not parts:
            raise ValueError(f"{file} holds no table of weights, only "
                             f"{', '.join(map(str, content)) or 'nothing'}: expected 'model' and "
                             "'pe_model'")
        content = {("pe_model." if key == "pe_model" else "") + name: value
                   for key, part in parts.items() for name, value in part.items()}
    if strange := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{file} holds entries that are no tensors: {', '.join(strange)}")
    return content


def _config(folder: Path) -> dict:
    """config.json, its tables "DATA", "MODEL" and "pe_config", and pe_config.json, in one table."""
    found: dict = {}
    for name in ("config.json", "pe_config.json"):
        above = folder.name == BEST and not (folder / name).is_file()
        path = (folder.parent if above else folder) / name
        found |= _table(path) if path.is_file() else {}
    tables = [found[key] for key in ("DATA", "MODEL", "pe_config")
              if isinstance(found.get(key), dict)]
    nested = {key: value for table in tables for key, value in table.items()}
    return nested | {key: value for key, value in found.items() if not isinstance(value, dict)}


def _table(path: Path) -> dict:
    """JSON or, as the authors' files are in spite of their names, YAML."""
    import yaml  # comes with huggingface_hub
    text = path.read_text(encoding="utf-8")
    try:
        table = json.loads(text)
    except json.JSONDecodeError:
        try:
            table = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is neither JSON nor YAML ({str(error).splitlines()[0]}): "
                             "download it again") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} holds no table of settings: download it again")
    return table


# --- shapes --------------------------------------------------------------------------------------

def _encoding_options(checkpoint: Checkpoint, digits: int) -> dict:
    method = checkpoint.setting("PE_APPLY_METHOD")
    if method not in INTEGRATIONS:
        raise ValueError(f"PE_APPLY_METHOD {method!r} is none of {', '.join(INTEGRATIONS)}")
    return {"integration": INTEGRATIONS[method],
            "shared_projection": not any(".attn.pe_qk." in name for name in checkpoint.model),
            "digits": digits, "base": checkpoint.shape("token_of_seqpe_embed.weight")[0],
            "encoder_layers": checkpoint.layers(r"transformers\.(\d+)\."),
            "encoder_heads": checkpoint.setting("NUM_ATTENTION_HEADS"),
            "causal": checkpoint.config.get("SEQPE_ATTN_DIRECTION", "causal") == "causal",
            "shared_places": checkpoint.shape("pos_of_seqpe_embed.weight")[0] == digits}


def _make_gpt2(checkpoint: Checkpoint) -> GPT2:
    vocabulary, d_model = checkpoint.shape("transformer.wte.weight")
    digits = checkpoint.shape("pos_of_seqpe_embed.weight")[0]
    options = _encoding_options(checkpoint, digits)
    reach = checkpoint.config.get("PE_MAX_POSITION") or math.inf
    return GPT2(GPT2Config(
        vocabulary, d_model, checkpoint.layers(r"transformer\.h\.(\d+)\."),
        checkpoint.setting("n_head", "NUM_ATTENTION_HEADS"),
        max_position=min(reach, options["base"]**digits), dropout=0.0, encoding="seqpe",
        encoding_options=options))


def _make_vit(checkpoint: Checkpoint) -> nn.Module:
    from seqpe_lab.models.vit import ViT, ViTConfig
    d_model, channels, patch, _ = checkpoint.shape("patch_embed.proj.weight")
    dims = checkpoint.shape("dim_token_embed")[0]
    # the published vision code has a row for each place of each dimension
    digits = checkpoint.shape("pos_of_seqpe_embed.weight")[0] // dims
    options = _encoding_options(checkpoint, digits)
    size = (checkpoint.config.get("IMG_SIZE") or 224) // patch * patch
    shape = dict(patch_size=patch, in_chans=channels, embed_dim=d_model,
                 depth=checkpoint.layers(r"blocks\.(\d+)\."),
                 num_heads=checkpoint.setting("NUM_HEADS"))
    return ViT(ViTConfig("vit_small_patch16_224", size, checkpoint.shape("head.weight")[0],
                         options["base"]**digits, "seqpe", options, shape))
