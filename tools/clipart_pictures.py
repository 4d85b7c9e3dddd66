"""Turn the package's rendered PNG files into small square WebP pictures, and compare pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

SIDE = 128  # pixels
MARGIN = 0.04  # of the longer side, left around the drawing
QUALITY = 92  # WebP, lossy
THUMB = 16  # pixels, for comparing pictures


def load_picture(png: Path) -> Image.Image | None:
    """[SIDE, SIDE] RGB on white: blank margins trimmed, aspect kept, padded to a square. None if nothing shows."""
    Image.MAX_IMAGE_PIXELS = None  # posters in a trusted package
    rgba = Image.open(png).convert("RGBA")
    rgba.thumbnail((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
    page = Image.new("RGBA", rgba.size, "white")
    drawing = Image.alpha_composite(page, rgba).convert("RGB")
    ink = ImageChops.invert(drawing).convert("L").point(lambda value: 255 if value > 8 else 0)
    if ink.getbbox() is None:
        return None
    return _square(drawing.crop(ink.getbbox()))


def _square(drawing: Image.Image) -> Image.Image:
    inner = round(SIDE * (1 - 2 * MARGIN))
    scale = inner / max(drawing.size)
    size = tuple(max(1, round(edge * scale)) for edge in drawing.size)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    square.paste(drawing.resize(size, Image.Resampling.LANCZOS), corner)
    return square


def encode(picture: Image.Image) -> bytes:
    """WebP bytes; the same Pillow version gives the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def ink_vectors(pictures: list[Image.Image]) -> np.ndarray:
    """[N, 3 * THUMB**2] float32 unit vectors of (white - colour): their dot product compares what is drawn."""
    thumbs = [np.asarray(p.resize((THUMB, THUMB), Image.Resampling.BOX), np.float32).ravel() for p in pictures]
    ink = 255.0 - np.stack(thumbs)
    return ink / np.maximum(np.linalg.norm(ink, axis=1, keepdims=True), 1e-6)
