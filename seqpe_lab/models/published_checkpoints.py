"""Find, read and load the paper authors' published checkpoints.

Their hub repository holds a folder for each model: ``config.json`` and ``pe_config.json`` beside
``best_model/`` with ``model.safetensors`` (the GPT-2) and ``model_1.safetensors`` (the position
encoder), or ``best_model.pth`` with both (the ViT). A tensor is known by its name, whichever file
it is in. Every name and shape must match, and what the tensors do not determine must be in the
configuration: nothing is guessed.
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

from seqpe_lab.hub import ask_hub, three_ways_out
from seqpe_lab.models.checkpoints import WRAPPERS, load_published
from seqpe_lab.models.gpt2 import GPT2, GPT2Config

REPOSITORY = "huayangli/seqpe"
FOLDERS = {"lm": "lm_seqpe_ckpt", "qa": "qa_seqpe_ckpt", "image": "image_seqpe_ckpt"}
_WAYS_OUT = three_ways_out(
    f"download https://huggingface.co/{REPOSITORY} elsewhere and pass its folder",
    "train a model of your own: python -m seqpe_lab train lm")
# where the weights are; the first that is there counts
WEIGHTS = ("*.safetensors", "best_model/*.safetensors", "best_model.pth", "*.pth")
MOST_NESTED = 100  # tables within tables in a file of settings
INTEGRATION_NAMES = {"attn_scalar": "bias", "attn_mul": "mul", "attn_add": "sum"}
# what this library computes; any other value in a configuration raises an error
EXPECTED = {
    "PE_TYPE": "seq_pe", "USE_PE_MULTI_HEAD": True, "SEQPE_ACTIVATION_FUNCTION": "gelu_new",
    "SEQPE_MASK_PADDING": False, "SEQPE_SCALE_ATTN_WEIGHTS": True, "SEQPE_SCALAR_SCALE": 1.0,
    "SEQPE_TEMPERATURE": 1.0, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}


def load(source: str | Path, task: str = "lm", **settings) -> nn.Module:
    """Load a published model, in evaluation mode.

    Args:
        source, task: as in :func:`find`.
        settings: replace those of the configuration that are missing or wrong, under the same
            names, such as ``NUM_ATTENTION_HEADS=12``.

    Returns:
        :class:`~seqpe_lab.models.gpt2.GPT2` or :class:`~seqpe_lab.models.vit.ViT`, float32, on the
        CPU.

    Raises:
        ValueError: a model for another task, settings that are missing or that this library does
            not support, names or shapes that do not fit; all listed, with the files.
        FileNotFoundError, ConnectionError: as in :func:`find`.
    """
    folder = find(str(source), task)
    checkpoint = read(folder)
    checkpoint.settings.update(settings)
    kind = "image" if "patch_embed.proj.weight" in checkpoint.tensors else "lm"
    if (kind == "image") != (task == "image"):
        raise ValueError(f"{folder} holds a model of {'images' if kind == 'image' else 'text'}: "
                         f"say task {kind!r}, or give another folder")
    problems = [f"{key} is {checkpoint.settings[key]!r}, this library computes {value!r}"
                for key, value in EXPECTED.items() if checkpoint.settings.get(key, value) != value]
    if problems:
        raise ValueError(f"the settings of {folder} differ from what can be loaded:\n  "
                         + "\n  ".join(problems))
    try:
        model = (_make_vit if kind == "image" else _make_gpt2)(checkpoint)
        load_published(model, checkpoint.tensors)
    except ValueError as error:
        read_from = ", ".join(str(file.relative_to(folder)) for file in checkpoint.files)
        raise ValueError(f"{folder} cannot be loaded: {error}\nfiles read: {read_from}; in the "
                         f"folder: {_listed(folder)}") from error
    return model.eval()


def position_table(model: nn.Module, *sizes: int) -> Tensor:
    """The position vectors of a published model, as :mod:`seqpe_lab.geometry` takes them.

    The paper's Fig. 2 shows the dot products of ``position_table(gpt2, 2_048)``, and Fig. 3 those
    of ``position_table(vit, 14, 14)``.

    Returns:
        float32 (sizes[0] * ..., d_model), row by row, on the CPU, without gradient.
    """
    return model.encoding.encoder.table(*sizes).float().cpu()


def find(source: str, task: str = "lm") -> Path:
    """The local folder of one model, downloaded if necessary.

    Args:
        source: "hub" (the authors' repository), "hub:NAME" (another), or a local folder: of one
            model, or of all of them.
        task: "lm", "qa" or "image".

    Raises:
        ValueError: an unknown task, a repository without the folder.
        FileNotFoundError: no such folder.
        ConnectionError: the hub cannot be reached; raised within seconds, with the ways out.
    """
    if task not in FOLDERS:
        raise ValueError(f"unknown task {task!r}: choose from {', '.join(FOLDERS)}")
    if source != "hub" and not source.startswith("hub:"):
        root = Path(source).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {source}: give a folder with a published "
                                    f"checkpoint, or 'hub' for {REPOSITORY}")
        return root / FOLDERS[task] if (root / FOLDERS[task]).is_dir() else root

    def download() -> str:
        from huggingface_hub import snapshot_download
        wanted = ("*.json", "best_model/*.safetensors", "best_model.pth")
        return snapshot_download(name, allow_patterns=[f"{folder}/{file}" for file in wanted])
    name, folder = source.removeprefix("hub").removeprefix(":") or REPOSITORY, FOLDERS[task]
    root = Path(ask_hub(f"the published checkpoints {name!r}", _WAYS_OUT, download))
    if not (root / folder).is_dir():
        raise ValueError(f"the repository {name!r} has no folder {folder}; it gave "
                         f"{_listed(root)}")
    return root / folder


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, under the authors' names."""
    tensors: dict[str, Tensor]  # of the main model and of the position encoder, float32
    settings: dict  # all in one table
    files: list[Path]  # of weights that were read

    def shape(self, name: str) -> torch.Size:
        """The shape of a tensor; ValueError if it is missing."""
        if name not in self.tensors:
            raise ValueError(f"the weights lack {name}")
        return self.tensors[name].shape

    def setting(self, *names: str):
        """The first of these settings that the configuration has; ValueError if it has none."""
        for name in names:
            if self.settings.get(name) is not None:
                return self.settings[name]
        raise ValueError(f"its config.json and pe_config.json do not say {' or '.join(names)}: "
                         f"pass it to load(), for instance {names[0]}=12")

    def layers(self, pattern: str) -> int:
        """The number of layers: 1 + the highest number that ``pattern`` finds in tensors' names."""
        found = (re.match(pattern, name) for name in self.tensors)
        return 1 + max((int(match[1]) for match in found if match), default=-1)


def read(folder: Path) -> Checkpoint:
    """Read all tensors and settings of a model's folder; nothing in it is executed.

    A pickled file is read only where there are no safetensors, and only as torch's
    ``weights_only``, which refuses anything but tensors and plain values.

    Raises:
        ValueError: no weights, several checkpoints, a file that is broken or holds more than
            weights, or one name with two values; the message names the files.
    """
    files = next(filter(None, (sorted(folder.glob(place)) for place in WEIGHTS)), [])
    if not files:
        raise ValueError(f"{folder} holds no weights: it needs .safetensors files, itself or in "
                         f"best_model/, or best_model.pth; it has {_listed(folder)}")
    if len(files) > 1 and files[0].suffix == ".pth":
        raise ValueError(f"{folder} holds several checkpoints ({', '.join(p.name for p in files)}"
                         "): leave one, or name it best_model.pth")
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, value in (_pickled if file.suffix == ".pth" else _safetensors)(file).items():
            name, value = re.sub(WRAPPERS, "", name), value.float()
            if not torch.equal(tensors.setdefault(name, value), value):
                raise ValueError(f"{name} stands twice in {folder}, with different values "
                                 f"({', '.join(f.name for f in files)}): keep one model in it")
    if "lm_head.weight" in tensors:  # one tensor, tied
        tensors.setdefault("transformer.wte.weight", tensors["lm_head.weight"])
    above = folder.parent if folder.name == "best_model" else folder
    settings = _settings(above / "config.json") | _settings(above / "pe_config.json")
    return Checkpoint(tensors, settings, files)


def _listed(folder: Path) -> str:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return ", ".join(names[:40]) + " ..." * (len(names) > 40) or "no file at all"


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or a truncated one ({error}): "
                         "download it again") from error


def _pickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a file: a table of them, or such tables under "model" and "pe_model"."""
    try:  # the image checkpoint carries its settings, an object of yacs: read as a plain table
        with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip and torch
        raise ValueError(f"{file} is refused: it is broken, or holds more than weights and plain "
                         f"values ({type(error).__name__}). Get it as safetensors") from error
    if not isinstance(content, dict):
        content = {type(content).__name__: content}
    tables = [content[key] for key in ("model", "pe_model") if isinstance(content.get(key), dict)]
    found = {name: value for table in tables or [content] for name, value in table.items()}
    if strange := [str(name) for name, value in found.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{file} holds entries that are no tensors: {', '.join(strange)}; "
                         "expected weights, or tables of them under 'model' and 'pe_model'")
    return found


def _settings(path: Path) -> dict:
    """A file of settings and its tables "DATA", "MODEL" and "pe_config" in one table; {} if none.

    JSON or YAML: the authors' files are YAML, although their names end in ".json".
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
    try:
        table = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        table = _yaml_table(path, text)
    if not isinstance(table, dict):
        raise ValueError(f"{path} is neither JSON nor YAML with a table of settings: download it "
                         "again")
    nested: dict = {}
    for key in ("DATA", "MODEL", "pe_config"):
        nested |= table[key] if isinstance(table.get(key), dict) else {}
    return nested | table


def _yaml_table(path: Path, text: str) -> object:
    """What a YAML text holds; None if it is none. Refuses what grows when it is read."""
    import yaml  # comes with huggingface_hub
    depth = 0
    try:
        for event in yaml.parse(text):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_NESTED:  # each further bracket would take a millisecond to read
                raise ValueError(f"{path} is refused: its tables are nested more than "
                                 f"{MOST_NESTED} deep")
            if isinstance(event, yaml.AliasEvent):  # with which few lines can stand for gigabytes
                raise ValueError(f"{path} is refused: it refers to its own parts (YAML aliases, "
                                 "*name): write the values out")
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _encoding_options(checkpoint: Checkpoint, digits: int) -> dict:
    method = checkpoint.setting("PE_APPLY_METHOD")
    if method not in INTEGRATION_NAMES:
        raise ValueError(f"PE_APPLY_METHOD {method!r} is none of {', '.join(INTEGRATION_NAMES)}")
    return {"integration": INTEGRATION_NAMES[method],
            "shared_projection": not any(".attn.pe_qk." in name for name in checkpoint.tensors),
            "digits": digits, "base": checkpoint.shape("token_of_seqpe_embed.weight")[0],
            "encoder_layers": checkpoint.layers(r"transformers\.(\d+)\."),
            "encoder_heads": checkpoint.setting("NUM_ATTENTION_HEADS"),
            "causal": checkpoint.settings.get("SEQPE_ATTN_DIRECTION", "causal") == "causal",
            "shared_places": checkpoint.shape("pos_of_seqpe_embed.weight")[0] == digits}


def _make_gpt2(checkpoint: Checkpoint) -> GPT2:
    vocabulary, d_model = checkpoint.shape("transformer.wte.weight")
    digits = checkpoint.shape("pos_of_seqpe_embed.weight")[0]
    options = _encoding_options(checkpoint, digits)
    max_position = checkpoint.settings.get("PE_MAX_POSITION") or math.inf
    return GPT2(GPT2Config(
        vocabulary, d_model, checkpoint.layers(r"transformer\.h\.(\d+)\."),
        checkpoint.setting("n_head", "NUM_ATTENTION_HEADS"),
        max_position=min(max_position, options["base"]**digits), dropout=0.0, encoding="seqpe",
        encoding_options=options))


def _make_vit(checkpoint: Checkpoint) -> nn.Module:
    from seqpe_lab.models.vit import ViT, ViTConfig
    d_model, channels, patch, _ = checkpoint.shape("patch_embed.proj.weight")
    dims = checkpoint.shape("dim_token_embed")[0]
    # the published vision code has a row for each place of each dimension
    digits = checkpoint.shape("pos_of_seqpe_embed.weight")[0] // dims
    options = _encoding_options(checkpoint, digits)
    size = (checkpoint.settings.get("IMG_SIZE") or 224) // patch * patch
    shape = dict(patch_size=patch, in_chans=channels, embed_dim=d_model,
                 depth=checkpoint.layers(r"blocks\.(\d+)\."),
                 num_heads=checkpoint.setting("NUM_HEADS"))
    return ViT(ViTConfig("vit_small_patch16_224", size, checkpoint.shape("head.weight")[0],
                         options["base"]**digits, "seqpe", options, shape))
