"""Read a folder with a published model, its weights and settings, without executing any of it."""
from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

BEST = "best_model"  # the checkpoint that the authors evaluate
PICKLED = (".bin", ".pt", ".pth")
# files with the state of training, not of the model, begin like this
TRAINING_STATE = ("optimizer", "scheduler", "scaler", "sampler", "random_states", "training_args")
# the tensors of the position encoder
ENCODER = re.compile(r"(token_of_seqpe|pos_of_seqpe|dim_of_seqpe|dim_token|cls_token)_embed(\.|$)|"
                     r"layernorm\.|out_proj\.|transformers\.\d")
MASK_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
WRAPPERS = re.compile(r"^(pe_model\.)?((module|_orig_mod|model)\.)*")  # DDP, torch.compile, theirs


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, under the authors' names.

    Attributes:
        model, encoder: float32 tensors of the main model and of the position encoder.
        config: all settings in one table.
        files: the files of weights that were read.
    """
    model: dict[str, Tensor]
    encoder: dict[str, Tensor]
    config: dict
    files: list[Path]

    @property
    def task(self) -> str:
        """"image" or "lm", judged by the tensors' names."""
        return "image" if any(name.startswith("patch_embed.") for name in self.model) else "lm"

    def shape(self, name: str) -> torch.Size:
        """The shape of a tensor; ValueError if it is missing."""
        tensors = self.model | self.encoder
        if name not in tensors:
            raise ValueError(f"the weights lack {name} (there are {len(tensors)} others, such as "
                             f"{', '.join(list(tensors)[:5]) or 'none'})")
        return tensors[name].shape

    def setting(self, *names: str):
        """The first of these settings that the configuration has; ValueError if it has none."""
        for name in names:
            if self.config.get(name) is not None:
                return self.config[name]
        raise ValueError(f"its config.json and pe_config.json do not say {' or '.join(names)}: "
                         f"pass it to load(), for instance {names[0]}=12")

    def layers(self, pattern: str) -> int:
        """The number of layers: 1 + the highest number that ``pattern`` finds in tensors' names."""
        found = (re.match(pattern, name) for name in self.model | self.encoder)
        return 1 + max((int(match[1]) for match in found if match), default=-1)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read all tensors and settings of a model's folder; nothing in it is executed.

    Safetensors are preferred. Pickled files are read only where there are none, and only as
    torch's ``weights_only``, which refuses anything but tensors and plain values.

    Raises:
        ValueError: no weights, several checkpoints, a file that is broken or holds more than
            weights, or one name with two values; the message names the files.
    """
    files = _weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, value in _tensors(file):
            value = value.float()
            if name in tensors and not torch.equal(tensors[name], value):
                raise ValueError(f"{name} stands twice in {folder}, with different values "
                                 f"({', '.join(f.name for f in files)}): keep one model in it")
            tensors[name] = value
    encoder = {name.removeprefix("pe_model."): tensors.pop(name) for name in list(tensors)
               if name.startswith("pe_model.") or ENCODER.match(name)}
    model = {name: value for name, value in tensors.items() if not MASK_BUFFER.fullmatch(name)}
    if "transformer.wte.weight" not in model and "lm_head.weight" in model:
        model["transformer.wte.weight"] = model.pop("lm_head.weight")  # one tensor, tied
    return Checkpoint(model, encoder, _config(folder), files)


def _weight_files(folder: Path) -> list[Path]:
    for place in (folder, folder / BEST):
        here = [p for p in sorted(place.glob("*"))
                if p.is_file() and not p.name.startswith(TRAINING_STATE)]
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
                     f"files, itself or in {BEST}/; it has {listed(folder)}")


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors, their names without the prefixes of wrappers but with "pe_model."."""
    if file.suffix == ".safetensors":
        try:
            content = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is no safetensors file, or a truncated one ({error}): "
                             "download it again") from error
    else:
        content = _pickled(file)
    for name, value in content.items():
        yield WRAPPERS.sub(r"\1", name), value


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
                 if isinstance(content.get(key), dict)}
        if not parts:
            raise ValueError(f"{file} holds no table of weights, only "
                             f"{', '.join(map(str, content)) or 'nothing'}: expected 'model' and "
                             "'pe_model'")
        content = {("pe_model." if key == "pe_model" else "") + name: value
                   for key, part in parts.items() for name, value in part.items()}
    if strange := [str(name) for name, value in content.items()
                   if not isinstance(name, str) or not isinstance(value, Tensor)]:
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
    """Read JSON or YAML: the authors' files are YAML, although their names end in ".json"."""
    text = path.read_text(encoding="utf-8")
    try:
        table = json.loads(text)
    except json.JSONDecodeError:
        import yaml  # comes with huggingface_hub
        try:
            table = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is neither JSON nor YAML ({str(error).splitlines()[0]}): "
                             "download it again") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path} holds no table of settings: download it again")
    return table


def listed(folder: Path) -> str:
    """The files of a folder, for messages."""
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    more = f" and {len(names) - 40} more" if len(names) > 40 else ""
    return ", ".join(names[:40]) + more if names else "no file at all"
