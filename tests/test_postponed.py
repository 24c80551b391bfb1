"""Slow imports are put off, and do what they did before once they are asked."""

import subprocess
import sys

import pytest

from seqpe_lab.postponed import postpone


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A module that says when it is imported."""
    (tmp_path / "slow_module.py").write_text(
        "print('imported')\n\ndef double(x, plus=0):\n    return 2 * x + plus\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "slow_module"
    sys.modules.pop("slow_module", None)


def test_it_is_imported_with_the_first_call(slow, capsys):
    postpone(slow, "double")
    from slow_module import double

    assert capsys.readouterr().out == ""
    assert double(3, plus=1) == 7 and double(4) == 8
    assert capsys.readouterr().out == "imported\n"


def test_what_is_imported_already_or_missing_is_left_alone(slow, capsys):
    import slow_module

    postpone(slow, "double")
    assert sys.modules[slow] is slow_module
    postpone("no_such_module_anywhere", "f")
    with pytest.raises(ImportError):
        import no_such_module_anywhere  # noqa: F401


def test_a_figure_is_shown_without_a_grammar_of_web_addresses_and_addresses_can_be_checked(project):
    pytest.importorskip("rfc3987_syntax")
    program = (
        "import seqpe_lab, plotly.basewidget, sys; print('rfc3987_syntax.syntax_helpers' in "
        "sys.modules); import jsonschema; ok = jsonschema.FormatChecker().conforms; "
        "print(ok('http://\u00e9t\u00e9.example/', 'iri'), ok('no address', 'iri'), "
        "'rfc3987_syntax.syntax_helpers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True
    )
    assert done.stdout == "False\nTrue False True\n", done.stderr
