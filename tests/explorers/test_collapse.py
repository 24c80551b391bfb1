"""The collapse explorer: what the losses do to the space; training in the background stops."""

import asyncio
import re

import pytest
import torch

from seqpe_lab import geometry
from seqpe_lab.explorers import collapse_panel as collapse
from seqpe_lab.explorers import collapse_training
from seqpe_lab.explorers.collapse_training import CANDIDATES, POSITIONS, STEPS_AT_A_TIME, Training


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(collapse, "PAUSE", 0.0)


@pytest.fixture
def panel():
    result = collapse.explore()
    yield result
    result.close()


def told(panel) -> str:
    return re.sub("<[^>]*>", "", panel._message.value)


def buttons(panel) -> dict:
    return {button.description: button for button in panel.buttons.children}


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
        after.spread < collapse.COLLAPSED < before.spread
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
    assert (
        step(panel) == 0
        and not panel.running
        and "Untrained" in panel.figure.layout.title.text.replace(" <br>", " ")
        and "α = 0, β = 0.1" in panel.figure.layout.title.text.replace(" <br>", " ")
    )
    assert panel.figure.data[0].z.shape == (200, 200) and panel.figure.data[0].z[
        3, 5
    ] == pytest.approx(panel.training.similarity[9, 15].item())


def test_a_piece_trains_and_draws_without_an_event_loop(panel):
    panel.step()
    buttons(panel)["Step"].click()
    assert step(panel) == 2 * STEPS_AT_A_TIME and panel.figure.layout.title.text.replace(
        " <br>", " "
    ).startswith("Step 4, α = 0, β = 0.1")
    rank = next(
        trace for trace in panel.figure.data if trace.hovertemplate.startswith("effective rank")
    )
    assert list(rank.x) == [0, 2, 4] and list(rank.y) == [
        record.effective_rank for record in panel.training.records
    ]


def test_start_without_an_event_loop_says_what_to_do(panel):
    buttons(panel)["Start"].click()
    assert "no event loop" in told(panel) and "press Step" in told(panel) and not panel.running


def test_start_pause_and_reset_while_everything_else_goes_on(panel):
    async def lecture():
        button = buttons(panel)
        assert button["Pause"].disabled and not button["Start"].disabled
        button["Start"].click()
        assert (
            panel.running
            and button["Start"].disabled
            and button["Step"].disabled
            and not button["Pause"].disabled
        )
        answered = 0
        while step(panel) < 6:  # someone else has a turn between the pieces
            await asyncio.sleep(0)
            answered += 1
        assert answered >= 3
        panel.controls["alpha"].value = 0.3
        await until(lambda: panel.training.records[-1].alpha == 0.3)
        assert {record.alpha for record in panel.training.records} == {0.0, 0.3}
        button["Pause"].click()
        stopped = step(panel)
        await asyncio.sleep(0.1)
        assert step(panel) == stopped and not panel.running and button["Pause"].disabled
        button["Start"].click()
        await until(lambda: step(panel) > stopped)
        button["Reset"].click()
        await asyncio.sleep(0.1)
        assert (
            step(panel) == 0
            and not panel.running
            and "Untrained" in panel.figure.layout.title.text.replace(" <br>", " ")
        )
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(lecture())
    assert told(panel) == ""


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

    asyncio.run(lecture())
    assert (
        step(panel) == 4 and "press Reset" in told(panel) and not buttons(panel)["Start"].disabled
    )


def test_an_error_in_the_background_is_shown_and_stops_the_training(panel, monkeypatch):
    def broken(*_):
        raise RuntimeError("the numbers ran out")

    monkeypatch.setattr(panel.training, "train", broken)

    async def lecture():
        panel.start()
        await until(lambda: not panel.running)

    asyncio.run(lecture())
    assert (
        "RuntimeError: the numbers ran out" in told(panel)
        and 'role="alert"' in panel._message.value
        and step(panel) == 0
    )
    assert not buttons(panel)["Start"].disabled


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
    other = collapse.explore()

    async def lecture():
        panel.start()
        other.start()
        assert other.running and not panel.running
        anew = collapse.explore()  # as a cell that is run again
        assert not other.running
        anew.close()
        await asyncio.sleep(0)

    asyncio.run(lecture())
    other.close()


def test_a_change_of_weights_is_marked(panel):
    panel.step()
    with panel.at_once():
        panel.controls["alpha"].value = 0.5
    panel.step()
    marks = [
        trace for trace in panel.figure.data if trace.hovertemplate.startswith("weights changed")
    ]
    assert len(marks) == 3 and all(list(mark.x) == [2, 2, None] for mark in marks)


def test_another_shift_follows_another_cosine(panel):
    panel.step()
    panel.controls["z"].value = 37
    cosine = next(trace for trace in panel.figure.data if trace.hovertemplate.startswith("cosine"))
    assert (
        list(cosine.y) == [record.cosines[36] for record in panel.training.records]
        and "p+37" in panel._words.value
    )
    assert panel.table(panel.numbers)["mean cosine at z=37"] == pytest.approx(list(cosine.y))


def test_no_weights_at_all_train_nothing():
    training = trained(0.0, 0.0, 1)
    assert torch.equal(training.similarity, Training().similarity)
