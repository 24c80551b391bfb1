"""The library's reference, from signatures and docstrings; nothing is imported for it."""
from __future__ import annotations

import ast
import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.page_templates import render
from seqpe_lab.course.typesetting import to_html
from seqpe_lab.package_data import PACKAGE

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")


class Entry(NamedTuple):
    """A module, class, function or method of the reference.

    Attributes:
        name: without the module's; of a method, with its class.
        signature: as one would type it; "" for a module.
        about: the docstring as HTML.
    """
    name: str
    signature: str
    about: Markup


def write_reference(folder: Path) -> None:
    """Write ``reference.html``, the list of modules, and a page for each room of the package."""
    rooms: dict[str, list[tuple[str, list[Entry]]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        module = name.removesuffix(".__init__")
        if "__main__" not in module:
            room = (module.split(".") + ["seqpe_lab"])[1]
            rooms.setdefault(room, []).append((module, list(entries(path))))
    (folder / "reference").mkdir(parents=True, exist_ok=True)
    for room, modules in rooms.items():
        write_atomically(folder / "reference" / f"{room}.html", render(
            "reference.html", root="../", title=f"The library: {room}", modules=modules))
    overview = {room: [(module, found[0].about) for module, found in modules]
                for room, modules in rooms.items()}
    write_atomically(folder / "reference.html", render(
        "reference_list.html", title="The library", here="reference.html", rooms=overview))


def entries(path: Path) -> Iterator[Entry]:
    """The documented public names of a module, the module itself first."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield Entry("", "", _about(tree))
    for node in tree.body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield Entry(node.name, _signature(node), _about(node))
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, Documented) and not method.name.startswith("_"):
                    yield Entry(f"{node.name}.{method.name}", _signature(method), _about(method))


def markdown_of(docstring: str) -> str:
    """A docstring as Markdown: examples become code, ``Args`` and the like lists.

    >>> text = "Add.\\n\\nArgs:\\n    a: one\\n        number.\\n\\n>>> add(1)"
    >>> markdown_of(text).split("\\n\\n")
    ['Add.', '**Args**', '- `a`: one number.', '```pycon\\n>>> add(1)\\n```']
    """
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: str) -> str:
    """A paragraph of a docstring as Markdown."""
    title, _, rest = block.partition(":\n")
    if title in SECTIONS:
        items = re.sub(r"\n\s+", " ", re.sub(r"\n    (?=\S)", "\n\0", "\n" + rest)).split("\n\0")
        listed = [re.sub(r"^([\w, ]+):", r"`\1`:", item) for item in items if item.strip()]
        return f"**{title}**\n\n" + "\n".join(f"- {_inline(item)}" for item in listed)
    if block.lstrip().startswith(">>>"):
        return f"```pycon\n{inspect.cleandoc(block)}\n```"
    if block.startswith("    "):
        return f"```text\n{inspect.cleandoc(block)}\n```"
    return _inline(block)


def _inline(text: str) -> str:
    """Without what Markdown would misread; Sphinx's roles and double quotes become code."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda role: f"`{role[1].split('.')[-1]}`", text)
    text = text.replace("``", "`").replace("$", r"\$")
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [html.escape(part, quote=False).replace("*", r"\*").replace("_", r"\_")
                  for part in parts[::2]]
    return "".join(parts)


def _about(node: Documented) -> Markup:
    return Markup(to_html(markdown_of(ast.get_docstring(node, clean=False) or "")))


def _signature(node: Documented) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        start = next((child for child in node.body if isinstance(child, ast.FunctionDef)
                      and child.name == "__init__"), None)
        fields = [ast.unparse(child) for child in node.body if isinstance(child, ast.AnnAssign)]
        arguments = (ast.unparse(start.args).removeprefix("self").removeprefix(", ") if start
                     else ", ".join(fields) or bases)
        return f"class {node.name}({arguments})"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"
