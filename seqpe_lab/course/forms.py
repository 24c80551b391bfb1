"""The forms of a lesson: tags of its cells, its header and footer, and what is wrong with them.

    python -m seqpe_lab.course.forms notebooks/05_the_contrastive_loss.ipynb

prints every fault; with ``--mend`` it first writes the header's time and the footer's links as they
should be.
"""
from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from seqpe_lab.course.lesson_cells import FOLDED, TAGS, calls, folded, tags

if TYPE_CHECKING:
    from nbformat import NotebookNode

ASIDE = {"hint", "solution", "model-answer", "teacher", "appendix", "footer"}  # not read on the way
WORDS_PER_MINUTE, LINES_PER_MINUTE = 150, 15
FIRST = ("00_start_here", "primer")  # of the course; then by number
CALLS = {"lab.predict": "prediction", "lab.exercise": "checker"}
MINUTES = re.compile(r"\((\d+) min\)")
TIME = re.compile(r"\| Time \|.*: (.*? min) to read, (.*?) of computing.*")
WORD = re.compile(r"\w[\w'’-]*")
FORMULA = re.compile(r"\$\$?.+?\$\$?", re.DOTALL)
# targets of links, tags, and rows of the map
UNREAD = re.compile(r"\]\([^)]*\)|<[^>]+>|^\| \[.*\]\(\d\d_.*$", re.MULTILINE)


# --- time ----------------------------------------------------------------------------------------

def reading_minutes(notebook: NotebookNode) -> int:
    """Minutes to read a lesson's prose and visible code once, without what is folded or aside."""
    minutes = 0.0
    for cell in notebook.cells:
        if tags(cell) & ASIDE:
            continue
        if cell.cell_type == "markdown":
            minutes += words_of(cell.source) / WORDS_PER_MINUTE
        elif not tags(cell) & set(FOLDED):
            minutes += sum(map(bool, cell.source.split("\n"))) / LINES_PER_MINUTE
    return round(minutes)


def words_of(markdown: str) -> int:
    """Words that are read one after the other; a formula counts as one.

    Not counted are the targets of links, tags of HTML and the rows of the map, a table of contents
    in which a reader looks something up.

    >>> words_of("A [link](01_why.ipynb) to $a^2 + b^2$.")
    4
    """
    return len(WORD.findall(UNREAD.sub(" ", FORMULA.sub("formula", markdown))))


def sizes_of(notebook: NotebookNode) -> str:
    """Cells, lines of code and words a line; without solutions and appendices for the ratio."""
    def lines(cells: Iterable[NotebookNode]) -> int:
        return sum(bool(line.strip()) and not line.strip().startswith("#")
                   for cell in cells if cell.cell_type == "code"
                   for line in cell.source.split("\n"))
    main = [cell for cell in notebook.cells if not tags(cell) & {"solution", "appendix"}]
    words = sum(words_of(cell.source) for cell in main if cell.cell_type == "markdown")
    return (f"{len(notebook.cells)} cells, {lines(notebook.cells)} lines of code, "
            f"{words / max(1, lines(main)):.1f} words a line, "
            f"{reading_minutes(notebook)} min to read")


def working_minutes(notebook: NotebookNode, tag: str) -> int:
    """The minutes that stand, as "(10 min)", in the headings of exercises or in discussions."""
    found = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and not tags(cell) & {"teacher", "solution"}:
            asked = (re.findall(r"^##+ Exercise.*", cell.source, re.MULTILINE)
                     if tag == "exercise" else re.findall(r"\*\*Discuss.*", cell.source))
            found += sum(int(number) for line in asked for number in MINUTES.findall(line))
    return found


def time_of(notebook: NotebookNode, cells: str) -> str:
    """The header's row on time; ``cells`` says how long the cells take, such as "1 min"."""
    reading = reading_minutes(notebook)
    exercises, discussion = (working_minutes(notebook, tag) for tag in ("exercise", "discuss"))
    waits = re.match(r"(\d+) min", cells)
    total = reading + exercises + discussion + (int(waits[1]) if waits else 1)
    parts = [f"{reading} min to read", f"{cells} of computing"]
    parts += [f"{minutes} min {name}" for minutes, name in
              ((exercises, "of exercises"), (discussion, "of discussion")) if minutes]
    return f"| Time | about {round(total, -1)} min: {', '.join(parts)} |"


# --- links ---------------------------------------------------------------------------------------

def course_of(folder: Path) -> list[Path]:
    """The notebooks of a folder in the order in which they are read."""
    numbered = sorted(path for path in folder.glob("[0-9]*.ipynb") if path.stem not in FIRST)
    return [path for name in FIRST if (path := folder / f"{name}.ipynb").exists()] + numbered


def title_of(path: Path) -> str:
    """What a lesson's first line says after its #."""
    return nbformat.read(path, as_version=4).cells[0].source.split("\n")[0].removeprefix("# ")


def footer_of(path: Path) -> str:
    """The links to the lesson before, to the map and to the next lesson."""
    course = course_of(path.parent)
    place = course.index(path)
    before, after = course[max(0, place - 1):place], course[place + 1:place + 2]
    links = [f"← [{title_of(one)}]({one.name})" for one in before]
    links += ["[map](00_start_here.ipynb#The-map)"] if place else []
    links += [f"[{title_of(one)}]({one.name}) →" for one in after]
    return " · ".join(links)


def mend(path: Path) -> None:
    """Write the time into a lesson's header, and the links into its footer."""
    notebook = nbformat.read(path, as_version=4)
    header, last = notebook.cells[0], notebook.cells[-1]
    links = r"^.*\[map\]\(00_start_here.*|^\[.*\) →$"
    if "footer" in tags(last):
        last.source = re.sub(links, lambda _: footer_of(path), last.source, flags=re.MULTILINE)
    if stated := TIME.search(header.source):
        right = time_of(notebook, stated[2])
        if not _nearly(stated[0], right):
            header.source = header.source.replace(stated[0], right)
    nbformat.write(notebook, path)


# --- faults --------------------------------------------------------------------------------------

def faults(path: Path) -> list[str]:
    """What a lesson does not do as the forms ask; each names its cell."""
    notebook = nbformat.read(path, as_version=4)
    found = [*_header_faults(notebook), *_tag_faults(notebook), *_prediction_faults(notebook),
             *_meeting_faults(notebook, path.parent), *_exercise_faults(notebook),
             *_discussion_faults(notebook)]
    last = notebook.cells[-1]
    if "footer" not in tags(last) or footer_of(path) not in last.source:
        found.append(f"the last cell needs the tag footer and this line: {footer_of(path)}")
    return found


def _header_faults(notebook: NotebookNode) -> Iterator[str]:
    header = notebook.cells[0].source
    if "header" not in tags(notebook.cells[0]):
        yield "the first cell needs the tag header"
    for part in ("**Question.**", "**You will be able to**\n\n- ", "| Paper |",
                 "| Before this lesson |", "| Time |"):
        if part not in header:
            yield f"the header lacks {part!r}"
    stated = TIME.search(header)
    right = time_of(notebook, stated[2] if stated else "1 min")
    if not stated or stated[0] != right and not _nearly(stated[0], right):
        yield f"the header's time should be: {right}"


def _nearly(stated: str, right: str) -> bool:
    """Whether two rows on time differ only in the reading time, and by less than a fifth."""
    numbers = [[int(number) for number in re.findall(r"(\d+) min", row)] for row in (stated, right)]
    apart = [abs(a - b) for a, b in zip(*numbers)]
    return (len(numbers[0]) == len(numbers[1]) and not any(apart[2:])
            and all(a <= max(2, b // 5) for a, b in zip(apart[:2], numbers[1])))


def _tag_faults(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if unknown := tags(cell) - set(TAGS):
            yield f"{cell.id}: no such tags: {', '.join(unknown)}; there are {', '.join(TAGS)}"
        if cell.cell_type == "code" and folded(cell) != bool(tags(cell) & set(FOLDED)):
            yield (f'{cell.id}: "jupyter": {{"source_hidden": true}} stands in the metadata of '
                   f"exactly the code that is tagged {', '.join(FOLDED)}")
        if folded(cell) and not cell.source.startswith("# "):
            yield f"{cell.id}: a folded cell shows its first line: a comment that says what it is"
        for call, tag in CALLS.items():
            if bool(list(calls(cell, call))) != (tag in tags(cell)):
                yield f"{cell.id}: the tag {tag} belongs to cells that call {call}, and only there"


def _prediction_faults(notebook: NotebookNode) -> Iterator[str]:
    revealed = [ast.literal_eval(call.args[0]) for cell in notebook.cells
                for call in calls(cell, "lab.reveal")]
    names: list[str] = []
    for cell in notebook.cells:
        for call in calls(cell, "lab.predict"):
            name, choices = call.args[0], call.args[2]
            names.append(ast.literal_eval(name))
            known = len(call.args) > 3 or any(word.arg == "answer" for word in call.keywords)
            answered = known or names[-1] in revealed
            if answered and (not isinstance(choices, ast.Dict) or any(
                    isinstance(said, ast.Constant) and not said.value
                    for said in choices.values)):
                yield f"{cell.id}: say something to the reader for each choice: {{choice: words}}"
    if len({*names}) < len(names):
        yield f"two predictions have one name: {names}"
    if missing := {*revealed} - {*names}:
        yield f"revealed, but never asked: {', '.join(missing)}"


def _meeting_faults(notebook: NotebookNode, folder: Path) -> Iterator[str]:
    """Of predictions that another lesson asked first."""
    for cell in notebook.cells:
        for call in calls(cell, "lab.predict"):
            first = next((word.value for word in call.keywords if word.arg == "first_asked"), None)
            if first is None:
                continue
            lesson = ast.literal_eval(first)
            asked = [_question(other) for path in folder.glob(f"{lesson}*.ipynb")
                     for there in nbformat.read(path, as_version=4).cells
                     for other in calls(there, "lab.predict")]
            if _question(call) not in asked:
                yield (f"{cell.id}: lesson {lesson} does not ask {ast.unparse(call.args[0])} in "
                       "the same words with the same choices")


def _question(call: ast.Call) -> tuple[str, str, list[str]]:
    """A prediction's name, question and choices, as code."""
    name, question, choices = call.args[:3]
    offered = choices.keys if isinstance(choices, ast.Dict) else getattr(choices, "elts", [choices])
    return ast.unparse(name), ast.unparse(question), [ast.unparse(one) for one in offered if one]


def _exercise_faults(notebook: NotebookNode) -> Iterator[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for place, cell in enumerate(code):
        for call in calls(cell, "lab.exercise"):
            name = ast.unparse(call.args[0])
            if f"def {name}(" not in code[place - 1].source or "exercise" not in tags(
                    code[place - 1]):
                yield f"{cell.id}: the cell before defines {name} and has the tag exercise"
            if not any("solution" in tags(other) and f"@lab.solution\ndef {name}(" in other.source
                       for other in code[place:]):
                yield f"{cell.id}: no cell tagged solution has @lab.solution and def {name}"
    exercises = sum(bool(tags(cell) & {"checker"}) for cell in code)
    headings = [line for cell in notebook.cells if cell.cell_type == "markdown"
                for line in re.findall(r"^##+ Exercise.*", cell.source, re.MULTILINE)]
    if len(headings) < exercises or not all(map(MINUTES.search, headings)):
        yield "each exercise has a heading such as: ## Exercise 1: the gradient (10 min)"


def _discussion_faults(notebook: NotebookNode) -> Iterator[str]:
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None]):
        if re.search(r"^##+ Exercise[^\n]*\(open\)", cell.source, re.MULTILINE) and (
                after is None or "model-answer" not in tags(after)):
            yield f"{cell.id}: an open exercise has a cell tagged model-answer behind it"
        asks = cell.cell_type == "markdown" and "**Discuss**" in cell.source
        if asks != ("discuss" in tags(cell)):
            yield f"{cell.id}: the tag discuss belongs to cells with **Discuss**, and only there"
        if asks and not re.search(r"\*\*Discuss[^\n]*\(\d+ min\)", cell.source):
            yield f"{cell.id}: write **Discuss** (5 min)."
        if asks and (after is None or "model-answer" not in tags(after)):
            yield f"{cell.id}: the cell after it has the tag model-answer"
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and tags(cell) & {"hint", "solution", "model-answer",
                                                          "teacher"}:
            if not cell.source.startswith("<details><summary>"):
                yield f"{cell.id}: folded: it begins with <details><summary>"
    if not any("teacher" in tags(cell) for cell in notebook.cells):
        yield "no cell has the tag teacher: typical errors, timing, how to lead the discussion"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument == "--mend":
            continue
        lesson = Path(argument).resolve()
        if "--mend" in sys.argv:
            mend(lesson)
        wrong = "\n- ".join(["", *faults(lesson)]) or "\nno faults"
        print(f"{lesson.name}: {sizes_of(nbformat.read(lesson, as_version=4))}",
              footer_of(lesson), wrong.strip(), sep="\n")
