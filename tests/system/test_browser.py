"""The explorers in a real browser: in JupyterLab, on ``make explore``'s web page, from disk.

Each place is opened once, and all tests use them; each test looks at the console and the requests
of its own time. $SEQPE_SCREENSHOTS names a folder that keeps a picture of every explorer.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from seqpe_lab.course.figure_files import find_browser
from seqpe_lab.explorers import EXPLORERS, static_page

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install -e '.[lab,test]'"
)
pytestmark = pytest.mark.skipif(
    not find_browser(), reason="no browser: `make browser` installs chromium where it can"
)

PATIENCE = 120  # seconds to wait for anything, on a busy machine
MOVES = {  # how a reader moves which control of an explorer; every move changes the picture
    "digits": [
        ("press", "base b", "ArrowLeft"),
        ("drag", "digits k"),
        ("write", "position", "2, 3"),
    ],
    "geometry": [
        ("press", "step", "ArrowLeft"),
        ("choose", "view", "neighbours of a position"),
        ("drag", "position"),
        ("write", "compare with", "77"),
    ],
    "collapse": [
        ("press", "β, weight of L_OOD", "ArrowRight"),
        ("drag", "α, weight of L_δ"),
        ("write", "shift z", "100"),
        ("click", "Start"),
        ("click", "Reset"),
    ],
    "extrapolation": [
        ("press", "lengths", "ArrowRight"),
        ("drag", "lengths"),
        ("choose", "task", "images: class"),
    ],
    "patches": [("press", "rows", "ArrowRight"), ("click", "the picture"), ("write", "row", "9")],
    "attention": [
        ("press", "head", "ArrowRight"),
        ("drag", "start position"),
        ("write", "text", "to be or not to be"),
    ],
    "integration": [
        ("press", "q, feature 1", "ArrowLeft"),
        ("drag", "strength"),
        ("write", "k, feature 2", "-0.5"),
    ],
}
SAYS = {
    "Start": "Step",
    "Reset": "Untrained",
}  # what the title says after a press of a button; training changes the picture by itself
BACK = {"ArrowLeft": "ArrowRight", "ArrowRight": "ArrowLeft"}
PLACES = {"lab": "JupyterLab", "web": "web page", "static": "page from disk"}
PANELS = [("lab", name) for name in EXPLORERS] + [
    ("web", name) for name in ("digits", "collapse", "integration")
]
FROM_DISK = [("static", name) for name in EXPLORERS]


def every(panels: list) -> pytest.MarkDecorator:
    ids = [f"{place}-{name}" for place, name in panels]
    return pytest.mark.parametrize("place, name", panels, ids=ids)


RUN = """async source => {  // run the cell that holds this
    const notebook = jupyterapp.shell.currentWidget.content
    notebook.activeCellIndex = notebook.widgets.findIndex(cell =>
        cell.model.type == 'code' && cell.model.sharedModel.source.includes(source))
    await jupyterapp.commands.execute('notebook:run-cell') }"""
PICTURE = """panel => {  // what it draws; null while it is replaced
    const plot = panel.querySelector('.js-plotly-plot')
    const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : value
    return plot?._fullLayout ? JSON.stringify([plot.data, plot.layout], plain) : null }"""
CLOCK = """() => {  // when the reader last acted and a picture last changed, ms of the page
    window.clock = {moved: 0, drawn: 0}
    for (const kind of ['keydown', 'pointermove', 'pointerup', 'input', 'click'])
        document.addEventListener(kind, event => {
            if (event.key != 'Enter') clock.moved = performance.now()  // typing counts before it
        }, true)
    const pictures = changes => changes.some(change => change.target.closest?.('.js-plotly-plot')
        && !change.target.closest('.hoverlayer, .modebar'))
    new MutationObserver(changes => { if (pictures(changes)) clock.drawn = performance.now() })
        .observe(document.body, {subtree: true, childList: true, attributes: true}) }"""
PANEL = """
from seqpe_lab.explorers.panel import Panel
panel = [shown for shown in Out.values() if isinstance(shown, Panel)][{place}]"""
BREAK = (
    PANEL
    + """
import dataclasses
whole = panel.explorer
panel.explorer = dataclasses.replace(whole, compute=lambda state: 1 / 0)"""
)
MEND = "panel.explorer = whole"


# --- servers and pages ----------------------------------------------------------------------------


@contextlib.contextmanager
def server(command: list[str], log: Path, **environment: object) -> Iterator[None]:
    """A server that ends with the block, and when this process is killed: ``cat`` then ends."""
    leashed = ["sh", "-c", '"$@" </dev/null & cat; trap "" TERM; kill 0; wait', "sh", *command]
    with log.open("w") as output:
        process = subprocess.Popen(
            leashed,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {name: str(value) for name, value in environment.items()},
        )
    try:
        yield
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until(answer: Callable[[], object], log: Path):
    """The first true answer of a server; asking may fail until then."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if value := answer():
                return value
        time.sleep(0.1)
    raise TimeoutError(f"no answer in {PATIENCE} s; the server says:\n{log.read_text()[-2_000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Site:
    """A page with the panels on it, and the hands of its reader.

    Attributes:
        folder: somewhere below, its kernel says how it can be reached.
        seconds: how long things took.
    """

    page: "playwright.Page"
    folder: Path
    errors: list[str] = field(default_factory=list)  # of the console
    outside: list[str] = field(default_factory=list)  # requests that leave this machine
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self.page.set_default_timeout(1_000 * PATIENCE)
        self.page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request",
            lambda request: (
                self.outside.append(request.url)
                if urlsplit(request.url).hostname not in (None, "127.0.0.1")
                else None
            ),
        )

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - began

    def panel(self, name: str) -> "playwright.Locator":
        if self.page.url.startswith("file:"):  # one at a time
            if not self.page.url.endswith(f"#{name}"):
                self.page.evaluate("name => { location.hash = name }", name)
                self.page.evaluate("() => new Promise(requestAnimationFrame)")
            return self.page.locator(".seqpe-explorer")
        return self.page.locator(".seqpe-explorer").nth(list(EXPLORERS).index(name))

    def drawn(self, name: str) -> None:
        """Wait until a panel shows a picture with a title."""
        playwright.expect(self.panel(name).locator(".seqpe-title")).not_to_be_empty()
        self.panel(name).locator(".js-plotly-plot .main-svg").first.wait_for()

    def picture(self, name: str) -> str | None:
        """What a panel draws, and its title, which names settings that training will use."""
        drawn = self.panel(name).evaluate(PICTURE)
        return drawn and drawn + self.title(name)

    def title(self, name: str) -> str:
        return self.panel(name).locator(".seqpe-title").text_content()

    def move(self, name: str, hand: str, label: str, *more: str) -> float:
        """Move a control; the seconds from its last touch until the picture has changed."""
        before = self.picture(name)
        getattr(self, hand)(name, label, *more)
        began = time.monotonic()
        while self.picture(name) in (before, None) or SAYS.get(label, "") not in self.title(name):
            assert time.monotonic() < began + PATIENCE, (
                f"{name}: {hand} {label} changes nothing in {PATIENCE} s"
            )
            self.page.wait_for_timeout(100)
        if label not in SAYS:  # training does not rest
            self.page.wait_for_function(
                "performance.now() > Math.max(clock.drawn, clock.moved) + 400"
            )
        return (
            max(0, self.page.evaluate("clock.drawn - clock.moved")) / 1_000
        )  # a hand may rest later than the picture

    def control(self, name: str, label: str) -> "playwright.Locator":
        named = self.page.locator("span, legend").get_by_text(label, exact=True)
        return self.panel(name).locator(".seqpe-field").filter(has=named).filter(visible=True)

    def press(self, name: str, label: str, key: str) -> None:
        self.control(name, label).locator("input[type=range]").first.press(key)

    def drag(self, name: str, label: str) -> None:
        """The first handle to two thirds of its line."""
        line = self.control(name, label).locator("input[type=range]").first
        line.scroll_into_view_if_needed()
        box, share = line.bounding_box(), line.evaluate("e => (e.value - e.min) / (e.max - e.min)")
        self.page.mouse.move(
            box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2
        )
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + box["width"] * 2 / 3, box["y"] + box["height"] / 2, steps=3)
        self.page.mouse.up()

    def write(self, name: str, label: str, text: str) -> None:
        """Into a text box, or into the number beside a slider."""
        box = self.control(name, label).locator("input[type=text], input[type=number]").first
        box.click()
        box.press("Control+a")
        box.press_sequentially(text)
        box.press("Enter")

    def choose(self, name: str, label: str, option: str) -> None:
        self.control(name, label).locator("select").select_option(label=option)

    def click(self, name: str, label: str) -> None:
        """On a button, or a little beyond the middle of the first part of the picture."""
        if label != "the picture":
            return self.panel(name).get_by_role("button", name=label, exact=True).click()
        plot = self.panel(name).locator(".nsewdrag").first
        box = plot.bounding_box()
        place = dict(x=0.6 * box["width"], y=0.6 * box["height"])
        plot.hover(position=place)
        self.panel(name).locator(".hovertext").first.wait_for()
        plot.click(position=place)

    def kernel(self, code: str, expression: str = "None") -> str:
        """Run code as another cell would; what an expression is afterwards."""
        from jupyter_client import BlockingKernelClient

        client = BlockingKernelClient(connection_file=str(next(self.folder.rglob("kernel-*.json"))))
        client.load_connection_file()
        client.start_channels()
        try:
            reply = client.execute(
                code,
                silent=True,
                user_expressions={"value": expression},
                reply=True,
                timeout=PATIENCE,
            )["content"]
        finally:
            client.stop_channels()
        assert reply["status"] == "ok", reply
        return reply["user_expressions"]["value"]["data"]["text/plain"]


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    playwright.expect.set_options(timeout=1_000 * PATIENCE)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=find_browser())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(browser, project, tmp_path_factory) -> Iterator[Site]:
    """JupyterLab with a copy of the notebook, all its cells run one after the other."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = shutil.copy(project / "notebooks" / "explorers.ipynb", folder)
    settings = folder / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        json.dumps(
            {
                "@jupyterlab/apputils-extension:notification": {
                    "fetchNews": "false",
                    "checkForUpdates": False,
                }
            }
        )
    )
    port, log = free_port(), folder / "log"
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=test",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
    ]
    places = {
        f"JUPYTER_{kind.upper()}_DIR": folder / kind for kind in ("config", "data", "runtime")
    } | {f"JUPYTERLAB_{kind.upper()}_DIR": folder / kind for kind in ("settings", "workspaces")}
    with server(command, log, **places):
        wait_until(
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=test", timeout=5),
            log,
        )
        site = Site(browser.new_page(viewport=dict(width=1_280, height=900)), folder)
        idle = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"
        for what in ("JupyterLab starts", "notebook opens"):  # first it is read from the disk
            with site.timed(what):
                site.page.goto(f"http://127.0.0.1:{port}/lab/tree/{Path(notebook).name}?token=test")
                site.page.locator(".jp-Notebook h1").wait_for()
                site.page.wait_for_function(idle)
        site.page.evaluate(CLOCK)
        with site.timed("import"):
            site.page.evaluate(RUN, "import")
        for name in EXPLORERS:
            with site.timed(name):
                site.page.evaluate(RUN, f'explore("{name}")')
                site.drawn(name)
        yield site
        site.page.close()


@pytest.fixture(scope="module")
def web(browser, project, tmp_path_factory) -> Iterator[Site]:
    """The web page that ``make explore`` opens."""
    folder = tmp_path_factory.mktemp("web")
    log = folder / "log"
    command = [
        "make",
        "--no-print-directory",
        f"--directory={project}",
        "--old-file=setup",
        "explore",
        f"BIN={Path(sys.executable).parent}",
    ]
    with server(
        command, log, MAKEFLAGS="", BROWSER="true", TMPDIR=folder
    ):  # `true` is a browser that opens nothing
        (address,) = wait_until(
            lambda: re.findall(r"^http://127.0.0.1:\d+/\S*", log.read_text(), re.MULTILINE), log
        )
        site = Site(browser.new_page(viewport=dict(width=1_280, height=900)), folder)
        with site.timed("page opens"):
            site.page.goto(address)
            for name in EXPLORERS:
                site.drawn(name)
        site.page.evaluate(CLOCK)
        yield site
        site.page.close()


@pytest.fixture(scope="module")
def static(browser, tmp_path_factory) -> Iterator[Site]:
    """The folder that ``make explore-static`` writes, without a network."""
    folder = tmp_path_factory.mktemp("static")
    page = static_page.write(folder)
    context = browser.new_context(viewport=dict(width=1_280, height=900), offline=True)
    site = Site(context.new_page(), folder)
    with site.timed("first picture"):
        site.page.goto(f"{page.as_uri()}#{next(iter(EXPLORERS))}")
        site.drawn(next(iter(EXPLORERS)))
    site.page.evaluate(CLOCK)
    yield site
    context.close()


@pytest.fixture
def site(place, request) -> Iterator[Site]:
    """One of the two; the console and the requests are looked at afterwards."""
    site = request.getfixturevalue(place)
    yield site
    errors, outside = site.errors.copy(), site.outside.copy()
    site.errors.clear()
    site.outside.clear()
    assert not errors
    assert not outside


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("SEQPE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- what a reader sees and does ------------------------------------------------------------------


@every(PANELS + FROM_DISK)
def test_it_opens_and_draws_without_a_click(site, place, name, pictures):
    site.drawn(name)
    shown = 1 if place == "static" else len(EXPLORERS)
    playwright.expect(site.page.locator(".seqpe-explorer")).to_have_count(shown)
    assert site.panel(name).get_by_role("alert").count() == 0
    if place != "static":  # no warnings
        cell = site.panel(name).locator("xpath=ancestor::*[contains(@class, 'jp-OutputArea')]").last
        stderr = cell.locator("[data-mime-type='application/vnd.jupyter.stderr']")
        assert stderr.all_text_contents() == []
    usual = site.page.viewport_size
    site.page.set_viewport_size(dict(width=1_500, height=1_600))  # the whole panel
    try:
        site.panel(name).screenshot(path=pictures / f"{place}-{name}.png")
    finally:
        site.page.set_viewport_size(usual)


@every(PANELS + FROM_DISK)
def test_it_reacts_to_keyboard_mouse_and_typing(site, place, name, record_property):
    seconds = {
        f"{hand} {label}": site.move(name, hand, label, *more) for hand, label, *more in MOVES[name]
    }
    record_property(
        "explorer",
        f"{PLACES[place]}, {name}: "
        + ", ".join(f"{move} {second * 1_000:.0f} ms" for move, second in seconds.items()),
    )
    playwright.expect(site.panel(name).get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("place", ["lab"])
def test_a_zoom_and_a_hidden_line_stay_while_the_picture_means_the_same(site):
    name = "extrapolation"
    site.kernel(
        PANEL.format(place=list(EXPLORERS).index(name))
        + """
panel.set(times=[1, 32], task="text", axis="log")
"""
    )
    shown = site.panel(name).locator(".js-plotly-plot")

    def until(says: str) -> None:
        site.page.wait_for_function(f"plot => {says}", arg=shown.element_handle())

    def hidden() -> set[str]:
        return set(
            shown.evaluate(
                "plot => plot._fullData.filter(trace => trace.visible == 'legendonly')"
                ".map(trace => trace.legendgroup)"
            )
        )

    until("plot._fullLayout.yaxis.type == 'log' && plot.querySelector('.legendtoggle')")
    shown.scroll_into_view_if_needed()  # JupyterLab lays nothing out that is far away
    site.panel(name).locator(".legendtoggle").first.click()
    until("plot._fullData.some(trace => trace.visible == 'legendonly')")
    (first,) = hidden()
    plot = site.panel(name).locator(".nsewdrag").first
    plot.scroll_into_view_if_needed()
    box, whole = plot.bounding_box(), shown.evaluate("plot => plot._fullLayout.xaxis.range[0]")
    middle = box["y"] + 0.5 * box["height"]
    site.page.mouse.move(box["x"] + 0.3 * box["width"], middle)
    site.page.mouse.down()
    site.page.mouse.move(box["x"] + 0.7 * box["width"], middle, steps=5)
    site.page.mouse.up()
    until(f"plot._fullLayout.xaxis.range[0] > {whole}")
    zoomed = shown.evaluate("plot => plot._fullLayout.xaxis.range")
    site.choose(name, "vertical axis", "linear")
    until("plot._fullLayout.yaxis.type == 'linear'")
    assert shown.evaluate("plot => plot._fullLayout.xaxis.range") == zoomed and hidden() == {first}
    site.kernel("panel.set(methods=panel.values['methods'][1:])")  # another line is the first now
    until(f"!plot._fullData.some(trace => trace.legendgroup == {first!r})")
    assert hidden() == set()


@every(PANELS)
def test_it_says_what_went_wrong_and_goes_on(site, place, name):
    (_, label, key), *_ = MOVES[name]
    site.kernel(BREAK.format(place=list(EXPLORERS).index(name)))
    site.press(name, label, key)
    alert = site.panel(name).get_by_role("alert")
    playwright.expect(alert).to_have_text("ZeroDivisionError: division by zero")
    site.drawn(name)  # the last good picture stays
    site.kernel(MEND)
    site.press(name, label, BACK[key])
    playwright.expect(alert).to_have_count(0)


@pytest.mark.parametrize("place", ["lab", "web"])
def test_all_figures_share_one_program(site, place, record_property):
    """Plotly's own FigureWidgets would bring 5 MB along each; none is used."""
    alive = (
        "[name for widget in ipywidgets.widget._instances.values()"
        " for name in {{kind.__name__ for kind in type(widget).__mro__}}].count({!r})"
    )
    assert [
        int(site.kernel("import ipywidgets", alive.format(kind)))
        for kind in ("FigureWidget", "Program", "PlotlyWidget")
    ] == [0, 1, len(EXPLORERS)]
    assert site.page.locator(".seqpe-explorer .js-plotly-plot").count() == len(EXPLORERS)
    record_property(
        "explorer",
        f"{PLACES[place]}: "
        + ", ".join(f"{what} {second:.1f} s" for what, second in site.seconds.items()),
    )


@pytest.mark.parametrize("place", ["web"])
def test_the_web_page_shows_no_code(site):
    assert "explore(" not in site.page.content()


@pytest.mark.parametrize("place", ["lab"])
def test_the_saved_notebook_is_small(site, record_property):
    (notebook,) = site.folder.glob("*.ipynb")
    before = notebook.stat().st_mtime_ns
    site.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: notebook.stat().st_mtime_ns != before, site.folder / "log")
    saved = json.loads(notebook.read_text(encoding="utf-8"))
    assert sum(bool(cell.get("outputs")) for cell in saved["cells"]) == len(EXPLORERS)
    record_property(
        "explorer", f"JupyterLab: saved with outputs {notebook.stat().st_size / 1_000:.0f} KB"
    )
    assert notebook.stat().st_size < 300_000
