"""What a reader must know of a lesson's page: not executed, failed, damaged, an effect missing."""
from __future__ import annotations

import re
import sys
from pathlib import Path

from seqpe_lab.course import executing
from seqpe_lab.course.lesson import NOT_SEEN
from seqpe_lab.course.parallel import Program
from seqpe_lab.course.typesetting import plain
from seqpe_lab.runs import runs_folder


def state_of(folder: Path, lesson: Path, scale: str) -> str:
    """What must be said of a lesson's page; "" where there is nothing to say."""
    page = executing.page_of(folder, lesson)
    record = executing.record_of(page)
    if not record or not page.exists():
        return "not executed"
    if record["error"]:
        return f"failed: {record['error']}"
    if not executing.reusable(folder, lesson, scale):
        return "damaged, or of other sources or runs than those that are here now"
    return _missing(page).removeprefix("; ")


def not_seen(page: Path) -> list[str]:
    """What an executed lesson expected (``lab.expect``) and did not find."""
    found = re.findall(rf"^(?:<pre[^>]*>)?{NOT_SEEN}(.+)$", page.read_text(encoding="utf-8"),
                       re.MULTILINE)
    return [*map(plain, found)]


def executing_program(path: Path, folder: Path, scale: str) -> Program:
    """Execute a notebook, unless that would give the very page that is there."""
    page = executing.page_of(folder, path)
    page.parent.mkdir(parents=True, exist_ok=True)
    if executing.reusable(folder, path, scale):
        return Program(path.stem, None, lambda: "executed before" + _missing(page), page)
    command = [sys.executable, "-m", "seqpe_lab.course.executing", str(path), str(folder), scale]
    environment = {"SEQPE_FIGURES": str(folder), "SEQPE_SCALE": scale,
                   "SEQPE_RUNS": str(runs_folder().resolve())}
    return Program(path.stem, command, lambda: "executed" + _missing(page),
                   page.with_suffix(".log"), environment)


def trains(lesson: Path) -> bool:
    """Whether a lesson trains recipes, or loads their runs if they are finished."""
    return bool(re.search(r"lab\.(train|train_images|tune)\(|job\.start\(",
                          lesson.read_text(encoding="utf-8")))


def _missing(page: Path) -> str:
    claims = not_seen(page)
    return f"; {NOT_SEEN.removeprefix('✗ ')}{'; '.join(claims)}" if claims else ""
