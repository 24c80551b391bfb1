"""What readers answer: predictions, checks of what they built, exercises."""
from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def predict(question: str, choices: Sequence[str]) -> Callable[..., None]:
    """Display a question with its choices, and return ``reveal(answer, why, holds=...)``.

    Nothing waits for the reader; ``reveal`` compares the answer with the reader's choice. Several
    answers are such that no difference is seen between; without any, nothing is decided.
    ``holds`` says whether the results bear out an answer that is not computed from them; if they
    do not, it raises an AssertionError.

    >>> reveal = predict("Which is nearer to 100?", ["123", "1000"])       # doctest: +SKIP
    >>> reveal("1000", "they share more digits", holds=shared[1000] > 0)   # doctest: +SKIP
    """
    if len(choices) < 2:
        raise ValueError(f"a prediction needs at least two choices, got {list(choices)}")
    import ipywidgets
    from IPython.display import display

    buttons = ipywidgets.RadioButtons(options=list(choices), value=None,
                                      layout=ipywidgets.Layout(width="auto"))
    buttons.add_class("seqpe-prediction")
    asked = ipywidgets.HTML(f"<b>Your prediction.</b> {html.escape(question)}")
    display(ipywidgets.VBox([asked, buttons]))

    def reveal(answer: str | Sequence[str], why: str = "", *,
               holds: bool | Tensor = True) -> None:
        answers = [answer] if isinstance(answer, str) else [*answer]
        for answer in answers:
            if answer not in choices:
                raise ValueError(f"{answer!r} is none of the choices {list(choices)}")
        if not holds:
            raise AssertionError(f"✗ the results contradict the answer {answer!r} to: {question}")
        verdict = f"you predicted: {buttons.value}"
        if buttons.value is None:
            verdict = "no prediction made"
        elif buttons.value in answers:
            verdict = ("as you predicted" if len(answers) == 1
                       else f"{verdict}, which is one of them")
        shown = " or ".join(answers) or "not decided"
        print(f"{question}\n→ {shown} ({verdict}). {why}".rstrip())

    reveal.buttons = buttons
    return reveal


def check(mine, reference, what: str = "mine equals the library's",
          tolerance: float = 1e-5) -> None:
    """Assert that two tensors (or numbers) agree and print by how much.

    Raises:
        AssertionError: another shape, or a difference above ``tolerance``.

    >>> check(torch.tensor([1., 2.]), torch.tensor([1., 2.]), "a copy")
    ✓ a copy: (2,), largest difference 0.0e+00
    """
    if mine is None:
        raise AssertionError(f"✗ {what}: nothing to check yet, "
                             "the exercise still returns None")
    mine, reference = (torch.as_tensor(t).detach().double() for t in (mine, reference))
    if mine.shape != reference.shape:
        raise AssertionError(f"✗ {what}: shape {tuple(mine.shape)}, "
                             f"expected {tuple(reference.shape)}")
    both_infinite = mine.isinf() & (mine == reference)
    differences = torch.where(both_infinite, 0.0, (mine - reference).abs())
    worst = float(differences.max()) if mine.numel() else 0.0
    if not worst <= tolerance:
        raise AssertionError(f"✗ {what}: largest difference {worst:.1e}, "
                             f"allowed {tolerance:.0e}")
    print(f"✓ {what}: {tuple(mine.shape)}, largest difference {worst:.1e}")


def exercise(attempt: Callable[[], None]) -> None:
    """Check the reader's answer, and print what is still missing instead of raising.

    Only for stubs to be filled in; the lesson's own claims use ``assert`` and :func:`check`.
    """
    try:
        attempt()
    except (AssertionError, NotImplementedError) as message:
        print(f"Not yet: {message}")
    else:
        print("Solved.")


def tensor_table(tensor: Tensor, rows: Sequence | None = None, columns: Sequence | None = None,
                 digits: int = 3) -> str:
    """A small matrix as aligned text, with names for rows and columns, to be checked by hand.

    >>> print(tensor_table(torch.tensor([[1., 2.], [3., 4.]]), rows="ab", columns="xy", digits=1))
         x   y
    a  1.0 2.0
    b  3.0 4.0
    """
    if tensor.dim() != 2:
        raise ValueError(f"a table needs a matrix, got shape {tuple(tensor.shape)}")
    names = ["", *map(str, rows if rows is not None else range(len(tensor)))]
    columns = list(map(str, columns if columns is not None else range(tensor.shape[1])))
    cells = [[f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in row]
             for row in tensor.tolist()]
    width = max(len(cell) for row in [columns, *cells] for cell in row)
    first = max(map(len, names))
    return "\n".join(f"{name.ljust(first)}  {' '.join(cell.rjust(width) for cell in row)}"
                     for name, row in zip(names, [columns, *cells]))
