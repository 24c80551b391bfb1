"""What only a GPU can show; skipped where there is none."""

import shutil
import subprocess
import sys

import pytest
import torch

from seqpe_lab.models.gpt2 import GPT2, GPT2Config
from seqpe_lab.models.vit import ViT, ViTConfig
from seqpe_lab.recipes import IMAGE_METHODS, METHODS, image_model, language_model
from seqpe_lab.runs import Run
from seqpe_lab.tasks.perplexity import perplexity
from seqpe_lab.training import Objective, build_model, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


BIASED = "t5 kerple-log fire sandwich shaw deberta cope fox".split()


@pytest.mark.parametrize("method", [*METHODS, *BIASED])
def test_losses_and_gradients_of_text_equal_the_cpu_s(method):
    recipe = language_model(method, "smoke")
    tokens = torch.randint(
        256, (recipe.batch, recipe.train_len + 1), generator=torch.Generator().manual_seed(0)
    )
    assert_equal_on_both(recipe, 256, lambda device: tokens.to(device))


@pytest.mark.parametrize("encoding", ["t5", "kerple-log", "swin", "fire", "fox"])
def test_a_compiled_model_computes_the_same_bias(encoding):
    """In FlexAttention, if the bias depends on differences of positions."""
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = GPT2(GPT2Config(23, 64, 2, 2, 64, 999, 0.0, encoding)).cuda()
        tokens = torch.randint(23, (2, 300), generator=torch.Generator().manual_seed(0)).cuda()
        if compiled:
            torch._dynamo.reset()
            model.run_layers = torch.compile(model.run_layers)
        logits = model(tokens)
        logits.square().mean().backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters())])
    for eager, other in zip(*results):
        torch.testing.assert_close(other, eager, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("method", [*IMAGE_METHODS, "swin", "swin-v2", "alibi-euclidean"])
def test_losses_and_gradients_of_images_equal_the_cpu_s(method):
    recipe = image_model(method, "smoke")
    images = torch.randn(
        recipe.batch,
        1,
        recipe.image_size,
        recipe.image_size,
        generator=torch.Generator().manual_seed(0),
    )
    labels = torch.arange(recipe.batch) % 10
    assert_equal_on_both(recipe, 10, lambda device: [images.to(device), labels.to(device)])


def assert_equal_on_both(recipe, outputs, batch):
    losses, norms = [], []
    for device in ("cpu", "cuda"):
        objective = Objective(build_model(recipe, outputs).to(device), recipe).eval()
        result = objective(batch(device), step=3)
        result["loss"].backward()
        losses.append({name: value.item() for name, value in result.items()})
        norms.append([p.grad.norm().item() for p in objective.parameters() if p.grad is not None])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert norms[0] == pytest.approx(norms[1], rel=1e-2, abs=1e-4)


@pytest.mark.parametrize(
    "recipe",
    [language_model("seqpe", "smoke"), image_model("seqpe-mul", "smoke")],
    ids=["text", "images"],
)
def test_a_run_in_bf16_finishes_and_names_its_device(recipe, tmp_path, tiny_data):
    data = tiny_data if hasattr(recipe, "train_len") else None
    results = train(recipe, tmp_path / "run", data=data).results()
    assert results["device"].startswith("cuda") and results["precision"] == "bf16"


@pytest.mark.parametrize("arguments", [("lm", "seqpe"), ("lm", "alibi"), ("image", "seqpe-mul")])
def test_a_deterministic_run_resumes_to_the_last_bit(arguments, tmp_path, project):
    """In programs of their own: cuBLAS reads its variable when it starts."""
    task, method = arguments

    def program(folder):
        command = ["-m", "seqpe_lab", "train", task, "--method", method, "--scale", "smoke"]
        options = ["--deterministic", "--folder", str(folder)]
        subprocess.run([sys.executable, *command, *options], cwd=project, check=True)
        return Run.open(folder)

    whole = program(tmp_path / "whole")
    shutil.copytree(whole.folder, tmp_path / "resumed")
    (tmp_path / "resumed" / "results.json").unlink()
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / whole.checkpoints()[-1].name)
    resumed, weights = program(tmp_path / "resumed"), whole.model_weights()
    assert whole.results()["deterministic_algorithms"] and whole.metrics() == resumed.metrics()
    assert all(torch.equal(value, weights[k]) for k, value in resumed.model_weights().items())
    assert whole.measured() == resumed.measured()
    assert all(0 < record["matrix_share"] < 1 for record in whole.metrics(speed=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_cpu_waits_for_nothing_in_a_training_step_of_text(method):
    recipe = language_model(method, "smoke", shifted=0.5 if method == "seqpe" else 0.0)
    objective = Objective(build_model(recipe, 256).cuda(), recipe)
    tokens = torch.zeros(recipe.batch, recipe.train_len + 1, dtype=torch.long, device="cuda")
    assert_no_wait(lambda step: objective(tokens, step)["loss"].backward())


@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_the_cpu_waits_for_nothing_in_a_training_step_of_images(method):
    recipe = image_model(method, "smoke", shifted=0.5 if "seqpe" in method else 0.0)
    objective = Objective(build_model(recipe, 10).cuda(), recipe)
    images = torch.zeros(recipe.batch, 1, recipe.image_size, recipe.image_size, device="cuda")
    labels = torch.zeros(recipe.batch, dtype=torch.long, device="cuda")
    assert_no_wait(lambda step: objective([images, labels], step)["loss"].backward())


def assert_no_wait(run):
    run(0)  # what is loaded once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, 4):
            run(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_positions_may_be_on_the_gpu(method):
    encoding = build_model(language_model(method, "smoke"), 10).encoding.cuda()
    positions = torch.arange(7, device="cuda").unsqueeze(-1)
    x = torch.randn(1, 7, 32, device="cuda")
    q = encoding.embed(x, positions, 7).unflatten(-1, (2, 16)).transpose(1, 2)
    there, here = (
        encoding.transform(q, q, encoding.prepare(p, None, q.device), layer=0)
        for p in (positions, positions.cpu())
    )
    torch.testing.assert_close(there, here)


@torch.no_grad()
@pytest.mark.parametrize("autocast", [True, False], ids=["bf16", "fp32"])
def test_alibi_s_evaluation_takes_no_more_memory_than_nope_s(autocast):
    tokens, most = torch.zeros(16_385, dtype=torch.long), {}
    for encoding in ("none", "alibi"):
        model = GPT2(GPT2Config(vocab_size=50_257, layers=2, encoding=encoding)).cuda()
        model.precision = "bf16" if autocast else "fp32"
        torch.cuda.reset_peak_memory_stats()
        perplexity(model, tokens, 16_384)
        most[encoding] = torch.cuda.max_memory_allocated()
        del model
    assert most["alibi"] < 1.2 * most["none"]


@torch.no_grad()
@pytest.mark.parametrize("encoding", ["none", "rope", "alibi", "seqpe"])
def test_memory_grows_linearly_with_the_context(encoding):
    model = GPT2(GPT2Config(vocab_size=256, layers=2, encoding=encoding)).cuda().bfloat16().eval()
    assert_linear(
        lambda size: model(torch.zeros(1, size, dtype=torch.long, device="cuda")),
        (4_096, 8_192, 16_384),
        2,
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "encoding, options",
    [
        ("none", {}),
        ("rope", {}),
        ("rope-mixed", {}),
        ("seqpe", {"integration": "mul", "digits": 2}),
        ("seqpe", {"integration": "bias", "digits": 2}),
    ],
)
def test_memory_grows_linearly_with_the_patches(encoding, options):
    model = (
        ViT(ViTConfig(encoding=encoding, encoding_options=options, timm_options={"depth": 2}))
        .cuda()
        .bfloat16()
        .eval()
    )
    assert_linear(
        lambda size: model(torch.zeros(1, 3, size, size, device="cuda", dtype=torch.bfloat16)),
        (384, 768, 1_536),
        4,
    )


def assert_linear(run, sizes, growth):
    """An L x L matrix anywhere would make it grow with the square."""
    above = []
    for size in sizes:
        run(size)  # tables are built
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(size)
        above.append(torch.cuda.max_memory_allocated() - before)
    assert above[-1] < 1.3 * growth * above[-2]
