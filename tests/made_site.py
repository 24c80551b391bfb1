"""The site as it is before anything was executed, for tests."""

from pathlib import Path

import pytest

from seqpe_lab.course import figure_files
from seqpe_lab.course.lesson_page import lessons
from seqpe_lab.site import pages, result_pages


def make(folder: Path, pictures: bool = False) -> Path:
    """All pages, without static pictures unless asked for; returns the folder."""
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            patch.setattr(figure_files, "find_browser", lambda: None)
        pages.write_lasting_pages(folder, lessons())
        result_pages.write(folder, [])
        pages.write_changing_pages(folder, lessons(), "small")
    return folder
