"""The explorers as a folder that opens from disk, with no server, kernel or network.

``index.html`` holds the scripts, the templates and the descriptions. Plotly and each explorer's
arrays are a file each, compressed, which the page loads when it needs them: browsers refuse to read
files beside a page that was opened from disk, except as scripts.
"""
from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from seqpe_lab.course.plot_widget import PLOT, scripts
from seqpe_lab.explorers import EXPLORERS, make_explorer

HERE = Path(__file__).parent
TYPES = ("uint8", "int8", "uint16", "int16", "int32", "float16", "float32")


@dataclasses.dataclass(frozen=True)
class Rounded:
    """An array to be stored with 256 or 65,536 levels between its lowest and its highest value."""
    array: np.ndarray
    bits: int = 8


def pack(value: Any) -> bytes:
    """Plain values and arrays as the page's ``unpack`` reads them, compressed.

    A JSON text, in which each array is {"array": [type, shape, first byte, low, step]}, and the
    arrays' bytes.

    Raises:
        TypeError: an array of a type that is not in ``TYPES``.
    """
    parts: list[bytes] = []

    def plain(value: Any) -> Any:
        low, step = 0.0, 1.0
        if isinstance(value, Rounded):
            array, levels = np.asarray(value.array, dtype=float), 2**value.bits - 1
            low = float(array.min(initial=np.inf))
            step = (float(array.max(initial=-np.inf)) - low) / levels or 1.0
            value = np.rint((array - low) / step).astype(f"uint{value.bits}")
        if isinstance(value, np.ndarray):
            if value.dtype.name not in TYPES:
                raise TypeError(f"an array of {value.dtype} cannot be stored: choose one of "
                                f"{', '.join(TYPES)}")
            place = sum(map(len, parts))
            parts.append(value.tobytes() + b"\0" * (-value.nbytes % 4))
            return {"array": [value.dtype.name, value.shape, place, low, step]}
        if isinstance(value, Mapping):
            return {str(key): plain(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        return value

    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return gzip.compress(len(text).to_bytes(4, "little") + text + b"".join(parts), 9, mtime=0)


def write(folder: Path, names: Iterable[str] = EXPLORERS) -> Path:
    """Write the page of some explorers; returns the file to open."""
    folder.mkdir(parents=True, exist_ok=True)
    explorers = [make_explorer(name) for name in names]
    computations = dict.fromkeys(path for explorer in explorers for path in explorer.scripts)
    packed = {"plotly": gzip.compress(get_plotlyjs().encode(), 9, mtime=0)}
    packed |= {explorer.name: pack(explorer.stored()) for explorer in explorers}
    for name, data in packed.items():
        text = f'seqpeArrived("{name}", "{base64.b64encode(data).decode()}")\n'
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    about = {explorer.name: {"about": explorer.description(), "template": explorer.template}
             for explorer in explorers}
    page = Template((HERE / "static_page.html").read_text(encoding="utf-8")).substitute(
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        names="".join(f'<a href="#{e.name}">{html.escape(e.title)}</a>' for e in explorers),
        about=json.dumps(about, ensure_ascii=False).replace("</", "<\\/"),
        script=scripts(PLOT, HERE / "fill.js", HERE / "page.js", HERE / "static_page.js",
                       *computations))
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8")
    return index
