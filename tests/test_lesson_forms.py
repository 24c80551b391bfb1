"""The forms of lessons: tags, header, footer, times; what does not follow them is found."""

import copy
from pathlib import Path

import nbformat
import pytest

from seqpe_lab.course import forms

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CONVERTED = [
    path
    for path in forms.course_of(NOTEBOOKS)
    if forms.follows_forms(nbformat.read(path, as_version=4))
]


@pytest.mark.parametrize("path", CONVERTED, ids=lambda path: path.stem)
def test_a_lesson_follows_the_forms(path):
    assert forms.faults(path) == []


def test_there_are_lessons_that_follow_the_forms():
    assert {"primer", "05_the_contrastive_loss"} <= {path.stem for path in CONVERTED}
