"""The site as it is before anything was executed, for tests."""

from base64 import b64decode
from pathlib import Path

import pytest

from seqpe_lab.course import figure_files
from seqpe_lab.course.lesson_page import lessons
from seqpe_lab.site import pages, result_pages

DOT = b64decode(  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)


def draw(figure, image: Path) -> bool:
    """In place of a browser's static picture, which takes a second."""
    image.write_bytes(DOT)
    return True


def make(folder: Path) -> Path:
    """All pages, with dots as pictures; returns the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_files, "write_image", draw)
        pages.write_lasting_pages(folder, lessons())
        result_pages.write(folder, [])
        pages.write_changing_pages(folder, lessons(), "small")
    return folder
