"""Augmentation: what it does to a picture, and that it depends on seed, epoch and row alone."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.catalog.spec import Preprocessing
from zoo.data import augment, loading
from zoo.data.augment import OPERATIONS, USUAL, WIDE, Policy, augmented, parse
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.errors import UsageError


def noise(width: int = 56, height: int = 42, mode: str = "RGB") -> Image.Image:
    """A smooth random picture."""
    shape = (7, 9, 3) if mode == "RGB" else (7, 9)
    small = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "policy"),
        [("crop", Policy(crop=0.08)), ("crop-0.5, flip", Policy(crop=0.5, flip=True)), ("shift", Policy(shift=True)),
         ("trivial,flip", Policy(flip=True, trivial=True)), ("rand", Policy(rand=(3.0, 2))),
         ("rand-m9-n3", Policy(rand=(9.0, 3))), ("rand-n1", Policy(rand=(3.0, 1))), ("crop-1", Policy(crop=1.0))],
    )  # fmt: skip
    def test_parts(self, text: str, policy: Policy) -> None:
        assert parse(text) == policy

    def test_near_ones_are_named(self) -> None:
        with pytest.raises(UsageError, match="trivail") as caught:
            parse("crop,trivail")
        assert "trivial" in caught.value.hint

    @pytest.mark.parametrize(
        "text",
        ["", "crop,crop", "crop-2", "crop-0", "crop-x", "flip-0.5", "rand-m11", "rand-q3", "rand-m1-m2", "rand-n0"],
    )
    def test_impossible(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse(text)


class TestOperations:
    """Against torchvision's own operations."""

    NAMES = {
        "shear_x": "ShearX", "shear_y": "ShearY", "shift_x": "TranslateX", "shift_y": "TranslateY", "rotate": "Rotate",
        "brightness": "Brightness", "color": "Color", "contrast": "Contrast", "sharpness": "Sharpness",
        "posterize": "Posterize", "solarize": "Solarize", "autocontrast": "AutoContrast", "equalize": "Equalize",
        "identity": "Identity",
    }  # fmt: skip

    def magnitude(self, name: str, s: float, space: augment.Space, picture: Image.Image) -> float:
        """In torchvision's units."""
        if name.startswith("shear"):
            return s * space.shear
        if name.startswith("shift"):
            return round(s * space.shift * (picture.width if name.endswith("x") else picture.height))
        if name == "posterize":
            return 8 - round(s * space.bits)
        return {"rotate": s * space.rotate, "solarize": 1 - s}.get(name, s * space.enhance)

    @pytest.mark.parametrize("name", OPERATIONS)
    @pytest.mark.parametrize("space", [WIDE, USUAL], ids=["wide", "usual"])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_pixels(self, name: str, space: augment.Space, mode: str) -> None:
        from torchvision.transforms import InterpolationMode, v2

        theirs = v2.TrivialAugmentWide()
        given = noise(mode=mode)
        seen = set()
        for s in (0.0, 0.3, 0.8, 1.0):
            for seed in range(4):
                draw = random.Random(seed)
                ours = augment.apply(name, given, s, draw, space)
                sign = 1 if random.Random(seed).random() < 0.5 else -1
                seen.add(sign)
                magnitude = self.magnitude(name, s, space, given)
                expected = theirs._apply_image_or_video_transform(
                    given,
                    self.NAMES[name],
                    magnitude if name in ("posterize", "solarize") else sign * magnitude,
                    interpolation=InterpolationMode.BILINEAR,
                    fill={Image.Image: None},
                )
                difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(expected, dtype=int))
                assert difference.max() <= 1  # a shear by a tangent goes through an angle there
                assert difference.mean() < 0.01
        assert seen == {1, -1}

    def test_all_of_torchvisions(self) -> None:
        from torchvision.transforms import v2

        assert sorted(self.NAMES) == sorted(OPERATIONS)
        assert set(self.NAMES.values()) == set(v2.TrivialAugmentWide()._AUGMENTATION_SPACE)


class TestPolicy:
    def test_crops_are_of_the_area_and_ratio_asked_for(self) -> None:
        draw = random.Random(0)
        sizes = [Policy(crop=0.25)(noise(200, 150), draw).size for _ in range(300)]
        areas = np.array([w * h / 30000 for w, h in sizes])
        ratios = np.array([w / h for w, h in sizes])
        assert 0.24 <= areas.min() < 0.3
        assert 0.9 < areas.max() <= 1.0
        assert 0.74 <= ratios.min() < 0.8
        assert 1.25 < ratios.max() <= 1.34

    def test_a_strip_is_cropped_to_what_it_has(self) -> None:
        assert Policy(crop=0.9)(noise(300, 10), random.Random(0)).size == (13, 10)

    def test_shift_moves_and_black_enters(self) -> None:
        white = Image.new("L", (32, 24), 255)
        seen = {np.asarray(Policy(shift=True)(white, random.Random(i))).mean().round() for i in range(40)}
        assert len(seen) > 10
        assert all(Policy(shift=True)(white, random.Random(i)).size == (32, 24) for i in range(5))
        least = min(np.asarray(Policy(shift=True)(white, random.Random(i))).mean() for i in range(200))
        assert least >= 255 * (28 / 32) * (21 / 24) - 1

    @pytest.mark.parametrize("text", ["crop", "crop-0.5,flip", "shift,flip", "crop,shift,flip,trivial"])
    def test_the_size_it_was_decoded_at_changes_no_view(self, text: str) -> None:
        """Half as large gives the same view at half the size, and leaves the generator where it was."""
        policy = parse(text)
        small = noise(600, 450)
        large = small.resize((1200, 900), Image.Resampling.NEAREST)
        for seed in range(40):
            draws = random.Random(seed), random.Random(seed)
            views = [policy(picture, draw) for picture, draw in zip((small, large), draws, strict=True)]
            assert draws[0].getstate() == draws[1].getstate()
            assert max(abs(2 * a - b) for a, b in zip(views[0].size, views[1].size, strict=True)) <= 1
            seen = [np.asarray(view.resize((24, 24), Image.Resampling.BOX), dtype=int) for view in views]
            assert np.abs(seen[0] - seen[1]).mean() < 4

    def test_all_of_a_picture_is_cropped_evenly(self) -> None:
        """The centres of the boxes lie around the centre, and boxes touch every side."""
        boxes = np.array([augment._crop_box((200, 150), 0.08, random.Random(seed)) for seed in range(2000)])
        assert boxes.min(axis=0).tolist()[:2] == [0, 0]
        assert boxes.max(axis=0).tolist()[2:] == [200, 150]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        np.testing.assert_allclose(centres.mean(axis=0), [100, 75], atol=2)

    def test_flip_is_an_even_chance(self) -> None:
        given = noise()
        mirrored = np.asarray(given)[:, ::-1]
        draw = random.Random(0)
        results = [np.asarray(Policy(flip=True)(given, draw)) for _ in range(200)]
        flipped = sum(np.array_equal(one, mirrored) for one in results)
        assert 70 < flipped < 130
        assert all(np.array_equal(one, mirrored) or np.array_equal(one, np.asarray(given)) for one in results)

    def test_every_operation_is_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn = []
        monkeypatch.setattr(
            augment, "apply", lambda name, image, s, draw, space: drawn.append((name, s, space)) or image
        )
        draw = random.Random(0)
        for _ in range(400):
            Policy(trivial=True)(noise(), draw)
        assert {name for name, _, _ in drawn} == set(OPERATIONS)
        assert {round(30 * s) for _, s, _ in drawn} == set(range(31))
        assert {space for _, _, space in drawn} == {WIDE}
        drawn.clear()
        Policy(rand=(4.0, 3))(noise(), draw)
        assert [(s, space) for _, s, space in drawn] == [(0.4, USUAL)] * 3


def pictures(rows: int = 12, shape: tuple[int, ...] = (20, 20, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, *shape), dtype=np.uint8)


def read_all(split, workers: int | None = None, batch_size: int = 5) -> torch.Tensor:
    read = reader(Preprocessing(input_size=(3, 16, 16)), 3)
    found = loading.batches(split, read, batch_size, workers=workers)
    return torch.cat([batch.x for batch in found])


class TestPure:
    split = open_data((pictures(), np.arange(12) % 2)).train

    def test_neither_threads_nor_batches_matter(self) -> None:
        policy = parse("crop,flip,trivial")
        expected = read_all(augmented(self.split, policy, 3, 2), workers=0)
        torch.manual_seed(9), random.seed(9), np.random.seed(9)
        for workers, size in ((1, 5), (4, 5), (4, 12), (3, 1)):
            assert torch.equal(read_all(augmented(self.split, policy, 3, 2), workers, size), expected)

    def test_nobody_elses_random_numbers_are_touched(self) -> None:
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        read_all(augmented(self.split, parse("crop,flip,trivial,rand"), 3, 2), workers=2)
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tolist() == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])

    def test_each_row_epoch_and_seed_draws_its_own(self) -> None:
        same = open_data((np.repeat(pictures(1), 12, axis=0), np.arange(12) % 2)).train
        policy = parse("crop")
        found = [read_all(augmented(same, policy, *key)) for key in ((0, 0), (0, 1), (1, 0))]
        everything = torch.cat(found)
        assert len(torch.unique(everything.flatten(1), dim=0)) == 36

    def test_the_epoch_can_be_begun_anywhere(self) -> None:
        batches = loading.batches(
            augmented(self.split, parse("crop,trivial"), 1, 4), reader(Preprocessing(input_size=(3, 16, 16)), 3), 4,
            shuffle_seed=7,
        )  # fmt: skip
        whole = list(batches)
        for one, other in zip(whole[1:], batches.starting_at(1), strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.index, other.index)

    def test_networks_of_two_sizes_see_the_same_view(self, tmp_path: Path) -> None:
        """A JPEG is decoded at a quarter for the one, whole for the other."""
        noise(1602, 1206).save(tmp_path / "a.jpg", quality=95)
        split = open_data(tmp_path, labelled=False).held_out
        assert split.raw(0, 32).size != split.raw(0, 700).size
        for epoch in range(12):
            views = [augmented(split, parse("crop-0.6,flip,shift"), 0, epoch).raw(0, side) for side in (32, 700)]
            assert views[0].size != views[1].size
            seen = [np.asarray(view.resize((16, 16), Image.Resampling.BOX), dtype=int) for view in views]
            assert np.abs(seen[0] - seen[1]).mean() < 4

    def test_files_are_decoded_large_enough(self, tmp_path: Path) -> None:
        """A crop of 8 % of the area needs more pixels than the network's input has."""
        Image.fromarray(pictures(1, (1200, 1200, 3))[0]).resize((1600, 1600)).save(tmp_path / "a.jpg", quality=95)
        split = open_data(tmp_path, labelled=False).held_out
        asked = []
        raw = split.samples.raw
        split.samples.raw = lambda row, shorter=None: asked.append(shorter) or raw(row, shorter)
        augmented(split, parse("crop"), 0, 0).raw(0, 32)
        augmented(split, parse("flip"), 0, 0).raw(0, 32)
        assert asked == [114, 32]

    @pytest.mark.parametrize("shape", [(20, 20), (20, 20, 1), (20, 20, 3)])
    def test_raw_arrays(self, shape: tuple[int, ...]) -> None:
        split = open_data((pictures(4, shape), np.arange(4) % 2)).train
        assert read_all(augmented(split, parse("crop,trivial"), 0, 0)).shape == (4, 3, 16, 16)

    @pytest.mark.parametrize(
        "x", [np.zeros((4, 3, 8, 8), np.float32), pictures(4, (8, 8, 5))], ids=["float", "5 bands"]
    )
    def test_what_is_no_picture(self, x: np.ndarray) -> None:
        split = open_data((x, np.arange(4) % 2)).train
        with pytest.raises(UsageError, match="no picture"):
            read_all(augmented(split, parse("flip"), 0, 0))


def test_what_a_crop_left_is_all_seen() -> None:
    """The network's own resize and centre crop would cut it again."""
    policy = parse("crop")
    plain = Preprocessing(input_size=(3, 16, 16), crop_pct=0.5)
    assert policy.seen_by(plain) == Preprocessing(input_size=(3, 16, 16), crop_pct=1.0, crop_mode="squash")
    assert parse("flip").seen_by(plain) == plain
    assert policy.seen_by(None) is None
