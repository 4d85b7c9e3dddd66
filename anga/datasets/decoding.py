"""From the bytes of a picture file to what the store keeps: whole, upright, RGB, and no larger than models need."""

import io

import numpy as np
from PIL import Image, ImageOps

SHORT_SIDE = 384  # pixels: the largest input of the models here is 384 x 384 (ViLT-B/32)
KEPT_AS_THEY_ARE = ("JPEG", "PNG")
ORIENTATION = 0x0112  # EXIF tag


def to_stored(data: bytes) -> bytes:
    """An encoded RGB picture whose shorter side has at most 384 pixels, ratio kept.

    Small RGB pictures stay as they are, byte by byte; others become JPEG of quality 95 with full chroma. The whole
    file is decoded in either case, so that damage shows now.

    Raises:
        Exception: whatever Pillow raises for a file that is truncated, damaged or no picture.
    """
    if not data:
        raise ValueError("empty file")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if _fits(image):
            return data
        picture = shrunk(to_rgb(ImageOps.exif_transpose(image)))
    out = io.BytesIO()
    picture.save(out, "jpeg", quality=95, subsampling=0)
    return out.getvalue()


def _fits(image: Image.Image) -> bool:
    """Whether the file can be kept as it is: small, RGB, opaque and upright."""
    upright = image.getexif().get(ORIENTATION, 1) == 1
    plain = image.format in KEPT_AS_THEY_ARE and image.mode == "RGB" and "transparency" not in image.info
    return plain and upright and min(image.size) <= SHORT_SIDE


def shrunk(image: Image.Image) -> Image.Image:
    """The picture with its shorter side at 384 pixels if it was longer."""
    ratio = SHORT_SIDE / min(image.size)
    if ratio >= 1:
        return image
    size = tuple(max(SHORT_SIDE, round(side * ratio)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB from any mode: palettes looked up, transparent areas on white, 16 bits scaled to 8."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_deep_grey(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """8-bit grey from 16-bit integers (Pillow itself would clip them to white) or from floats."""
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16") or values.max(initial=0) > 255:
        values = values / 257  # 65535 -> 255
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
