"""Algorithmic problems: their answers, splits and lengths, and a model that learns one."""

import random
from collections import Counter

import pytest
import torch

from seqpe_lab.problems import (
    END,
    GRID_OFFSET,
    PROBLEMS,
    SYMBOLS,
    decode,
    draw_example,
    encode,
    split_of,
)
from seqpe_lab.recipes import SCALES, Training, algorithm
from seqpe_lab.recipes.step_cost import OUTPUTS
from seqpe_lab.tasks import algorithms, task_of
from seqpe_lab.tasks.algorithms import NOT_COUNTED, Examples, stack, trained_sizes

SEQUENCES = [name for name, problem in PROBLEMS.items() if problem.dims == 1]


def solve(problem: str, prompt: str) -> str:
    """The answer, by another way than the generators: from the finished prompt alone."""
    if problem == "grid":
        side = int(len(prompt) ** 0.5)
        (place,) = [i for i, cell in enumerate(prompt) if cell.isalpha()]
        return prompt[place + GRID_OFFSET[0] * side + GRID_OFFSET[1]]
    if problem in ("induction", "needle", "recall"):
        word, asked = prompt.split("?")
        following = [b for a, b in zip(word, word[1:]) if a == asked]
        if problem != "induction":
            assert len(following) == 1
        return following[-1] + END
    body, last = prompt[:-1], prompt[-1]
    assert last == "="
    if problem.startswith("addition"):
        numbers = body.split("+")
        reverse = problem.endswith("reversed")
        digits, carry = "", 0
        for place in range(len(numbers[0])):  # from the least significant digit
            at = place if reverse else -1 - place
            carry, digit = divmod(sum(int(number[at]) for number in numbers) + carry, 10)
            digits += str(digit)
        digits += str(carry)
        return (digits if reverse else digits[::-1]) + END
    if problem == "counting":
        return str(sum(symbol == "a" for symbol in body)) + END
    if problem == "parity":
        odd = False
        for symbol in body:
            odd ^= symbol == "1"
        return str(int(odd)) + END
    ordered = {"copy": list, "reverse": lambda word: list(reversed(word))}
    counts = Counter(body)
    if problem == "sorting":
        return "".join(letter * counts[letter] for letter in SYMBOLS) + END
    return "".join(ordered[problem](body)) + END


@pytest.mark.parametrize("problem", PROBLEMS)
def test_answers_follow_from_their_prompts(problem):
    for number in range(300):
        size = 3 + number % 20
        prompt, answer = draw_example(problem, size, "train", str(number))
        assert answer == solve(problem, prompt)
        assert len(prompt) + len(answer) <= PROBLEMS[problem].length(size)
        assert decode(encode(prompt + answer)) == prompt + answer


@pytest.mark.parametrize("problem", PROBLEMS)
def test_lengths_are_those_of_the_longest_example(problem):
    size = 12
    lengths = [
        len(prompt) + len(answer)
        for prompt, answer in (draw_example(problem, size, "train", str(i)) for i in range(300))
    ]
    assert max(lengths) == PROBLEMS[problem].length(size)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_input_is_in_two_splits(problem):
    seen = {
        split: {draw_example(problem, 8, split, str(i)).prompt for i in range(400)}
        for split in ("train", "validation", "test")
    }
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    for split, prompts in seen.items():
        assert {split_of(prompt) for prompt in prompts} == {split}


def test_splits_have_their_shares():
    rng = random.Random(0)
    shares = Counter(split_of(PROBLEMS["copy"].draw(8, rng).prompt) for _ in range(4_000))
    assert shares["train"] == pytest.approx(3_200, abs=120)
    assert shares["test"] == pytest.approx(400, abs=90)


def test_a_split_without_an_input_of_a_size_is_named():
    with pytest.raises(ValueError, match="no input of size 1 of 'parity'.*larger size"):
        for split in ("train", "validation", "test"):  # two inputs cannot fill three splits
            draw_example("parity", 1, split, "0")


@pytest.fixture
def drawn(monkeypatch):
    """(problem, size, split, input) of all examples that a task draws from now on."""
    found = []

    def watched(problem, size, split, seed):
        example = draw_example(problem, size, split, seed)
        found.append((problem, size, split, example.prompt))
        return example

    monkeypatch.setattr(algorithms, "draw_example", watched)
    return found


@pytest.mark.parametrize("problem", PROBLEMS)
def test_training_and_tests_draw_what_they_say(problem, drawn):
    """Sizes 1 to n alike and of the training split; tests of the stated sizes, of another split."""
    recipe = algorithm("alibi" if problem in SEQUENCES else "learned", "smoke", problem=problem)
    examples = Examples(recipe)
    for number in range(1_200):
        examples[number]
    sizes, usual = Counter(size for _, size, *_ in drawn), 1_200 / len(trained_sizes(recipe))
    assert sorted(sizes) == trained_sizes(recipe)
    assert all(abs(count - usual) < 0.3 * usual for count in sizes.values())
    trained = {prompt for *_, prompt in drawn}
    assert {(name, split) for name, _, split, _ in drawn} == {(problem, "train")}
    drawn.clear()
    task = task_of(recipe.changed(eval_examples=4))
    task.evaluate(task.make_model(len(SYMBOLS)), None)
    assert Counter((size, split) for _, size, split, _ in drawn) == {
        (size, "test"): 4 for size in recipe.eval_sizes
    }
    assert not trained & {prompt for *_, prompt in drawn}


def test_sizes_of_training_are_uniform_and_items_repeatable():
    recipe = algorithm("alibi", "smoke", problem="copy")
    examples = Examples(recipe)
    sizes = Counter(int((examples[i][1] != NOT_COUNTED).sum()) - 1 for i in range(1_200))
    assert sorted(sizes) == list(range(1, recipe.size + 1)) == trained_sizes(recipe)
    assert min(sizes.values()) > 140 and max(sizes.values()) < 260  # 200 each
    again = Examples(recipe)[7]
    assert all(a.equal(b) for a, b in zip(examples[7], again))
    other = Examples(recipe.changed(seed=1))
    assert any(not examples[i][0].equal(other[i][0]) for i in range(3))


def test_targets_are_what_follows_and_the_prompt_is_not_counted():
    tokens, targets = stack([draw_example("reverse", 3, "train", "0")], length=10)
    counted = targets[0] != NOT_COUNTED
    assert decode(targets[0][counted].tolist()) == decode(tokens[0][4:7].tolist()) + END
    assert counted.tolist() == [False] * 3 + [True] * 4 + [False] * 3


class Knowing(torch.nn.Module):
    """A model that gives the right answers, apart from the first symbol of some examples."""

    def __init__(self, targets: torch.Tensor, wrong: int):
        super().__init__()
        self.targets, self.wrong = targets, wrong
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, tokens):
        likely = self.targets.clamp(min=0)
        for row in range(self.wrong):
            first = int((self.targets[row] != NOT_COUNTED).nonzero()[0])
            likely[row, first] = 0 if likely[row, first] else 1
        return 100.0 * torch.nn.functional.one_hot(likely, len(SYMBOLS))


def test_exact_match_and_right_symbols():
    task = task_of(algorithm("none", "smoke", problem="copy"))
    examples = [draw_example("copy", 4, "test", f"exam/{i}") for i in range(8)]
    score = task.measure(Knowing(stack(examples)[1], wrong=2), 4, "test", 8)
    assert (score.exact, score.examples) == (6, 8)
    assert (score.right, score.symbols) == (38, 40)
    assert score.nats == pytest.approx(200, rel=1e-4)


@pytest.mark.parametrize("problem", ["reverse", "needle"])
def test_one_pass_counts_what_greedy_generation_gives(problem):
    recipe = algorithm("rope-1e4", "smoke", problem=problem)
    task = task_of(recipe)
    torch.manual_seed(0)
    model = task.make_model(len(SYMBOLS))
    for parameter in model.parameters():  # an answer of random weights is right now and then
        torch.nn.init.normal_(parameter, std=0.5)
    right = 0
    for i in range(40):
        prompt, answer = draw_example(problem, 1, "test", f"exam/{i}")
        out = model.generate(torch.tensor([encode(prompt)]), len(answer))
        right += decode(out[0, len(prompt) :].tolist()) == answer
    assert task.measure(model, 1, "test", 40).exact == right


class Asked(torch.nn.Module):
    """A model that keeps the positions it is given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

    def forward(self, tokens, positions=None):
        self.seen.append(positions)
        return torch.zeros(*tokens.shape[:2], len(SYMBOLS))


@pytest.mark.parametrize(
    "method, random", [("rope-randomized", True), ("rope-1e4", False), ("seqpe", False)]
)
def test_random_positions_are_those_of_tests_too(method, random):
    task, model = task_of(algorithm(method, "smoke", problem="copy")), Asked()
    task.measure(model, 6, "test", 8)
    task.measure(model, 6, "test", 8)
    first, again = model.seen
    if not random:
        assert first is None
        return
    assert first.shape == (8, 13, 1) and first.equal(again)  # the same test for every model
    assert (first.diff(dim=1) > 0).all() and 100 < first.max() < task.recipe.max_position
    assert len(first.unique(dim=0)) == 8


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_recipes_of_all_problems_and_scales(problem, scale):
    recipe = algorithm("seqpe", scale, problem=problem)
    assert recipe.method == ("seqpe-mul" if problem == "grid" else "seqpe")
    assert Training.from_json(recipe.to_json()) == recipe
    assert OUTPUTS["algorithm"] == len(SYMBOLS)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(problem="copying"), "unknown problem 'copying': choose from copy, reverse"),
        (dict(task="copying"), "unknown problem 'copying': choose from copy, reverse"),
        (dict(task="grid", problem="copy"), "two problems, copy and grid: leave task out"),
        (dict(size=300), "reach position 601 but max_position=240.*lower eval_sizes"),
        (dict(eval_sizes=(6, 200)), "reach position 401"),
        (dict(problem="grid", size=2), "at least 3 rows and columns"),
        (dict(eval_sizes=()), "must name at least one size"),
        (dict(method="rope-axial"), "unknown method 'rope-axial': choose from none"),
        (dict(problem="grid", method="rope-1e4"), "unknown method 'rope-1e4': choose from none"),
    ],
)
def test_recipes_that_cannot_run_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        algorithm(**{"scale": "smoke"} | values)


@pytest.mark.parametrize("problem, method", [("copy", "seqpe"), ("grid", "seqpe-mul")])
def test_a_run(problem, method, tmp_path, monkeypatch):
    from seqpe_lab.training import train

    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path))
    run = train(algorithm(method, "smoke", problem=problem))
    results = run.results()
    assert results["exact_match"].keys() == results["symbols_right"].keys()
    assert all(0 <= value <= 100 for value in results["symbols_right"].values())
    assert (results["split"], results["examples"]) == ("test", 16)


def test_a_few_steps_reduce_the_loss():
    """The targets can be learnt from what the model sees."""
    recipe = algorithm("rope-1e4", "smoke", problem="counting", size=3, steps=60)
    task = task_of(recipe)
    torch.manual_seed(0)
    model, examples = task.make_model(len(SYMBOLS)), Examples(recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        batch = [torch.stack(part) for part in zip(*(examples[step * 8 + i] for i in range(8)))]
        loss = task.main_loss(model, batch, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
