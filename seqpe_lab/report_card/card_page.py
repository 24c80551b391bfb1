"""The report card as a folder: a page with pictures, each picture interactive, and a JSON file."""
from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Template

from seqpe_lab.atomic_files import write_atomically
from seqpe_lab.course.figure_files import write_figure
from seqpe_lab.report_card.card import Card

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ card.title }}: report card</title>
<style>
 :root { color-scheme: light dark; }
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px;
        margin: 2rem auto; padding: 0 1rem; }
 img { width: 100%; height: auto; background: white; border-radius: 6px; }
 iframe { width: 100%; height: 520px; border: 0; background: white; }
 th, td { text-align: left; padding-right: 1.2em; vertical-align: top; }
</style></head><body>
<h1>{{ card.title }}</h1>
<p><strong>{{ card.verdict() }}</strong></p>
{%- for warning in card.warnings %}
<p><strong>Warning:</strong> {{ warning }}</p>
{%- endfor %}
{%- for heading, rows in card.tables().items() %}
<h2>{{ heading }}</h2>
<table>
<tr>{% for cell in rows[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{%- for row in rows[1:] %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</table>
{%- endfor %}
<h2>Pictures</h2>
{%- for name, has_image in pictures.items() %}
{%- if has_image %}
<p><a href="{{ name }}.html"><img src="{{ name }}.png" alt="{{ name }}"></a></p>
{%- else %}
<iframe src="{{ name }}.html" title="{{ name }}"></iframe>
{%- endif %}
{%- endfor %}
<p>All numbers: <a href="card.json">card.json</a></p>
</body></html>
""", autoescape=True)


def write_page(card: Card, folder: Path) -> Path:
    """Write ``index.html``, ``card.json`` and the pictures.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: write_figure(figure, folder, name)
                for name, figure in card.figures().items()}
    write_atomically(folder / "card.json", json.dumps(card.as_dict(), indent=1))
    page = folder / "index.html"
    write_atomically(page, PAGE.render(card=card, pictures=pictures))
    return page
