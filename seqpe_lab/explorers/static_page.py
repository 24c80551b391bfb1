"""The explorers as a folder that opens from disk, with no server, kernel or network.

``index.html`` holds the scripts, the templates and the descriptions. Plotly and each explorer's
arrays are a file each, compressed, which the page loads when it needs them: browsers refuse to read
files beside a page that was opened from disk, except as scripts.
"""
from __future__ import annotations

import base64
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


def pack(value: Any) -> bytes:
    """Plain values and arrays as the page's ``unpack`` reads them, compressed.

    Four numbers: the length of a JSON text, and how many array elements have 4, 2 and 1 bytes. Then
    the text, in which each array is {"array": [type, shape, number of its first element]}. Then the
    elements, those of 4 bytes first: the first byte of each, then the second byte of each, and so
    on, which compresses better.

    Raises:
        TypeError: an array of a type that is not in ``TYPES``.
    """
    planes: dict[int, list[list[bytes]]] = {size: [[] for _ in range(size)] for size in (4, 2, 1)}
    count = dict.fromkeys(planes, 0)

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.name not in TYPES:
                raise TypeError(f"an array of {value.dtype} cannot be stored: choose one of "
                                f"{', '.join(TYPES)}")
            first, size = count[value.itemsize], value.itemsize
            count[size] += value.size
            each = np.ascontiguousarray(value).view(np.uint8).reshape(-1, size)
            for plane, part in zip(planes[size], each.T):
                plane.append(part.tobytes())
            return {"array": [value.dtype.name, value.shape, first]}
        if isinstance(value, Mapping):
            return {str(key): plain(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        return value

    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False).encode()
    head = b"".join(n.to_bytes(4, "little") for n in (len(text), *count.values()))
    parts = (b"".join(plane) for of_size in planes.values() for plane in of_size)
    return gzip.compress(b"".join((head, text, *parts)), 9, mtime=0)


def write(folder: Path, names: Iterable[str] = EXPLORERS) -> Path:
    """Write the page of some explorers; returns the file to open.

    Where the folder lies in the course's site, the page links to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    explorers = [make_explorer(name) for name in names]
    packed = {"plotly": gzip.compress(get_plotlyjs().encode(), 9, mtime=0)}
    packed |= {explorer.name: pack(explorer.stored()) for explorer in explorers}
    for name, data in packed.items():
        text = f'seqpeArrived("{name}", "{base64.b85encode(data).decode()}")\n'
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    about = {explorer.name: {"about": explorer.description(), "template": explorer.template}
             for explorer in explorers}
    computations = dict.fromkeys(HERE / f"{name}.js" for explorer in explorers
                                 for name in (*explorer.scripts, explorer.name))
    links = {f"#{explorer.name}": explorer.texts["title"] for explorer in explorers}
    if (folder.parent / "explorers.html").exists():
        links = {"../index.html": "← The course"} | links
    page = Template((HERE / "static_page.html").read_text(encoding="utf-8")).substitute(
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        links="".join(f'<a href="{to}">{html.escape(title)}</a>' for to, title in links.items()),
        about=json.dumps(about, ensure_ascii=False).replace("</", "<\\/"),
        script=scripts(PLOT, HERE / "fill.js", HERE / "page.js", HERE / "static_page.js",
                       *computations))
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8")
    return index
