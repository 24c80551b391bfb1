"""Shared by all tests: the environment, tiny data, recipes and models, and the place of real data.

The environment is set before anything is imported, so that it also reaches the kernels that nbval
starts and the programs that tests start.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("SEQPE_SCALE", "smoke")
os.environ.setdefault("OMP_NUM_THREADS", "1")
_runs = tempfile.TemporaryDirectory(
    prefix="seqpe-test-runs-"
)  # each pytest session, and each xdist worker, has its own
os.environ["SEQPE_RUNS"] = _runs.name

import optional_packages  # noqa: E402
import pytest  # noqa: E402
from fork_server import fork_kernels  # noqa: E402
from hypothesis import settings  # noqa: E402

# torch and the library are imported where they are used: xdist's controller, which runs no test,
# needs neither

PROJECT = Path(__file__).parents[1]
collect_ignore_glob = ["broken/*"]  # test_notebooks.py runs these and expects them to fail

gc.disable()  # until all tests are collected: what is imported stays

settings.register_profile("seqpe", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("seqpe")

LONGEST = """test_distributed test_jobs test_browser test_wheel 13_full_scale test_architecture
11_larger_images 16_whole_books test_all test_unusual_uses 09_length_extrapolation
07_sum_mul_bias 12_what_a_patch_is_similar_to 15_questions_over_long_contexts test_vision
06_distillation_and_collapse 17_longer_contexts test_precision test_training""".split()

# every encoding with every way to integrate it: name -> (encoding, options)
VARIANTS = {
    "none": ("none", {}),
    "sinusoidal": ("sinusoidal", {}),
    "learned": ("learned", {}),
    "rope": ("rope", {}),
    "rope-half": ("rope", {"pairing": "half", "base": 1e6}),
    "alibi": ("alibi", {}),
    "alibi-scaled": ("alibi", {"scaled": True}),
    "rope-yarn": ("rope-yarn", {"factor": 4}),
    "rope-dynamic": ("rope-dynamic", {}),
    "liere": ("liere", {}),
    "fope": ("fope", {"base": 10.0}),
    "xpos": ("xpos", {}),
    "pope": ("pope", {}),
    "floater": ("floater", {}),
    "seqpe-sum": ("seqpe", {"integration": "sum", "digits": 3}),
    "seqpe-mul": (
        "seqpe",
        {"integration": "mul", "digits": 3, "shared_projection": False, "projection_bias": 1.0},
    ),
    "seqpe-bias": ("seqpe", {"integration": "bias", "digits": 3}),
    "seqpe-unscaled": ("seqpe", {"integration": "bias", "digits": 3, "scaled": False}),
    "seqpe-gru": ("seqpe", {"digits": 3, "architecture": "gru"}),
    "seqpe-least-first": ("seqpe", {"digits": 3, "least_first": True}),
}


# the same for images
IMAGE_VARIANTS = {
    "none": ("none", {}),
    "sinusoidal": ("sinusoidal", {}),
    "learned": ("learned", {}),
    "rope": ("rope", {}),
    "rope-half": ("rope", {"pairing": "half", "base": 1e4}),
    "rope-mixed": ("rope-mixed", {}),
    "rope-yarn": ("rope-yarn", {"factor": 2}),
    "rope-dynamic": ("rope-dynamic", {}),
    "rnope": ("rnope", {}),
    "liere": ("liere", {"block": 2}),
    "pope": ("pope", {}),
    "seqpe-sum": ("seqpe", {"integration": "sum", "digits": 2}),
    "seqpe-mul": (
        "seqpe",
        {"integration": "mul", "digits": 2, "shared_projection": False, "projection_bias": 1.0},
    ),
    "seqpe-bias": ("seqpe", {"integration": "bias", "digits": 2}),
    "seqpe-interpolated": ("seqpe", {"digits": 2, "decimals": 1, "interpolate": True}),
    "seqpe-gru": (
        "seqpe",
        {"integration": "mul", "digits": 2, "architecture": "gru", "shared_places": False},
    ),
}


def pytest_configure(config):
    config.pluginmanager.register(optional_packages)  # for the package's doctests, too
    if getattr(config.option, "nbval_lax", False):
        import notebook_rules  # it needs nbval

        config.pluginmanager.register(notebook_rules)
        fork_kernels()
    config.option.loadscopereorder = False  # xdist would start with the files of the most tests


def pytest_collection_modifyitems(items):
    """The longest files first, so that two workers end together."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish(session):
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    # every run ends in gc.collect(), which need not go through torch and plotly each time
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config):
    _runs.cleanup()


@pytest.fixture(params=VARIANTS)
def variant(request) -> tuple[str, dict]:
    """(encoding, options): a test that takes it runs once for every encoding and integration."""
    encoding, options = VARIANTS[request.param]
    return encoding, dict(options)


@pytest.fixture(params=IMAGE_VARIANTS)
def image_variant(request) -> tuple[str, dict]:
    """(encoding, options) on a grid: a test that takes it runs once for every one of them."""
    encoding, options = IMAGE_VARIANTS[request.param]
    return encoding, dict(options)


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture
def another_project(tmp_path, monkeypatch) -> Path:
    """A project's folder of its own, with data/ and, in runs/, its runs."""
    from seqpe_lab import package_data

    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(package_data, "CLONE", tmp_path)
    monkeypatch.setattr(package_data, "DATA", tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the project with the paper, reference vectors and real data."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(
            f"no {folder}: the paper, the authors' reference vectors and the real data sets "
            "are not part of the project"
        )
    return folder


@pytest.fixture(scope="session")
def tiny_data():
    """TextData of a few thousand bytes: train 6,000, validation 400, test 500 tokens."""
    from seqpe_lab.tasks.text_data import TextData
    from seqpe_lab.tasks.tokenization import make_tokenizer

    sentence = "A position is a short sequence of digits; {} comes after {}. "
    text = "".join(sentence.format(i * 37 % 1000, i) for i in range(130))
    parts = {"train": text[:6_000], "validation": text[6_000:6_400], "test": text[6_400:6_900]}
    encode, decode, vocab_size = make_tokenizer("bytes", {})
    return TextData(
        "tiny",
        "bytes",
        "a tiny text",
        vocab_size,
        **{split: encode({split: part})[:-1] for split, part in parts.items()},
        characters={split: len(part) for split, part in parts.items()},
        hash="tiny",
        decode=decode,
    )


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    """A text of some 19,000 bytes in a file, for what takes a path: programs, other processes."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(
        "".join(f"Position {i} is written {i:05d}, digit by digit. " for i in range(400))
    )
    return path


@pytest.fixture(scope="session")
def tiny_recipe():
    """tiny_recipe("alibi", steps=3, ...): a recipe that runs in a fraction of a second."""
    from seqpe_lab.recipes import language_model

    def make(method: str = "seqpe", seed: int = 0, **overrides):
        values = dict(
            d_model=16,
            layers=1,
            heads=2,
            train_len=16,
            max_position=64,
            steps=6,
            batch=8,
            micro_batch=8,
            pivots=4,
            candidates=4,
            hard=1,
            distillation_batch=2,
            teachers=4,
            log_every=1,
            checkpoint_every=3,
            eval_lens=(16, 32),
            eval_tokens=64,
        )
        return language_model(method, "smoke", seed, **values | overrides)

    return make


@pytest.fixture(scope="session")
def tiny_model():
    """tiny_model("rope", {...}, layers=1, ...): a small GPT-2 in evaluation mode.

    Its weights are large enough for positions to show in the logits.
    """
    import torch

    from seqpe_lab.models.gpt2 import GPT2, GPT2Config

    def make(
        encoding: str = "none", options: dict | None = None, gain: float = 8.0, **config
    ) -> GPT2:
        torch.manual_seed(0)
        values = dict(
            vocab_size=23,
            d_model=16,
            layers=2,
            heads=2,
            train_len=12,
            max_position=200,
            dropout=0.0,
        )
        model = GPT2(
            GPT2Config(**values | config, encoding=encoding, encoding_options=dict(options or {}))
        )
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(gain)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tiny_vit():
    """tiny_vit("rope", {...}, image_size=16, class_token=False, ...): a small ViT, evaluation mode.

    Its weights are large enough for positions to show in the logits.
    """
    import torch

    from seqpe_lab.models.vit import ViT, ViTConfig

    def make(
        encoding: str = "none",
        options: dict | None = None,
        gain: float = 20.0,
        image_size: int = 12,
        max_position: int = 40,
        **timm_options,
    ) -> ViT:
        torch.manual_seed(0)
        values = dict(patch_size=4, embed_dim=16, depth=2, num_heads=2)
        model = ViT(
            ViTConfig(
                "vit_tiny_patch16_224",
                image_size,
                7,
                max_position,
                encoding,
                dict(options or {}),
                values | timm_options,
            )
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in ("vit.cls_token", "vit.reg_token"):
                    parameter.normal_()
                elif (
                    parameter.dim() > 1
                    and "patch_embed" not in name
                    and name != "encoding.frequency"
                ):
                    parameter.mul_(gain)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tiny_image_recipe():
    """tiny_image_recipe("rope-axial", steps=3, ...): a recipe that takes a fraction of a second."""
    from seqpe_lab.recipes import image_model

    def make(method: str = "seqpe-mul", seed: int = 0, **overrides):
        values = dict(
            d_model=16,
            layers=1,
            heads=2,
            patch=4,
            image_size=12,
            max_position=10,
            steps=6,
            batch=8,
            micro_batch=8,
            pivots=4,
            candidates=4,
            hard=1,
            distillation_batch=2,
            teachers=4,
            log_every=1,
            checkpoint_every=3,
            eval_sizes=(12, 16),
            eval_images=20,
            validation_images=20,
        )
        return image_model(method, "smoke", seed, **values | overrides)

    return make


@pytest.fixture(scope="session")
def digit_images():
    """scikit-learn's digits, loaded once."""
    from seqpe_lab.tasks.image_data import load_images

    return load_images()


@pytest.fixture(scope="session")
def colour_folder(tmp_path_factory):
    """80 different colour images of two classes, "dark" and "light", wide or tall: 60, 10, 10."""
    import numpy as np
    from PIL import Image

    folder, chance = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for i in range(80):
        split = {0: "validation", 1: "test"}.get(i // 2 % 8, "train")
        name = f"{split}/{('dark', 'light')[i % 2]}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = chance.integers(
            128 * (i % 2), 128 + 128 * (i % 2), (20 + i % 3, 24 - i % 5, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="session")
def colours(colour_folder):
    """The images of that folder."""
    from seqpe_lab.tasks.image_data import load_images

    return load_images(str(colour_folder))


@pytest.fixture(scope="session")
def tokens():
    """Two sequences of 9 tokens of the tiny model's vocabulary, int64 (2, 9)."""
    import torch

    return torch.randint(23, (2, 9), generator=torch.Generator().manual_seed(1))


def pytest_terminal_summary(terminalreporter):
    """Print what tests measured on this machine; measurements are never asserted."""
    measured = sorted(
        {
            value
            for report in terminalreporter.getreports("passed")
            for name, value in report.user_properties
            if name in ("explorer", "measured")
        }
    )
    if measured:
        terminalreporter.section("measured")
        for line in measured:
            terminalreporter.write_line(line)


@pytest.fixture(scope="module")
def page():
    """A page of a browser."""
    from seqpe_lab.course.figure_files import find_browser

    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if not find_browser():
        pytest.skip("no browser: `make browser` installs chromium where it can")
    with playwright.sync_playwright() as program:
        browser = program.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()
