"""The collapse explorer: what the losses do to the space; training in the background stops."""

import asyncio
import json

import pytest
import torch

from seqpe_lab import geometry
from seqpe_lab.explorers import collapse_panel as collapse
from seqpe_lab.explorers import collapse_training, explore
from seqpe_lab.explorers.collapse_panel import COLLAPSED
from seqpe_lab.explorers.collapse_training import CANDIDATES, POSITIONS, STEPS_AT_A_TIME, Training


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(collapse, "PAUSE", 0.0)


@pytest.fixture
def panel():
    result = explore("collapse")
    yield result
    result.close()


def disabled(panel) -> set[str]:
    """The buttons that do nothing now, as the page is told."""
    return set(json.loads(panel.answer)["disabled"])


def step(panel) -> int:
    return panel.training.records[-1].step


async def until(condition, limit=60.0):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.001)


def trained(alpha: float, beta: float, pieces: int) -> Training:
    training = Training()
    for _ in range(pieces):
        training.train(alpha, beta)
    return training


def test_l_ood_alone_collapses_the_space_and_does_not_know_it():
    before, *_, after = trained(0.0, 0.1, 12).records
    assert (
        after.spread < COLLAPSED < before.spread
        and after.cosines.min() > 0.98 > before.cosines.min()
    )
    assert after.effective_rank < 0.5 * before.effective_rank
    assert after.l_ood < 0.1 * before.l_ood  # its own loss looks like success
    assert abs(after.l_delta - torch.tensor(CANDIDATES).log().item()) < 0.01


def test_both_losses_do_not_collapse_it():
    before, *_, after = trained(0.1, 0.1, 12).records
    assert after.spread > 0.5 and after.cosines[255] < 0.6 and after.l_delta < before.l_delta - 0.2


def test_the_measures_are_the_librarys():
    training = trained(0.1, 0.1, 2)
    vectors, now = training.encoder.table(POSITIONS), training.records[-1]
    for z in (1, 100, 256, POSITIONS - 1):
        assert now.cosines[z - 1] == pytest.approx(geometry.shift_cosine(vectors, z), abs=1e-5)
    assert (now.effective_rank, now.spread) == (
        geometry.effective_rank(vectors),
        geometry.spread(vectors),
    )
    assert torch.equal(training.similarity, geometry.similarity(vectors, kind="cosine"))
    assert (collapse_training.TEST.distil.teachers < collapse_training.TRAIN_LEN).all()


def test_training_is_repeatable_and_leaves_the_readers_random_numbers_alone():
    state = torch.get_rng_state()
    one, other = trained(0.1, 0.1, 2), trained(0.1, 0.1, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.similarity, other.similarity) and not torch.equal(
        one.similarity, Training(seed=1).similarity
    )


def test_the_first_picture_is_the_untrained_encoder(panel):
    title = panel.figure.layout.title.text
    assert step(panel) == 0 and not panel.running and "Untrained" in title
    assert "α = 0, β = 0.1" in title
    apart = panel.figure.data[0].z
    assert apart.shape == (200, 200)
    assert 10 ** apart[3, 5] == pytest.approx(1 - panel.training.similarity[9, 15].item(), abs=1e-6)


def test_the_colours_show_the_collapse():
    """As cosines from 0.88 to 1 all positions had one colour before and after."""
    scale = collapse.PICTURE["data"][0]
    session = collapse.Session()
    before = session.compute(collapse.State()).apart
    session.training = trained(0.0, 0.1, 12)
    after = session.compute(collapse.State()).apart
    off_diagonal = ~torch.eye(200, dtype=torch.bool).numpy()
    darker = (before - after)[off_diagonal].mean() / (scale["zmax"] - scale["zmin"])
    assert darker > 0.3, "of the length of the colour scale"


def test_a_piece_trains_and_draws_without_an_event_loop(panel):
    panel.step()
    panel.act("Step")
    assert step(panel) == 2 * STEPS_AT_A_TIME
    assert panel.figure.layout.title.text.startswith("Step 4, α = 0, β = 0.1")
    rank = next(trace for trace in panel.figure.data if trace.name == "effective rank")
    assert list(rank.x) == [0, 2, 4]
    assert list(rank.y) == [record.effective_rank for record in panel.training.records]


def test_start_without_an_event_loop_says_what_to_do(panel):
    panel.guard(lambda: panel.act("Start"))
    assert "no event loop" in panel.message and "press Step" in panel.message
    assert not panel.running


def test_start_pause_and_reset_while_everything_else_goes_on(panel):
    async def lecture():
        assert disabled(panel) == {"Pause"}
        panel.act("Start")
        assert panel.running and disabled(panel) == {"Start", "Step"}
        answered = 0
        while step(panel) < 6:  # someone else has a turn between the pieces
            await asyncio.sleep(0)
            answered += 1
        assert answered >= 3
        panel.set(alpha=0.3)
        await until(lambda: panel.training.records[-1].alpha == 0.3)
        assert {record.alpha for record in panel.training.records} == {0.0, 0.3}
        panel.act("Pause")
        stopped = step(panel)
        await asyncio.sleep(0.1)
        assert step(panel) == stopped and not panel.running and disabled(panel) == {"Pause"}
        panel.act("Start")
        await until(lambda: step(panel) > stopped)
        panel.act("Reset")
        await asyncio.sleep(0.1)
        assert step(panel) == 0 and not panel.running
        assert "Untrained" in panel.figure.layout.title.text
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(lecture())
    assert panel.message == ""


def test_pausing_and_starting_at_once_leaves_one_training(panel):
    async def lecture():
        panel.start()
        panel.pause()
        panel.start()
        await until(lambda: step(panel) >= 4)
        assert panel.running and len(asyncio.all_tasks()) == 2
        panel.pause()

    asyncio.run(lecture())


def test_it_ends_by_itself(panel, monkeypatch):
    monkeypatch.setattr(collapse, "MOST_STEPS", 4)

    async def lecture():
        panel.start()
        await until(lambda: not panel.running)
        await asyncio.sleep(0)

    asyncio.run(lecture())
    assert step(panel) == 4 and "press Reset" in panel.message
    assert "Start" not in panel.numbers.disabled
    panel.guard(lambda: panel.act("Step"))
    assert step(panel) == 4 and "press Reset" in panel.message


def test_an_error_in_the_background_is_shown_and_stops_the_training(panel, monkeypatch):
    def broken(*_):
        raise RuntimeError("the numbers ran out")

    monkeypatch.setattr(panel.training, "train", broken)

    async def lecture():
        panel.start()
        await until(lambda: not panel.running)

    asyncio.run(lecture())
    said = json.loads(panel.answer)
    assert "RuntimeError: the numbers ran out" in said["message"] and said["role"] == "alert"
    assert step(panel) == 0 and "Start" not in panel.numbers.disabled


def test_closing_the_panel_stops_it(panel):
    async def lecture():
        panel.start()
        await until(lambda: step(panel) > 0)
        panel.close()
        stopped = step(panel)
        await asyncio.sleep(0.1)
        assert step(panel) == stopped and asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(lecture())


def test_one_panel_trains_at_a_time(panel):
    other = explore("collapse")

    async def lecture():
        panel.start()
        other.start()
        assert other.running and not panel.running
        anew = explore("collapse")  # as a cell that is run again
        assert not other.running
        anew.close()
        await asyncio.sleep(0)

    asyncio.run(lecture())
    other.close()


@pytest.mark.parametrize("change", [{"alpha": 0.5}, {"beta": 0.0}, {"rate": 0.01}])
def test_a_change_of_weights_or_rate_is_marked(panel, change):
    panel.step()
    panel.set(**change)
    panel.step()
    marks = panel.figure.layout.shapes
    assert len(marks) == 3 and all(mark.x0 == mark.x1 == 2 for mark in marks)


def test_another_shift_follows_another_cosine(panel):
    panel.step()
    panel.set(z=37)
    cosine = next(trace for trace in panel.figure.data if trace.name == "cosine")
    assert list(cosine.y) == pytest.approx([r.cosines[36] for r in panel.training.records])
    answer = panel.explorer.answer(panel.state, panel.numbers, table=True)
    assert "p+37" in answer["words"]
    assert answer["table"]["mean cosine at z=37"] == pytest.approx(list(cosine.y))


def test_another_seed_begins_again_and_another_rate_does_not(panel):
    panel.step()
    panel.set(rate=0.01)
    panel.step()
    fast = panel.training.records[-1]
    assert fast.step == 4 and fast.rate == 0.01
    assert fast.cosines.mean() > trained(0.0, 0.1, 2).records[-1].cosines.mean()
    panel.set(seed=2)
    assert step(panel) == 0 and panel.numbers.now.spread == Training(2).records[0].spread


def test_no_weights_at_all_train_nothing():
    training = trained(0.0, 0.0, 1)
    assert torch.equal(training.similarity, Training().similarity)
