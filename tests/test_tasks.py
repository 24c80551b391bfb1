"""Tasks: which one a recipe belongs to, what it provides, and what it does not import."""

import fork_server
import pytest
import torch
from torch import nn

from seqpe_lab.recipes import algorithm, image_model, language_model, question_answering
from seqpe_lab.tasks import Task, task_of
from seqpe_lab.tasks.algorithms import AlgorithmTask
from seqpe_lab.tasks.base import epoch_order, evaluation_mode
from seqpe_lab.tasks.images import ImageTask
from seqpe_lab.tasks.questions import QuestionTask
from seqpe_lab.tasks.text import Chunks, TextTask

MAKERS = [
    (language_model, TextTask),
    (question_answering, QuestionTask),
    (lambda method, scale: image_model("none", scale), ImageTask),
    (algorithm, AlgorithmTask),
]
NAMES = ["lm", "qa", "image", "algorithm"]


@pytest.mark.parametrize("make, kind", MAKERS, ids=NAMES)
def test_a_recipe_chooses_its_task(make, kind):
    recipe = make("alibi", "smoke")
    task = task_of(recipe)
    assert type(task) is kind and isinstance(task, Task) and task.recipe is recipe


def test_a_recipe_of_an_unknown_task_is_refused():
    class Recipe:
        task = "speech"

    with pytest.raises(ValueError, match="unknown task 'speech': choose from lm, qa, image"):
        task_of(Recipe())


def test_a_task_must_provide_everything():
    with pytest.raises(TypeError, match="abstract"):
        Task(language_model("alibi", "smoke"))


@pytest.mark.parametrize("task", NAMES)
def test_what_a_task_loads_can_be_trained_on_and_has_a_provenance(task):
    make, _ = MAKERS[NAMES.index(task)]
    task = task_of(make("alibi", "smoke"))
    data = task.load_data()
    task.check(data)
    assert data.hash == data.provenance()["hash"] and len(data.hash) == 16
    assert isinstance(task.make_model(task.outputs(data)), nn.Module)
    item = task.training_set(data)[0]
    for tensor in item if isinstance(item, tuple) else (item,):
        assert isinstance(tensor, int) or tensor.dtype in (torch.int64, torch.float32)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64], ids=str)
def test_chunks_are_int64_whatever_the_text_is(dtype):
    tokens = torch.arange(100) % 23
    assert Chunks(tokens.to(dtype), 8, seed=0)[3].dtype == torch.int64
    assert torch.equal(Chunks(tokens.to(dtype), 8, seed=0)[3], Chunks(tokens, 8, seed=0)[3])


def test_evaluation_mode_restores_the_mode_and_switches_gradients_off(tiny_model):
    model = tiny_model("rope").train()
    with pytest.raises(KeyError), evaluation_mode(model) as device:
        assert device.type == "cpu" and not model.training and not torch.is_grad_enabled()
        raise KeyError
    assert model.training and torch.is_grad_enabled()


def test_each_epoch_has_an_order_of_its_own():
    orders = [epoch_order(50, 0, epoch) for epoch in range(3)]
    assert all(order.sort().values.equal(torch.arange(50)) for order in orders)
    assert not orders[0].equal(orders[1]) and epoch_order(50, 0, 0).equal(orders[0])


@pytest.mark.parametrize(
    "modules, absent",
    [
        ("tasks tasks.text tasks.questions tasks.books", "timm datasets plotly accelerate"),
        ("models.published_checkpoints", "timm datasets plotly accelerate yaml seqpe_lab.tasks"),
        ("tasks.images tasks.paper_comparison", "timm datasets plotly accelerate"),
    ],
)
def test_modules_import_only_what_they_need(modules, absent):
    imports = ", ".join(f"seqpe_lab.{module}" for module in modules.split())
    program = f"import sys, {imports}\nprint([m for m in {absent.split()} if m in sys.modules])"
    done = fork_server.python(program)
    assert done.stdout.strip() == "[]", done.stderr
