"""Questions over many documents: prompts within their budget, no leaks, tuning, and answers."""

import hashlib
import json
import shutil

import pytest
import torch

from seqpe_lab.cli import main
from seqpe_lab.recipes import QA_ABLATIONS, QARecipe, Training, question_answering
from seqpe_lab.runs import Run, runs_folder
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.tasks import questions, task_of
from seqpe_lab.tasks.facts import TOPICS, facts
from seqpe_lab.tasks.prompts import INSTRUCTION, Prompts
from seqpe_lab.tasks.question_data import QAData, Question, Split, check_split, load_questions
from seqpe_lab.tasks.questions import Examples, answer
from seqpe_lab.tasks.tokenization import make_tokenizer
from seqpe_lab.training import build_model, train

WORDS = ["Ada", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jo", "Kim", "Lea"]


@pytest.fixture(scope="module")
def invented() -> QAData:
    return load_questions("facts")


@pytest.fixture(scope="module")
def bpe(invented, tmp_path_factory):
    """The invented facts, with a BPE that merges over spaces, like GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    tokenizer.train_from_iterator(
        invented.splits["train"].documents[:2_000],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|endoftext|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return load_questions("facts", str(path))


def asked(documents: list[str], *questions: Question) -> QAData:
    """A test split of one's own, in bytes."""
    encode, decode, vocab_size = make_tokenizer("bytes", {})
    split = Split(documents, list(questions))
    return QAData(
        "own",
        "bytes",
        "own",
        {"train": split, "validation": split, "test": split},
        vocab_size,
        lambda text: encode({"": text}).tolist()[:-1],
        decode,
        (0,),
        "own",
    )


@pytest.fixture
def small_town() -> QAData:
    return asked(
        [f"{who} lives in {who}ville, near the {i}th mill." for i, who in enumerate(WORDS)],
        *(Question(f"Where does {who} live?", f"{who}ville", i) for i, who in enumerate(WORDS)),
    )


# --- prompts --------------------------------------------------------------------------------------


def test_the_paper_s_prompt_word_for_word(small_town):
    """Fig. 4."""
    prompt = Prompts(small_town, "test", "paper").make(2, 480, seed=0)
    text = small_town.decode(prompt.tokens)
    blocks = "".join(
        f"Document {n}:\n{small_town.splits['test'].documents[d]}\n\n"
        for n, d in enumerate(prompt.documents, 1)
    )
    assert (
        text == f"{INSTRUCTION}\n\nThe following are given documents.\n\n{blocks}{INSTRUCTION}\n\n"
        "Question: Where does Cleo live? Answer:"
    )
    assert small_town.decode(prompt.answer) == " Cleoville" and prompt.answer[-1] == 0


@pytest.mark.parametrize("kind", ["invented", "bpe"])
@pytest.mark.parametrize("template", ["paper", "brief"])
@pytest.mark.parametrize("budget", [400, 777, 2_048])
def test_a_prompt_keeps_its_budget_and_is_within_one_document_of_it(
    kind, template, budget, request
):
    data = request.getfixturevalue(kind)
    prompts = Prompts(data, "test", template)
    longest = max(len(prompts.document(999, d)) for d in range(len(prompts.split.documents)))
    for index in range(25):
        prompt = prompts.make(index, budget, seed=1)
        used = len(prompt.tokens) + len(prompt.answer)
        assert budget - longest < used <= budget
        assert (
            data.encode(data.decode(prompt.tokens)) == prompt.tokens.tolist() or kind == "bpe"
        )  # pieces are tokenised apart


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_answer_stands_in_one_document_only_and_its_place_is_recorded(invented, split):
    prompts = Prompts(invented, split, "brief")
    places = []
    for index in range(200):
        prompt = prompts.make(index, 512, seed=0)
        question = prompts.split.questions[index]
        holding = [
            d
            for d in prompt.documents
            if question.answer.lower() in prompts.split.documents[d].lower()
        ]
        assert holding == [question.document] and len(set(prompt.documents)) == len(
            prompt.documents
        )
        assert prompt.depth == pytest.approx(
            prompt.documents.index(question.document) / (len(prompt.documents) - 1)
        )
        places.append(prompt.depth)
    assert all(
        20 <= sum(low <= p < low + 0.25 + 1e-9 for p in places) for low in (0, 0.25, 0.5, 0.75)
    )  # uniform


def test_a_distractor_that_holds_the_answer_is_never_drawn():
    data = asked(
        [
            "The key is red.",
            *(f"A red herring, number {i}." for i in range(20)),
            *(f"Blue, {i}." for i in range(20)),
        ],
        Question("What is the key?", "red", 0),
    )
    documents = Prompts(data, "test", "brief").make(0, 200, seed=3).documents
    assert len(documents) > 5 and all(d == 0 or d > 20 for d in documents)


def test_the_same_seed_gives_the_same_prompts_on_every_machine(invented):
    digest = hashlib.sha256()
    for split in ("train", "test"):
        prompts = Prompts(invented, split, "paper")
        for index in range(0, len(prompts), len(prompts) // 20):
            digest.update(bytes(prompts.make(index, 1_024, seed=5).tokens.tolist()))
    assert digest.hexdigest()[:16] == "b3ccebe32bbde580"
    assert invented.hash == "a0d6a1af84f9cf53"


def test_another_seed_gives_other_documents(invented):
    prompts = Prompts(invented, "test", "brief")
    assert (
        prompts.make(0, 512, seed=0).documents
        == prompts.make(0, 512, seed=0).documents
        != prompts.make(0, 512, seed=1).documents
    )


def test_every_invented_sentence_answers_one_question_only():
    answers = [(topic, word) for topic, (_, words) in TOPICS.items() for word in words.split()]
    assert len({word.lower() for _, word in answers}) == len(answers) > 50
    for topic, (told, words) in TOPICS.items():
        assert len({word[0].lower() for word in words.split()}) == len(words.split()) or topic in (
            "colour",
            "animal",
            "number",
            "day",
        )
        for sentence in told:
            assert not [
                word for _, word in answers if word.lower() in sentence.format(x="").lower()
            ], sentence
    first = facts("test", 1_000)
    assert first == facts("test", 1_000) != facts("train", 1_000) and {
        fact.topic for fact in first
    } == set(TOPICS)


@pytest.mark.parametrize(
    "documents, question, message",
    [
        (["The key is red.", "  "], Question("What?", "red", 0), "document 1 of it is empty"),
        (
            ["The key is red."],
            Question("What?", "blue", 0),
            r"the answer 'blue' to 'What\?' is not in its document",
        ),
        (["The key is red."], Question("What?", " ", 0), "is not in its document"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(documents, question, message):
    with pytest.raises(ValueError, match=message):
        check_split(Split(documents, [question]), "it")


def test_prompts_that_cannot_be_made_are_refused(small_town):
    prompts = Prompts(small_town, "test", "brief")
    with pytest.raises(
        ValueError,
        match="needs 93 tokens with its document and its answer 'Adaville', above the budget of 60",
    ):
        prompts.make(0, 60, seed=0)
    long = Prompts(asked(["x" * 500], Question("What?", "x" * 500, 0)), "test", "brief")
    with pytest.raises(ValueError, match="above the budget of 400"):
        long.make(0, 400, seed=0)
    with pytest.raises(
        ValueError,
        match="12 documents, 11 of them without the answer 'Adaville', do not fill a budget of "
        "5000 tokens",
    ):
        prompts.make(0, 5_000, seed=0)
    with pytest.raises(ValueError, match="unknown template 'long'"):
        Prompts(small_town, "test", "long")
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        Prompts(small_town, "dev")


# --- sources --------------------------------------------------------------------------------------


def squad_folder(folder, rows):
    from datasets import Dataset

    folder.mkdir()
    for split, some in rows.items():
        Dataset.from_list(some).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def row(title, context, question, *texts):
    return {
        "title": title,
        "context": context,
        "question": question,
        "answers": {"text": list(texts), "answer_start": [context.find(t) for t in texts]},
    }


def test_squad_s_columns_are_read_and_split_by_article(tmp_path):
    rows = {
        "train": [
            row("A", "The sky is blue.", " What is blue? ", "The sky", "sky"),
            row("A", "The sky is blue.", "Unanswerable?"),
            row("B", "Grass is green.", "What is green?", "Grass"),
        ],
        "validation": [
            row(f"T{i}", f"Number {i} is prime.", "Which is prime?", f"{i}") for i in range(40)
        ],
    }
    for split in rows.values():  # a first row with an empty list has no type
        assert split[0]["answers"]["text"]
    data = load_questions(squad_folder(tmp_path / "squad", rows))
    assert data.splits["train"] == Split(
        ["The sky is blue.", "Grass is green."],
        [Question("What is blue?", "The sky", 0), Question("What is green?", "Grass", 1)],
    )
    held = {name: data.splits[name].documents for name in ("validation", "test")}
    assert len(held["validation"]) + len(held["test"]) == 40 and not set(held["validation"]) & set(
        held["test"]
    )
    assert 1 <= len(held["validation"]) < len(held["test"])


@pytest.mark.parametrize(
    "source, error, message",
    [
        ("fact", ValueError, "unknown source of questions 'fact'"),
        ("no/such", FileNotFoundError, "no questions at no/such"),
    ],
)
def test_unknown_sources_are_refused(source, error, message):
    with pytest.raises(error, match=message):
        load_questions(source)


def test_a_folder_must_hold_both_files_with_squad_s_columns(tmp_path):
    with pytest.raises(FileNotFoundError, match="train.parquet is missing"):
        load_questions(str(tmp_path))
    rows = {split: [{"context": "a", "question": "b"}] for split in ("train", "validation")}
    with pytest.raises(ValueError, match="no column answers, title"):
        load_questions(squad_folder(tmp_path / "q", rows))
    (tmp_path / "q" / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        load_questions(str(tmp_path / "q"))


def test_real_questions_make_the_paper_s_prompts(shared):
    """SQuAD with GPT-2's vocabulary at 1,024 and 8,192 tokens."""
    data = load_questions(
        str(shared / "data" / "squad"), str(shared / "data" / "gpt2_bpe" / "tokenizer.json")
    )
    assert len(data.splits["train"].questions) == 87_599
    prompts = Prompts(data, "test", "paper")
    for index in (0, 500, 1_000):
        for budget in (1_024, 8_192):
            prompt = prompts.make(index, budget, seed=0)
            assert budget - 900 < len(prompt.tokens) + len(prompt.answer) <= budget
            text = data.decode(prompt.tokens)
            assert text.startswith(INSTRUCTION) and text.endswith(
                f"Question: {prompts.split.questions[index].text} Answer:"
            )


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tiny_recipe, tiny_data, tmp_path_factory):
    """base("alibi"): the recipe of a tiny language model that is trained."""

    def make(method="seqpe", **overrides):
        recipe = tiny_recipe(method, max_position=400, **overrides)
        train(recipe, data=tiny_data, cpu=True, progress=False)
        return recipe

    return make


def tune(trained: Training, **overrides) -> QARecipe:
    values = dict(
        train_len=112,
        eval_lens=(112, 160),
        steps=4,
        batch=8,
        micro_batch=8,
        checkpoint_every=2,
        eval_questions=6,
    )
    return question_answering(
        trained.method, trained.scale, trained.seed, trained, **values | overrides
    )


def test_only_the_answer_counts(invented, base):
    recipe = tune(base())
    tokens, targets = Examples(recipe, invented)[3]
    counted = targets != questions.NOT_COUNTED
    first = int(counted.nonzero()[0])
    text = invented.decode(tokens[: first + 1].tolist())
    assert text.endswith("Answer:") and tokens[first + 1 :][: counted.sum()].equal(targets[counted])
    said = invented.decode(targets[counted].tolist())
    assert targets[counted][-1] == 0 and said.strip() in text and counted.sum() == len(said) + 1
    model = build_model(recipe, 256)
    loss = task_of(recipe).main_loss(model, (tokens[None], targets[None]), None)
    changed = tokens.clone()
    changed[first + int(counted.sum()) + 1 :] = 7  # the padding
    assert task_of(recipe).main_loss(model, (changed[None], targets[None]), None) == loss
    right = model(tokens[None])[0].log_softmax(-1)[
        torch.arange(len(tokens))[counted], targets[counted]
    ]
    assert loss.item() == pytest.approx(-right.mean().item(), rel=1e-5)


def test_an_example_is_a_function_of_seed_and_index_and_every_question_has_its_turn(
    base, small_town
):
    recipe = tune(base())
    examples = Examples(recipe, small_town)
    assert all(a.equal(b) for a, b in zip(examples[5], Examples(recipe, small_town)[5]))
    epoch = {small_town.decode(examples[i][0].tolist()).split("Question: ")[1] for i in range(12)}
    assert len(epoch) == 12
    assert not Examples(recipe.changed(seed=1), small_town)[5][0].equal(examples[5][0])


@pytest.mark.parametrize("method", ["none", "learned", "rope-1e4", "alibi", "seqpe"])
def test_a_run_starts_from_its_base_and_its_result_is_the_best_checkpoint(
    method, base, invented, tmp_path
):
    recipe = tune(base(method))
    run = train(recipe, tmp_path / "run", data=invented, cpu=True, progress=False)
    results = run.results()
    assert results["perplexity"].keys() == results["exact_match"].keys() == {"112", "160"}
    assert (
        sum(of for _, of in results["by_depth"]["112"]) == 6
        and results["data"]["hash"] == invented.hash
    )
    model = trained_model(run, invented)
    best = min(
        (json.loads((c / "state.json").read_text())["validation"], c) for c in run.checkpoints()
    )
    assert task_of(recipe).validate(model, invented) == pytest.approx(best[0], rel=1e-5)
    untuned = Run.open(runs_folder() / recipe.base).model_weights()
    assert [m["step"] for m in run.metrics()] == [1, 2, 3, 4]
    name = "transformer.h.0.mlp.c_fc.weight"
    moved = (model.state_dict()[name] - untuned[name]).norm() / untuned[name].norm()
    assert 0 < moved < 0.5  # four steps away, not drawn anew


AS_THE_PAPER = QA_ABLATIONS["seqpe-all-learns"]


@pytest.mark.parametrize(
    "changes, stays, near",
    [
        (dict(), True, False),
        (QA_ABLATIONS["seqpe-new-projection"], False, False),
        (QA_ABLATIONS["seqpe-kept-encoder"], True, True),
        (AS_THE_PAPER, False, True),
    ],
)
def test_the_position_space_is_kept_and_read_anew_or_both_learn_on(
    changes, stays, near, base, invented, tmp_path
):
    """At small scale; at full scale, as in the paper, everything goes on from where it was."""
    recipe = tune(base(), **changes)
    first = {}

    def watch(step, model):
        if step == 0:
            first.update({name: value.clone() for name, value in model.state_dict().items()})

    run = train(recipe, tmp_path / "run", data=invented, cpu=True, progress=False, watch=watch)
    before, after = Run.open(runs_folder() / recipe.base).model_weights(), run.model_weights()
    encoder = [name for name in before if name.startswith("encoding.encoder.")]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder) == stays
    [name] = [name for name in before if name.endswith("projections.0.weight")]
    new = build_model(recipe, 256).state_dict()[name]
    assert torch.equal(first[name], before[name] if near else new)
    assert not torch.equal(before[name], new) and not torch.equal(after[name], first[name])
    assert ("contrastive" in run.metrics()[0]) != stays


def test_an_ablation_of_a_base_by_its_folder_is_that_ablation_and_other_tasks_have_no_base(
    base, capsys, monkeypatch
):
    asked = []

    def refuse(recipe, *arguments, **options):
        asked.append(recipe)
        raise ValueError("not now")

    monkeypatch.setattr("seqpe_lab.training.train", refuse)
    recipe = tune(base())
    assert (
        main(["train", "qa", "--encoding", "seqpe-all-learns", "--set", f"base={recipe.base}"]) == 2
        and "not now" in capsys.readouterr().err
    )
    assert (
        asked[0].method == "seqpe-all-learns"
        and asked[0].base == recipe.base
        and not asked[0].keep_encoder
    )
    for options, seed in (
        (["--seed", "1", "--set"], 1),
        (["--set", "seed=1"], 1),
        (["--set"], recipe.seed),
    ):  # of the tuning; the base keeps its own
        assert main(["train", "qa", *options, f"base={recipe.base}"]) == 2
        assert (asked[-1].base, asked[-1].seed) == (recipe.base, seed)
    assert (
        main(["train", "lm", "--set", f"base={recipe.base}"]) == 2
        and "a recipe has no field base" in capsys.readouterr().err
    )


def test_every_combination_has_a_name_and_a_run_of_its_own():
    """Two things may learn on or not: three ablations and the method, all from one base."""
    recipes = {name: question_answering(name, "small") for name in ("seqpe", *QA_ABLATIONS)}
    assert len({(r.new_projection, r.keep_encoder) for r in recipes.values()}) == len(recipes) == 4
    assert {r.base for r in recipes.values()} == {recipes["seqpe"].base} and {
        name: r.method for name, r in recipes.items()
    } == {name: name for name in recipes}
    assert all(r.keep_encoder == (r.alpha == r.beta == 0) for r in recipes.values())
    assert len({Run(r).folder for r in recipes.values()}) == 4


def test_every_ablation_has_a_name_in_figures():
    from seqpe_lab.course.figures import label

    assert all(label(name) != name for name in ("seqpe", *QA_ABLATIONS))


def test_at_medium_and_full_scale_everything_learns_on_as_in_the_paper():
    for scale in ("medium", "full"):
        recipe = question_answering("seqpe", scale)
        assert (recipe.new_projection, recipe.keep_encoder, recipe.alpha, recipe.beta) == tuple(
            AS_THE_PAPER.values()
        )


@pytest.mark.parametrize("changes", [dict(), AS_THE_PAPER])
def test_a_resumed_run_equals_an_unbroken_one(changes, base, invented, tmp_path):
    recipe = tune(base(), **changes)
    whole = train(recipe, tmp_path / "whole", data=invented, cpu=True, progress=False)
    shutil.copytree(whole.folder, tmp_path / "broken")
    broken = Run.open(tmp_path / "broken")
    (broken.folder / "results.json").unlink()
    shutil.rmtree(broken.checkpoints()[-1])
    again = train(recipe, broken.folder, data=invented, cpu=True, progress=False)
    assert (
        again.metrics() == whole.metrics()
        and again.results()["perplexity"] == whole.results()["perplexity"]
    )


def test_a_model_learns_to_answer_what_it_has_seen(base):
    """One document, one question: the answer must come out, letter by letter."""
    data = asked(
        ["Ada lives in Rome.", *(f"It is {i}." for i in range(40))],
        Question("Where does Ada live?", "Rome", 0),
    )
    run = train(
        tune(base("none"), steps=80, learning_rate=1e-2, warmup_steps=1, eval_questions=1),
        data=data,
        cpu=True,
        progress=False,
    )
    assert run.results()["exact_match"]["112"] == 100 and run.results()["perplexity"]["112"] < 2


def test_a_recipe_is_read_back_and_keeps_its_base(base):
    recipe = tune(base("alibi"))
    again = Training.from_json(recipe.to_json())
    assert (
        again == recipe
        and isinstance(again, QARecipe)
        and again.encoding == "alibi"
        and again.d_model == 16
    )


@pytest.mark.parametrize(
    "overrides, message",
    [
        (dict(alone=2.0), r"alone is a share in \[0, 1\], got 2.0"),
        (
            dict(eval_lens=(112, 390)),
            "a prompt of 390 tokens and 16 new ones reach beyond max_position=400",
        ),
        (dict(eval_questions=0), "eval_questions must be a whole number of at least 1"),
        (dict(depth=3), "a recipe has no field depth"),
        (
            dict(keep_encoder=True, alpha=0.1),
            "alpha=0.1 and beta=0.0 weigh losses that shape the position encoder, which "
            "keep_encoder=true leaves as it is: set them to 0",
        ),
    ],
)
def test_recipes_that_cannot_be_run_are_refused(overrides, message, base):
    with pytest.raises(ValueError, match=message):
        tune(base(), **overrides)


def test_a_recipe_needs_a_base(base):
    with pytest.raises(ValueError, match="base must name the run"):
        tune(base()).changed(base="")


def test_a_base_that_is_not_trained_is_refused(tiny_recipe, invented, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run to start from"):
        train(
            tune(tiny_recipe("alibi", seed=99, max_position=400)),
            tmp_path / "run",
            data=invented,
            cpu=True,
            progress=False,
        )


# --- answers --------------------------------------------------------------------------------------


def prompts_of(data, template="brief"):
    return [
        Prompts(data, "test", template).make(i, budget, seed=0)
        for i, budget in enumerate((140, 200, 140, 170, 260, 200))
    ]


@pytest.mark.parametrize("start", [0, 37])
def test_answers_are_those_of_reading_everything_again_for_every_token(
    variant, start, small_town, tiny_model
):
    encoding, options = variant
    model = tiny_model(encoding, options, vocab_size=256, max_position=400, gain=4.0)
    for prompt, found in zip(
        prompts := prompts_of(small_town),
        answer(model, small_town, prompts, new_tokens=8, start=start),
    ):
        context = (
            start
            + len(prompt.tokens)
            + max(8, max(len(p.answer) for p in prompts if len(p.tokens) == len(prompt.tokens)))
        )
        with torch.no_grad():
            whole = torch.cat([prompt.tokens, prompt.answer])[None]
            logits = model(whole[:, :-1], start=start, context_len=context)[
                0, len(prompt.tokens) - 1 :
            ].log_softmax(-1)
        nats = -logits[torch.arange(len(prompt.answer) - 1), prompt.answer[:-1]].sum()
        assert (
            found.nats == pytest.approx(float(nats), rel=1e-4)
            and found.tokens == len(prompt.answer) - 1
        )
        slow = model.generate(
            prompt.tokens[None], 8, start=start, use_cache=False, context_len=context
        )[0, len(prompt.tokens) :]
        said = small_town.decode(questions._until(slow.tolist(), (0,))).strip()
        assert found.generated == said and found.depth == prompt.depth and not found.correct


def test_case_and_space_do_not_matter_and_anything_else_does(small_town, tiny_model, monkeypatch):
    prompts = prompts_of(small_town)[:3]
    prompts = [prompts[0], prompts[0], prompts[0]]
    model = tiny_model("none", vocab_size=256, max_position=400)
    spoken = [" ADAVILLE\0x", "adaville", " Adaville."]
    rows = torch.tensor([[0, *text.encode().ljust(12, b"\0")] for text in spoken])
    monkeypatch.setattr(model, "generate", lambda *_, **__: rows)
    assert [a.correct for a in answer(model, small_town, prompts)] == [True, True, False]


def test_the_exam_asks_the_same_questions_at_every_length(base, invented):
    recipe = tune(base())
    short, long = (task_of(recipe).exam(invented, "test", 10, n) for n in (112, 300))
    assert [p.text for p in short] == [p.text for p in long] and all(
        len(a.tokens) < len(b.tokens) for a, b in zip(short, long)
    )


def test_a_context_beyond_max_position_is_refused(small_town, tiny_model):
    with pytest.raises(ValueError, match="max_position=150"):
        answer(
            tiny_model("alibi", vocab_size=256, max_position=150),
            small_town,
            prompts_of(small_town),
        )


# --- around them ----------------------------------------------------------------------------------


def test_the_command_line_tunes_shows_evaluates_and_lists(base, capsys, tmp_path):
    trained = base("alibi")
    folder = tmp_path / "tuned"
    sets = [
        f"{name}={json.dumps(value)}"
        for name, value in tune(trained).model_dump().items()
        if name not in ("method", "scale", "seed")
    ]
    assert (
        main(
            [
                "train",
                "qa",
                "--method",
                "alibi",
                "--scale",
                "smoke",
                "--folder",
                str(folder),
                "--cpu",
                "--set",
                *sets,
            ]
        )
        == 0
    )
    results = Run.open(folder).results()
    printed = capsys.readouterr().out
    assert "context (tokens)  exact match (%)  perplexity (of the answers)" in printed
    for length, value in results["exact_match"].items():
        row = [length, f"{value:.2f}", f"{results['perplexity'][length]:.2f}"]
        assert row in [line.split() for line in printed.splitlines()]
    assert (
        main(["train", "lm", "--folder", str(folder)]) == 2
        and "say train qa" in capsys.readouterr().err
    )
    assert main(["evaluate", str(folder)]) == 0
    for line, (length, value) in zip(
        capsys.readouterr().out.splitlines(), results["exact_match"].items()
    ):
        assert (
            line.strip().startswith(f"{length} tokens: exact match {value:.1f} %")
            and "6 questions of the test split" in line
        )
    assert (
        main(["evaluate", str(folder), "--sizes", "24"]) == 2
        and "run on questions" in capsys.readouterr().err
    )
    assert main(["runs", "--folder", str(tmp_path)]) == 0
    heading, header, line = capsys.readouterr().out.splitlines()
    assert "exact match (%) by context (tokens)" in heading and header.split()[5] == "160"
    assert line.startswith("finished") and line.split()[5] == f"{results['exact_match']['160']:.2f}"


def test_a_figure_of_answers_and_one_of_depths():
    from seqpe_lab.course import figures

    results = [
        {
            "method": m,
            "seed": s,
            "scale": "small",
            "split": "test",
            "protocol": "p",
            "questions": 4,
            "data": {"description": "d", "hash": "h", "tokenizer": "bytes"},
            "exact_match": {"128": 90.0 - s, "256": 50.0},
            "perplexity": {"128": 1.0, "256": 2.0},
        }
        for m in ("alibi", "seqpe")
        for s in (0, 1)
    ]
    figure = figures.answers(results, train_len=128)
    lines = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert (
        lines == {"ALiBi": [89.5, 50.0], "SeqPE": [89.5, 50.0]}
        and figure.layout.yaxis.title.text == "exact match (%)"
    )
    shown = figures.depths(
        {"alibi": [[100.0, None], [0.0, 50.0]], "none": [[1.0, 2.0], [3.0, 4.0]]},
        lengths=("128", "1024"),
        title="t",
    )
    first, second = (trace for trace in shown.data if trace.type == "heatmap")
    assert (
        first.z[0][1] is None
        and first.z[1][1] == 50
        and list(first.y) == ["128", "1,024"]
        and list(first.x) == [0.25, 0.75]
    )
    assert list(second.z[1]) == [3.0, 4.0] and shown.layout.coloraxis.cmax == 100


def test_finished_runs_are_collected(tmp_path, monkeypatch):
    from seqpe_lab import package_data
    from seqpe_lab.reproduction import collecting

    monkeypatch.setenv("SEQPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(package_data, "CLONE", tmp_path)
    monkeypatch.setattr(package_data, "DATA", tmp_path / "data")
    recipe = question_answering("alibi", "small", 3)
    run = Run(recipe)
    run.create()
    run.write_results(
        {
            "method": "alibi",
            "seed": 3,
            "protocol": "p",
            "exact_match": {"128": 90.0, "256": 40.0},
            "perplexity": {"128": 1.1, "256": 2.0},
        }
    )
    begin, end = collecting.marks("exact_match")
    (tmp_path / "README.md").write_text(f"before\n{begin}old\n{end}\nafter\n")
    (path,) = collecting.collect("small")
    assert (
        path.name == "question-answering-small.json"
        and json.loads(path.read_text())[0]["seed"] == 3
    )
    readme = (tmp_path / "README.md").read_text()
    assert (
        "| ALiBi | 90.0 | 40.0 | 65.0 | 1 |" in readme
        and "old" not in readme
        and readme.startswith("before")
        and readme.endswith("after\n")
    )


def test_a_lesson_trains_the_language_model_before_it_is_tuned(monkeypatch):
    from seqpe_lab.course import lesson

    asked = []
    monkeypatch.setattr(lesson.Lesson, "train", lambda self, method: asked.append(method))
    monkeypatch.setattr(
        lesson.Lesson, "_train", lambda self, recipe: asked.append(recipe) or recipe
    )
    assert lesson.Lesson("t", "smoke", 4).tune("alibi", steps=3) == question_answering(
        "alibi", "smoke", 4, steps=3
    )
    assert asked[0] == "alibi" and asked[1].task == "qa"
    lesson.Lesson("t", "smoke", 4).tune("seqpe-all-learns")
    assert asked[2] == "seqpe" and asked[3].method == "seqpe-all-learns"
