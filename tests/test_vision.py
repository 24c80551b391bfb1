"""Image classification: views in training and in tests, accuracy, training of image recipes."""

import dataclasses
import json
import math
import os
import pickle
import random
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL.Image import Resampling
from torch import nn

from seqpe_lab import training
from seqpe_lab.losses import contrastive_loss, distillation_loss
from seqpe_lab.objective import main_positions
from seqpe_lab.recipes import IMAGE_ABLATIONS, IMAGE_METHODS, SCALES, image_model
from seqpe_lab.runs import Run
from seqpe_lab.runs.run_weights import trained_model
from seqpe_lab.sampling import contrastive_sample, distillation_sample, seeded
from seqpe_lab.tasks import image_views, images, task_of
from seqpe_lab.tasks.base import SPLITS, loading_workers
from seqpe_lab.tasks.image_data import ImageData, Images
from seqpe_lab.tasks.image_views import OBJECT, Views, place_on_canvas, render, zoom
from seqpe_lab.tasks.image_views import (
    test_view as view_of_a_test,  # pytest would take its own name for a test
)
from seqpe_lab.tasks.images import accuracy, some_images
from seqpe_lab.training import Objective, build_model, learning_rate, make_optimizer, train

DEIT = dict(
    augment="deit", mixup=0.8, cutmix=1.0, smoothing=0.1, erasing=0.25, crop=0.2, drop_path=0.2
)


def data_of(augment, digit_images, colours) -> ImageData:
    return colours if augment == "deit" else digit_images


def same(ours, theirs) -> bool:
    return all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(ours, theirs))


# --- what is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ["deit", "zoom", "place"])
def test_a_view_is_a_function_of_seed_and_index(augment, tiny_image_recipe, digit_images, colours):
    """In any order, whatever the global generators did: a resumed run sees the same."""
    recipe, data = (
        tiny_image_recipe(augment=augment, erasing=0.5, crop=0.3),
        data_of(augment, digit_images, colours),
    )
    views = Views(data, recipe)
    ahead = [views[i] for i in range(12)]
    assert all(
        image.shape == (data.channels, 12, 12) and image.dtype == torch.float32
        for image, _ in ahead
    )
    torch.manual_seed(7), random.seed(7), np.random.seed(7)
    again = Views(data, recipe)
    assert same([again[i] for i in reversed(range(12))][::-1], ahead)
    other = Views(data, recipe.changed(seed=1))
    assert not same([other[i] for i in range(12)], ahead)


@pytest.mark.parametrize("augment", ["deit", "zoom", "place"])
def test_each_epoch_shows_every_image_once_in_an_order_and_a_view_of_its_own(
    augment, tiny_image_recipe, digit_images, colours
):
    data = data_of(augment, digit_images, colours)
    few = data.train.select(range(20))
    few.labels = torch.arange(20)  # to tell them apart
    views = Views(
        dataclasses.replace(data, train=few), tiny_image_recipe(augment=augment, crop=0.3)
    )
    epochs = [[views[20 * e + i] for i in range(20)] for e in range(2)]
    orders = [[label for _, label in epoch] for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20)) and orders[0] != orders[1]
    first, second = ({label: image for image, label in epoch} for epoch in epochs)
    assert not any(torch.equal(first[label], second[label]) for label in range(20))


def test_zoom_shows_a_window_of_the_image_rendered_1_to_1_over_sqrt_crop_times_as_large(
    tiny_image_recipe, monkeypatch
):
    recipe, sizes = tiny_image_recipe(augment="zoom", crop=0.25), []
    image, original = (
        torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)),
        image_views.bicubic,
    )
    monkeypatch.setattr(
        image_views, "bicubic", lambda side, size: sizes.append(size) or original(side, size)
    )
    corners = set()
    for i in range(200):
        (seen,) = zoom([image], recipe, [seeded(0, i, stream=4)])
        assert seen.shape == (1, 12, 12)
        large = render(image.unsqueeze(0), sizes[-1])[0]
        windows = large.unfold(1, 12, 1).unfold(2, 12, 1)[0]  # (places down, places right, 12, 12)
        corners |= {
            (sizes[-1], *place)
            for place in ((windows - seen[0]).abs() < 1e-6).all(-1).all(-1).nonzero().tolist()
        }
    assert min(sizes) == 12 and max(sizes) == 24  # 1/sqrt(0.25) = 2
    assert np.mean([144 / s**2 for s in sizes]) == pytest.approx(
        (0.25 + 1) / 2, abs=0.05
    )  # its share of the area is uniform
    for size in set(sizes):
        places = {corner[1:] for corner in corners if corner[0] == size}
        assert all(0 <= place <= size - 12 for corner in places for place in corner)
    assert {0, 1, 2, 3, 4} <= {corner[1] for corner in corners} and {0, 1, 2, 3, 4} <= {
        corner[2] for corner in corners
    }


@pytest.mark.parametrize("shape", [(8, 8), (8, 16)], ids=str)
def test_without_a_crop_zoom_shows_what_a_test_shows(shape, tiny_image_recipe):
    image, recipe = (
        torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)),
        tiny_image_recipe(augment="zoom", crop=1.0),
    )
    torch.testing.assert_close(
        zoom([image], recipe, [seeded(0, 0, 4)])[0], view_of_a_test(image, recipe, 12, 0)
    )


@pytest.mark.parametrize("augment", ["deit", "zoom", "place"])
@pytest.mark.parametrize("source", ["digits", "folder"])  # all of one shape, and not
def test_a_batch_holds_the_views_one_by_one(
    augment, source, tiny_image_recipe, digit_images, colours
):
    data = colours if augment == "deit" or source == "folder" else digit_images
    views = Views(data, tiny_image_recipe(augment=augment, erasing=0.5, crop=0.3))
    some = [0, 3, 1, len(data.train) + 5]  # of two epochs
    batch = views.__getitems__(some)
    assert [label for _, label in batch] == [views[i][1] for i in some]
    torch.testing.assert_close([view for view, _ in batch], [views[i][0] for i in some])


def test_test_crop_keeps_the_middle_of_the_resized_image(tiny_image_recipe):
    """7/8, as the published code: 16 of 18.3 pixels, so one is left out on each side."""
    image = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))
    square = image[None, :, :, 5:25]
    recipe = tiny_image_recipe(test_crop=7 / 8)
    assert torch.equal(view_of_a_test(image, recipe, 16, 0), render(square, 18)[0][:, 1:17, 1:17])
    assert torch.equal(
        view_of_a_test(image, recipe.changed(test_crop=0.5), 10, 0), square[0, :, 5:15, 5:15]
    )
    assert torch.equal(
        view_of_a_test(image, recipe.changed(test_crop=1.0), 16, 0), render(square, 16)[0]
    )
    with pytest.raises(ValueError, match="test_crop=0.5 has no effect with augment='place'"):
        recipe.changed(test_crop=0.5, augment="place")


def test_results_say_that_test_images_were_cropped(tiny_image_recipe, digit_images, tmp_path):
    recipe = tiny_image_recipe("none", test_crop=7 / 8, steps=1, eval_images=5)
    run = train(recipe, tmp_path / "run", data=digit_images, cpu=True)
    assert run.results()["protocol"] == "middle 0.875 of each side, resized"


def test_erased_pixels_are_standard_normal_to_the_model(colours, tiny_image_recipe):
    views = Views(
        colours,
        tiny_image_recipe(
            augment="deit", erasing=0.99, image_size=32, max_position=16, eval_sizes=(32,)
        ),
    )
    assert (
        max(float(views[i][0].abs().max()) for i in range(20)) < 7
    )  # colours end at 2.6, and of 20,000 normal numbers none exceeds 5


@pytest.mark.parametrize("size", [12, 16, 40])
def test_place_keeps_the_object_s_size_on_a_canvas_that_is_empty_elsewhere(size, tiny_image_recipe):
    recipe, image, places = (
        tiny_image_recipe(augment="place"),
        torch.rand(1, 8, 8) * 0.9 + 0.1,
        set(),
    )
    side = round(12 * OBJECT)
    thing = render(image.unsqueeze(0), side)[0, 0]
    assert thing.min() > 0
    for i in range(60):
        canvas = place_on_canvas(image, recipe, size, seeded(0, i, stream=4))[0]
        assert canvas.shape == (size, size)
        top, left = canvas.nonzero().amin(0).tolist()
        assert torch.equal(canvas[top : top + side, left : left + side], thing)
        assert int((canvas != 0).sum()) == side * side
        places.add((top, left))
    reached = torch.tensor(sorted(places))
    assert reached.amin(0).tolist() == [0, 0] or size == 40
    assert (reached <= size - side).all() and reached.amax() >= (size - side) * 0.8


def test_a_test_shows_the_middle_square(tiny_image_recipe):
    image = torch.zeros(1, 6, 10)
    image[:, :, 2:8] = torch.rand(1, 6, 6)
    for augment in ("deit", "zoom"):
        recipe = tiny_image_recipe(augment=augment)
        assert torch.equal(view_of_a_test(image, recipe, 6, 0), image[:, :, 2:8])
        torch.testing.assert_close(
            view_of_a_test(image.transpose(1, 2), recipe, 6, 0), image[:, :, 2:8].transpose(1, 2)
        )
        torch.testing.assert_close(
            view_of_a_test(image, recipe, 12, 0), render(image[None, :, :, 2:8], 12)[0]
        )


def test_a_test_places_an_object_by_the_number_of_its_image_alone(tiny_image_recipe):
    """Every method and every seed is tested on the same canvases."""
    image, recipe = torch.rand(1, 8, 8), tiny_image_recipe(augment="place")
    views = [view_of_a_test(image, recipe, 40, number) for number in range(10)]
    assert all(
        torch.equal(
            view, view_of_a_test(image, tiny_image_recipe("none", seed=5, augment="place"), 40, n)
        )
        for n, view in enumerate(views)
    )
    assert len({view.numpy().tobytes() for view in views}) > 5


# --- mixup --------------------------------------------------------------------------------------


def test_mixup_and_cutmix_are_drawn_from_the_step_and_leave_the_global_generators_alone(
    tiny_image_recipe, colours
):
    recipe = tiny_image_recipe(**DEIT | dict(drop_path=0.0), source="colours")
    model = build_model(recipe, 2).eval()
    batch = torch.rand(8, 3, 12, 12), torch.arange(8) % 2

    def loss(step):
        return (
            task_of(recipe)
            .main_loss(model, [part.clone() for part in batch], seeded(0, step, stream=2))
            .item()
        )

    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    there = [loss(step) for step in range(6)]
    assert [loss(step) for step in range(6)] == there and len(set(there)) == 6
    assert (
        torch.equal(torch.get_rng_state(), states[0])
        and (np.random.get_state()[1] == states[1]).all()
    )


def test_without_mixup_the_loss_is_the_cross_entropy_with_smoothing(tiny_image_recipe):
    recipe = tiny_image_recipe(smoothing=0.2)
    model, (seen, labels) = (
        build_model(recipe, 10).eval(),
        (torch.rand(8, 1, 12, 12), torch.arange(8)),
    )
    target = F.one_hot(labels, 10) * 0.8 + 0.02
    expected = -(target * model(seen).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(
        task_of(recipe).main_loss(model, (seen, labels), seeded(0, 0, 2)), expected
    )


# --- accuracy -----------------------------------------------------------------------------------


class Brightness(nn.Module):
    """Takes the mean grey for the class, with a logit of 3 for it and 0 for the others."""

    def __init__(self):
        super().__init__()
        self.nothing, self.sizes, self.modes = nn.Parameter(torch.zeros(())), [], []

    def forward(self, images, vectors=None):
        self.sizes.append(tuple(images.shape)), self.modes.append(self.training)
        return 3.0 * F.one_hot(images.mean((1, 2, 3)).mul(10).round().long(), 10) + self.nothing


@pytest.fixture
def grey():
    """Grey images: 0.1, 0.2, ... 0.9 are classes 1 to 9, and the last two labels are wrong."""
    files = [np.full((1, 8, 8), round(255 * c / 10), np.uint8) for c in range(1, 10)]
    split = Images(files, torch.tensor([1, 2, 3, 4, 5, 6, 7, 1, 1]), 1)
    return ImageData(
        "grey", "", 1, [str(c) for c in range(10)], split, split, split, "grey", (0.0,), (1.0,)
    )


@pytest.mark.parametrize("at_once", [1, 20, 32_768])
def test_accuracy_counts_what_is_right(at_once, grey, tiny_image_recipe):
    measured = accuracy(
        Brightness(),
        grey.test,
        grey,
        tiny_image_recipe(augment="zoom"),
        16,
        patches_per_pass=at_once,
    )
    right, wrong = math.log(math.e**3 + 9) - 3, math.log(math.e**3 + 9)
    assert (measured.size, measured.images) == (16, 9) and measured.accuracy == pytest.approx(
        100 * 7 / 9
    )
    assert measured.nats == pytest.approx((7 * right + 2 * wrong) / 9, rel=1e-5)


def test_accuracy_shows_images_of_the_size_asked_for_in_evaluation_mode_and_restores_the_mode(
    grey, tiny_image_recipe
):
    model = Brightness().train()
    accuracy(model, grey.test, grey, tiny_image_recipe(augment="zoom"), 16, patches_per_pass=4 * 16)
    assert (
        model.sizes == [(4, 1, 16, 16), (4, 1, 16, 16), (1, 1, 16, 16)]
        and not any(model.modes)
        and model.training
    )
    model.forward = None
    with pytest.raises(TypeError):
        accuracy(model, grey.test, grey, tiny_image_recipe(), 16)
    assert model.training


def lively(recipe, classes=10, gain=20.0):
    """The recipe's model, its weights large enough to matter."""
    model = build_model(recipe, classes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "patch_embed" not in name:
                parameter.mul_(gain)
    return model.eval()


@pytest.mark.parametrize("method", ["seqpe-mul", "seqpe-bias"])
def test_interpolated_positions_are_the_trained_ones_on_the_trained_grid_and_others_beyond(
    method, digit_images, tiny_image_recipe
):
    recipe = tiny_image_recipe(method)
    model, some = lively(recipe), digit_images.test.select(range(12))

    def both(size):
        return [
            accuracy(model, some, digit_images, recipe, size, interpolate=choice).nats
            for choice in (False, True)
        ]

    assert both(12)[0] == pytest.approx(both(12)[1], abs=1e-6)
    assert abs(both(24)[0] - both(24)[1]) > 1e-5


@pytest.mark.parametrize("augment", ["deit", "zoom", "place"])
def test_workers_that_decode_test_images_change_no_number(augment, tiny_image_recipe, colours):
    recipe = tiny_image_recipe("seqpe-mul", augment=augment, source="colours")
    model = lively(recipe, 2)
    alone, helped = (
        accuracy(model, colours.train, colours, recipe, 16, patches_per_pass=5 * 16, workers=w)
        for w in (0, 2)
    )
    assert alone == helped and alone.images == len(colours.train) and 0 < alone.nats


def test_evaluation_loads_images_as_training_does(
    tiny_image_recipe, colours, digit_images, monkeypatch
):
    asked, loader = [], images.DataLoader
    monkeypatch.setattr(
        images,
        "DataLoader",
        lambda data, num_workers, pin_memory, **options: (
            asked.append((num_workers, pin_memory)),
            loader(data, **options),
        )[1],
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    small = tiny_image_recipe("none", augment="deit", source="colours")
    for recipe, workers, data in (
        (small, None, colours),
        (small.changed(scale="full"), None, colours),
        (small.changed(scale="full"), 5, colours),
        (tiny_image_recipe("none").changed(scale="full"), None, digit_images),
    ):
        task = task_of(recipe, workers)
        task.validate(build_model(recipe, len(data.classes)), data)
    assert asked == [(0, False), (3, False), (5, False), (0, False)]


class Read(list):
    """Files that keep which of them were read."""

    def __init__(self, files):
        super().__init__(files)
        self.numbers = []

    def __getitem__(self, index):
        self.numbers.append(index)
        return super().__getitem__(index)


def parts_of(processes):
    """Every process computes its part, one after the other."""
    return lambda function: [function(number, processes) for number in range(processes)]


@pytest.mark.parametrize("processes", [1, 2, 4, 7, 12])
def test_several_processes_share_the_images_and_get_the_numbers_of_one(
    processes, grey, tiny_image_recipe
):
    """Each of the 9 images once, also where their number does not divide by the processes."""
    recipe = tiny_image_recipe(augment="zoom")
    alone = accuracy(Brightness(), grey.test, grey, recipe, 16)
    files = Read(grey.test.files)
    shared = accuracy(
        Brightness(),
        Images(files, grey.test.labels, 1),
        grey,
        recipe,
        16,
        patches_per_pass=20,
        on_all=parts_of(processes),
    )
    assert sorted(files.numbers) == list(range(9))
    assert (shared.accuracy, shared.images) == (alone.accuracy, 9)
    assert shared.nats == pytest.approx(alone.nats, rel=1e-6)


def test_validation_and_test_have_numbers_of_images_of_their_own(tiny_image_recipe, digit_images):
    recipe = tiny_image_recipe("none", eval_images=7, validation_images=5, eval_sizes=(12,))
    files = {split: Read(map(np.array, getattr(digit_images, split).files)) for split in SPLITS}
    data = dataclasses.replace(
        digit_images, **{s: Images(files[s], getattr(digit_images, s).labels, 1) for s in SPLITS}
    )
    model = build_model(recipe, 10)
    task_of(recipe).validate(model, data)
    task_of(recipe).evaluate(model, data)
    assert files["validation"].numbers == [0, 1, 2, 3, 4]
    assert files["test"].numbers == [0, 1, 2, 3, 4, 5, 6]
    files["validation"].numbers.clear()
    task_of(recipe.changed(validation_images=0)).validate(model, data)
    assert files["validation"].numbers == list(range(len(data.validation)))


def test_some_images_of_a_folder_are_of_all_classes(colours, digit_images):
    """A folder's images are sorted by class: the first would be of few classes."""
    assert sorted(some_images(colours.train, 6).labels.tolist()) == [0, 0, 0, 1, 1, 1]
    first = some_images(digit_images.test, 20)
    assert torch.equal(first.labels, digit_images.test.labels[:20])
    for all_of_them in (0, len(colours.train), 10**6):
        assert some_images(colours.train, all_of_them) is colours.train


def test_deit_s_images_stay_pillow_s_until_they_are_ready(tiny_image_recipe, colours, monkeypatch):
    """Decoded once and never turned into a tensor and back, in training and in tests."""
    recipe = tiny_image_recipe("none", **DEIT, source="colours")
    decoded, picture = [], Images.picture
    monkeypatch.setattr(
        Images, "picture", lambda self, index: decoded.append(index) or picture(self, index)
    )
    for name in ("to_pil_image", "pil_to_tensor"):
        monkeypatch.setattr(f"torchvision.transforms.functional.{name}", None)
    monkeypatch.setattr(Images, "__getitem__", None)
    Views(colours, recipe).__getitems__([0, 1, 2])
    assert len(decoded) == 3
    measured = accuracy(build_model(recipe, 2), colours.test, colours, recipe, 12)
    assert measured.images == len(decoded) - 3 == len(colours.test)


def test_deit_s_test_images_are_resized_and_cropped_by_pillow(tiny_image_recipe, colours):
    """The shorter side to 256/224 of the size, by the bicubic filter; then the middle."""
    recipe = tiny_image_recipe("none", **DEIT, test_crop=7 / 8)
    views = image_views.EvaluationViews(colours.test, colours, recipe, 28)
    for index in range(4):
        picture = colours.test.picture(index)
        shorter = min(picture.size)
        sides = [int(32 * side / shorter) for side in picture.size]
        left, top = (round((side - 28) / 2) for side in sides)
        middle = picture.resize(sides, Resampling.BICUBIC).crop((left, top, left + 28, top + 28))
        expected = torch.from_numpy(np.array(middle)).permute(2, 0, 1) / 255
        seen, label = views[index]
        torch.testing.assert_close(seen, colours.normalise(expected))
        assert label == int(colours.test.labels[index])


@pytest.mark.parametrize("augment", ["deit", "zoom", "place"])
def test_an_image_without_pixels_is_refused(augment, tiny_image_recipe, colours):
    recipe = tiny_image_recipe("none", augment=augment, source="colours")
    with pytest.raises(ValueError, match="an image needs at least 1 pixel a side, got 0"):
        accuracy(build_model(recipe, 2), colours.test, colours, recipe, 0)


def test_repeated_augmentation_shows_each_image_three_times_in_a_row(tiny_image_recipe, colours):
    once = Views(colours, tiny_image_recipe("none", **DEIT))
    repeated = Views(colours, tiny_image_recipe("none", **DEIT, repeats=3))
    count = len(colours.train)
    numbers = [repeated._number(i) for i in range(count)]
    assert numbers == [once._number(i // 3) for i in range(count)]
    assert repeated._number(count) == once._number(count)  # the next epoch's order
    views = [view for view, _ in repeated.__getitems__([0, 1, 2])]
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])


# --- the objective ------------------------------------------------------------------------------


def batch_of(recipe, channels=1, classes=10):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(
        recipe.batch, channels, recipe.image_size, recipe.image_size, generator=generator
    ), torch.randint(classes, (recipe.batch,), generator=generator)


def test_eq_15_holds_on_a_grid(tiny_image_recipe):
    """Every part computed once more from its own module, with the positions of (seed, step)."""
    recipe = tiny_image_recipe(alpha=0.3, beta=0.7, shifted=0.5, seed=2)
    model, (seen, labels) = lively(recipe), batch_of(recipe)
    encoder, objective = model.encoding.encoder, Objective(model, recipe)
    for step in range(4):
        losses, generator = objective((seen, labels), step), seeded(recipe.seed, step, stream=2)
        main = F.cross_entropy(model(seen, positions=main_positions(recipe, generator)), labels)
        contrast = contrastive_sample(
            recipe.pivots,
            recipe.candidates,
            recipe.max_position,
            dims=2,
            hard=recipe.hard,
            generator=generator,
        )
        distil = distillation_sample(
            recipe.distillation_batch,
            recipe.teachers,
            (3, 3),
            recipe.max_position,
            dims=2,
            generator=generator,
        )
        l_delta = contrastive_loss(
            encoder(contrast.pivots), encoder(contrast.candidates), contrast.label, contrast.tied
        )
        l_ood = distillation_loss(encoder(distil.teachers), encoder(distil.students), recipe.heads)
        for name, value in {
            "main": main,
            "contrastive": l_delta,
            "distillation": l_ood,
            "loss": main + 0.3 * l_delta + 0.7 * l_ood,
        }.items():
            torch.testing.assert_close(losses[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("unit", ["sequence", "batch"])
def test_appendix_a5_a_share_of_the_images_is_shifted_within_max_position_in_both_dimensions(
    unit, tiny_image_recipe
):
    recipe = tiny_image_recipe(shifted=0.25, shift_unit=unit)
    starts = []
    for step in range(300):
        positions = main_positions(recipe, seeded(0, step, stream=2)).expand(8, 9, 2)
        assert 0 <= int(positions.min()) and int(positions.max()) < recipe.max_position
        place = positions.unflatten(1, (3, 3))
        assert (place[:, 1:, :, 0] - place[:, :-1, :, 0] == 1).all() and (
            place[:, :, 1:, 1] - place[:, :, :-1, 1] == 1
        ).all()  # the grid keeps its shape
        starts.append(positions[:, 0])
    starts = torch.stack(starts)  # (steps, B, 2)
    shifted = (starts > 0).any(-1)
    assert shifted.float().mean() == pytest.approx(0.25, abs=0.06)
    assert (shifted.all(1) | ~shifted.any(1)).all() == (unit == "batch")
    assert (
        set(starts[shifted][:, 0].tolist()) == set(starts[shifted][:, 1].tolist()) == set(range(8))
    )  # 7 + 3 <= 10
    assert (starts[..., 0] != starts[..., 1]).any()


def test_mixed_precision_computes_about_the_same_losses_with_every_encoding(
    image_variant, tiny_image_recipe
):
    """What a GPU does with precision="bf16", on the CPU, forward and backward."""
    encoding, options = image_variant
    recipe = tiny_image_recipe(
        layers=2,  # rnope has one without positions
        encoding=encoding,
        encoding_options=options,
        **({"shifted": 0.5} if encoding == "seqpe" else {"shifted": 0.0}),
    )
    objective, batch = Objective(build_model(recipe, 10), recipe), batch_of(recipe)
    full = objective(batch, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = objective(batch, 0)
    mixed["loss"].backward()
    assert mixed.keys() == full.keys()
    assert all(
        mixed[name].dtype == torch.float32
        and mixed[name].item() == pytest.approx(full[name].item(), rel=0.02, abs=1e-3)
        for name in full
    )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())


def test_the_learning_rate_warms_up_and_follows_a_cosine_to_0(tiny_image_recipe):
    recipe = tiny_image_recipe(steps=10, warmup_steps=4, learning_rate=1.0)
    cosine = [(1 + math.cos(math.pi * i / 6)) / 2 for i in range(7)]
    assert [learning_rate(recipe, s) for s in range(11)] == pytest.approx(
        [1 / 4, 2 / 4, 3 / 4, 1, *cosine], abs=1e-12
    )
    assert learning_rate(recipe, 10) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", ["learned", "rope-mixed", "seqpe-mul", "swin"])
def test_vectors_of_tokens_and_positions_have_no_weight_decay(method, tiny_image_recipe):
    recipe = tiny_image_recipe(method, weight_decay=0.3)
    model = build_model(recipe, 10)
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(model, recipe).param_groups
        for p in group["params"]
    }
    by_name = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert {
        by_name[name]
        for name in by_name
        if name == "vit.cls_token"
        or name in model.no_weight_decay()
        or "encoding.encoder." in name
        or name.endswith("bias")
    } == {0}
    assert (
        by_name["vit.patch_embed.proj.weight"]
        == by_name["vit.blocks.0.attn.qkv.weight"]
        == by_name["vit.head.weight"]
        == 0.3
    )
    assert all(
        by_name[name] == 0.3
        for name in by_name
        if "projections" in name and name.endswith("weight")
    )
    assert set(by_name) & {"encoding.table.weight", "encoding.frequency", "encoding.prefix"} <= {
        name for name in by_name if by_name[name] == 0
    }


# --- a whole run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tiny_image_recipe, digit_images, tmp_path_factory) -> Run:
    """A finished run of 6 steps with checkpoints at 3 and 6; tests work on copies."""
    recipe = tiny_image_recipe(shifted=0.5, drop_path=0.2, layers=2)
    return train(recipe, tmp_path_factory.mktemp("finished") / "run", data=digit_images, cpu=True)


def interrupted(run: Run, at: int, folder) -> Run:
    """A copy of a finished run as if it had been killed after the checkpoint of step ``at``."""
    shutil.copytree(run.folder, folder)
    (folder / "results.json").unlink()
    for path in Run.open(folder).checkpoints():
        if int(path.name.removeprefix("step-")) > at:
            shutil.rmtree(path)
    return Run.open(folder)


def test_a_run_logs_every_step_and_writes_results_with_their_provenance(finished, digit_images):
    assert [r["step"] for r in finished.metrics()] == [1, 2, 3, 4, 5, 6]
    assert all(
        r.keys()
        >= {"loss", "main", "contrastive", "distillation", "learning_rate", "gradient_norm"}
        for r in finished.metrics()
    )
    assert finished.metrics()[0]["main"] == pytest.approx(math.log(10), abs=0.1)
    results = finished.results()
    assert (
        results["data"] == digit_images.provenance()
        and results["recipe"] == finished.recipe.digest()
    )
    assert (results["protocol"], results["split"], results["images"]) == (
        "whole image, resized",
        "test",
        20,
    )
    assert list(results["accuracy"]) == list(results["interpolated"]) == ["12", "16"] and all(
        0 <= a <= 100 for a in results["accuracy"].values()
    )
    assert (
        results["accuracy"]["12"] == results["interpolated"]["12"]
    )  # on the trained grid nothing is interpolated
    assert {"versions", "device", "commit", "time", "parameters"} <= results.keys()
    json.dumps(results)


def test_the_stored_numbers_are_those_of_the_stored_weights(finished, digit_images):
    again = training.evaluate(finished, trained_model(finished, digit_images), digit_images)
    assert (
        again["accuracy"] == finished.results()["accuracy"]
        and again["interpolated"] == finished.results()["interpolated"]
    )
    model = build_model(finished.recipe, 10)
    for path in finished.checkpoints():
        weights, _, state = finished.load_checkpoint(path)
        model.load_state_dict(weights)
        assert task_of(finished.recipe).validate(model, digit_images) == pytest.approx(
            state["validation"], abs=1e-5
        )


def test_a_resumed_run_equals_an_unbroken_one(finished, digit_images, tmp_path):
    """To the last bit, stochastic depth included."""
    run = interrupted(finished, 3, tmp_path / "run")
    train(run.recipe, run.folder, data=digit_images, cpu=True)
    assert run.metrics() == finished.metrics()
    assert all(torch.equal(v, finished.model_weights()[k]) for k, v in run.model_weights().items())
    assert run.results()["accuracy"] == finished.results()["accuracy"]


@pytest.mark.parametrize("at, every", [(2, 2), (3, 1)], ids=["in the middle", "one step to go"])
def test_a_resumed_run_with_all_of_deit_s_chance_equals_an_unbroken_one(
    at, every, tiny_image_recipe, colours, tmp_path
):
    """Crops, RandAugment, erasing, mixup, cutmix and stochastic depth."""
    recipe = tiny_image_recipe(
        **DEIT | dict(drop_path=0.5), layers=2, source="colours", steps=4, checkpoint_every=every
    )
    unbroken = train(recipe, tmp_path / "unbroken", data=colours, cpu=True)
    run = interrupted(unbroken, at, tmp_path / "run")
    train(recipe, run.folder, data=colours, cpu=True)
    assert run.metrics() == unbroken.metrics()


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_decode_images_change_no_number(workers, tiny_image_recipe, colours, tmp_path):
    """To the last bit, in the middle of a run too; workers seed nothing of their own."""
    recipe = tiny_image_recipe(
        **DEIT | dict(drop_path=0.5),
        layers=2,
        source="colours",
        steps=4,
        checkpoint_every=2,
        micro_batch=4,
    )
    alone = train(recipe, tmp_path / "alone", data=colours, cpu=True)
    run = interrupted(
        train(recipe, tmp_path / "helped", data=colours, cpu=True, workers=workers),
        2,
        tmp_path / "resumed",
    )
    assert Run.open(tmp_path / "helped").metrics() == alone.metrics()
    train(recipe, run.folder, data=colours, cpu=True, workers=workers)
    assert run.metrics() == alone.metrics()


def test_images_are_decoded_by_workers_at_medium_and_full_scale_alone(
    colours, digit_images, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert [loading_workers(image_model(scale=scale), colours) for scale in SCALES] == [0, 0, 8, 8]
    assert loading_workers(image_model(scale="full"), digit_images) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loading_workers(image_model(scale="full"), colours) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert loading_workers(image_model(scale="full"), colours) == 1


@pytest.mark.parametrize("method", [*IMAGE_METHODS, *IMAGE_ABLATIONS])
def test_every_method_trains(method, tiny_image_recipe, digit_images, tmp_path):
    run = train(
        tiny_image_recipe(method, steps=2, augment="place"),
        tmp_path / "run",
        data=digit_images,
        cpu=True,
    )
    assert run.state == "finished" and all(math.isfinite(r["loss"]) for r in run.metrics())
    assert run.results()["protocol"] == "object at its trained size on a larger canvas" and (
        "interpolated" in run.results()
    ) == ("seqpe" in method)


@pytest.mark.parametrize(
    "overrides",
    [
        {"as_published": True},
        {
            "encoding_options": {
                "integration": "mul",
                "shared_projection": False,
                "digits": 2,
                "shared_places": False,
            }
        },
        {"encoding_options": {"digits": 2, "causal": False}},
        {"encoding_options": {"digits": 4, "base": 2, "architecture": "gru"}},
    ],
    ids=["as published", "places of their own", "both ways", "binary gru"],
)
def test_every_option_of_seqpe_trains(overrides, tiny_image_recipe, digit_images, tmp_path):
    run = train(
        tiny_image_recipe(**{"shifted": 0.5} | overrides, steps=2),
        tmp_path / "run",
        data=digit_images,
        cpu=True,
    )
    assert run.state == "finished" and all(math.isfinite(r["loss"]) for r in run.metrics())


def test_a_model_learns_the_digits(tiny_image_recipe, digit_images, tmp_path):
    recipe = tiny_image_recipe(
        d_model=32,
        image_size=8,
        eval_sizes=(8,),
        steps=60,
        batch=32,
        micro_batch=32,
        learning_rate=1e-2,
        crop=1.0,
        log_every=10,
        checkpoint_every=60,
        eval_images=200,
    )
    run = train(recipe, tmp_path / "run", data=digit_images, cpu=True)
    assert (
        run.metrics()[-1]["main"] < 1.4 and run.results()["accuracy"]["8"] > 40
    )  # chance: 2.3 and 10 %


@pytest.mark.parametrize("method", ["seqpe-mul", "rope-axial"])
def test_accumulation_changes_no_loss(method, tiny_image_recipe, digit_images, tmp_path):
    whole, split = (
        train(
            tiny_image_recipe(
                method, **({"shifted": 0.5} if "seqpe" in method else {}), micro_batch=m
            ),
            tmp_path / str(m),
            data=digit_images,
            cpu=True,
        )
        for m in (8, 4)
    )
    for ours, theirs in zip(split.metrics(), whole.metrics()):
        assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-5)


def test_five_thousand_augmented_views_are_drawn(tiny_image_recipe, colours):
    """RandAugment's largest strengths too, which ask Pillow to keep 0 bits of each colour."""
    recipe = tiny_image_recipe(augment="deit", erasing=0.25, crop=0.2)
    views = Views(colours, recipe)
    [posterize] = [
        operation
        for step in views.transform.transforms
        for operation in getattr(step, "ops", [])
        if "Posterize" in operation.name
    ]
    assert {posterize.level_fn(level, {})[0] for level in range(11)} == {1, 2, 3, 4}
    pickle.dumps(views.transform)  # for the processes that prepare data where they are spawned
    for begin in range(0, 5_000, 100):
        seen = views.__getitems__(range(begin, begin + 100))
        assert all(image.isfinite().all() for image, _ in seen)


def test_grey_images_are_refused_for_deit_before_the_first_step(
    tiny_image_recipe, digit_images, tmp_path
):
    with pytest.raises(
        ValueError, match="augment='deit' needs colour images(.|\n)*use augment='zoom' or 'place'"
    ):
        train(tiny_image_recipe(**DEIT), tmp_path / "run", data=digit_images, cpu=True)
    assert Run(tiny_image_recipe(**DEIT), tmp_path / "run").metrics() == []


def test_colour_images_train_under_every_augmentation(
    tiny_image_recipe, colours, colour_folder, tmp_path
):
    """Wide and tall images, decoded from files."""
    for augment in ("deit", "zoom", "place"):
        run = train(
            tiny_image_recipe(augment=augment, steps=1, source=str(colour_folder)),
            tmp_path / augment,
            data=colours,
            cpu=True,
        )
        assert run.state == "finished" and run.results()["data"]["images"] == {
            split: len(getattr(colours, split)) for split in SPLITS
        }
