"""Decoding: whatever people have as a picture file becomes RGB, upright and small, or gets a cause of failure."""

import io

import numpy as np
import pytest
from drawings import JPEG_FORMS, PNG_FORMS, Drawings, encoded, looks_of, noise
from memory_pictures import Memory
from PIL import Image

from anga.datasets.decoding import SHORT_SIDE, to_rgb, to_stored
from anga.datasets.pictures import decode


@pytest.fixture(scope="module")
def drawing():
    return Drawings("folders").take("train")[2]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("form", [*PNG_FORMS, *JPEG_FORMS])
def test_whatever_the_mode_the_stored_picture_shows_the_same_in_rgb(tmp_path, drawing, form):
    path = tmp_path / ("a.png" if form in PNG_FORMS else "a.jpg")
    expected = form(drawing, path)
    stored = opened(to_stored(path.read_bytes()))
    assert stored.mode == "RGB" and stored.size == drawing.size
    np.testing.assert_allclose(looks_of(stored), expected, atol=4)


def test_palettes_with_a_transparent_colour_show_white_there():
    picture = Image.new("P", (20, 20), 0)
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(1, (0, 0, 10, 20))
    file = io.BytesIO()
    picture.save(file, "png", transparency=0)
    shown = np.asarray(to_rgb(opened(file.getvalue())))
    assert (shown[:, :10] == (0, 0, 200)).all() and (shown[:, 10:] == 255).all()


def test_half_opaque_pixels_are_half_white():
    shown = np.asarray(to_rgb(Image.new("RGBA", (4, 4), (0, 0, 0, 128))))
    assert (abs(shown.astype(int) - 127) <= 1).all()


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "L", "1"])
def test_white_and_black_stay_what_they_are_at_any_depth(mode):
    white = {"I;16": 65535, "I": 65535, "F": 255.0, "L": 255, "1": 1}[mode]
    for value, expected in ((white, 255), (0, 0)):
        assert (np.asarray(to_rgb(Image.new(mode, (3, 3), value))) == expected).all()


def test_sixteen_bits_keep_their_order_instead_of_being_clipped():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    grey = np.asarray(to_rgb(Image.fromarray(values)))[..., 0].ravel()
    np.testing.assert_allclose(grey, np.linspace(0, 255, 64), atol=1)


@pytest.mark.parametrize(("width", "height"), [(800, 600), (600, 800), (385, 384), (1200, 400), (384, 384), (30, 900)])
def test_the_shorter_side_ends_at_384_and_the_ratio_stays(width, height):
    size = opened(to_stored(encoded(Image.new("RGB", (width, height), "red"), "bmp"))).size
    assert min(size) == min(width, height, SHORT_SIDE)
    assert size[0] / size[1] == pytest.approx(width / height, rel=0.5 / SHORT_SIDE + 1e-9)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_small_rgb_files_are_kept_byte_by_byte(kind):
    data = encoded(noise(50, 40), kind)
    assert to_stored(data) == data


def test_a_picture_on_its_side_is_stored_upright():
    picture, exif = Image.new("RGB", (20, 10), "red"), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees for display
    file = io.BytesIO()
    picture.save(file, "jpeg", exif=exif)
    stored = opened(to_stored(file.getvalue()))
    assert stored.size == (10, 20) and stored.getexif().get(0x0112, 1) == 1


def test_recoding_costs_little(drawing):
    picture = drawing.resize((384, 480), Image.Resampling.BICUBIC)
    stored = np.asarray(opened(to_stored(encoded(picture, "bmp"))), float)
    assert abs(stored - np.asarray(picture)).mean() < 1.5


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_files_cut_short_are_named_with_a_cause(kind, part):
    data = encoded(noise(60, 60), kind)
    entry, stored = decode(Memory("a", data[: int(len(data) * part)]))
    assert entry.error and stored == b"" and "0x" not in entry.error and len(entry.error) <= 80


@pytest.mark.parametrize("data", [b"", b"hello", b"<html></html>", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_picture_is_named_with_a_cause(data):
    entry, stored = decode(Memory("a", data))
    assert entry.error and stored == b""
