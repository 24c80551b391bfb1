"""Encoded images to pixels, and the check of all of them before a run."""
from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm.auto import tqdm

from seqpe_lab.atomic_files import stamp, write_atomically
from seqpe_lab.devices import cores_per_process
from seqpe_lab.hub import cache_folder

MOST_PIXELS = 80_000_000  # of an image; from 89 million on Pillow warns of decompression bombs
AT_ONCE = 256  # images that are checked at a time
Encoded = bytes | str | Path


def decode(item: Encoded | None, channels: int, name: object) -> Image.Image:
    """An encoded image as a viewer would show it, grey ("L", 1 channel) or "RGB".

    * It is turned as its EXIF orientation says.
    * Transparent parts are shown on white, the colour of paper.
    * 16-bit greys are scaled from 0..65,535, floating-point ones from 0..1.

    Args:
        item: the encoded bytes, or the path of a file.
        name: of the image, for messages.

    Raises:
        ValueError: what is no image, is broken, or has more than ``MOST_PIXELS``; whole numbers
            of 32 bits or floats outside [0, 1], whose range is unknown. The message names it.
    """
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than "
                                 f"{MOST_PIXELS:,}, shrink it")
            return _on_white(_in_8_bits(_upright(image), image.format)).convert(
                "L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow raises many kinds
        reason = str(error).partition(" <_io")[0]  # without the address of a buffer
        raise ValueError(
            f"{name} cannot be read as an image ({reason}): remove or replace it") from error


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # EXIF data that cannot be read says nothing of the orientation
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def _in_8_bits(image: Image.Image, kind: str | None) -> Image.Image:
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not (values.min() >= 0 and values.max() <= 1):  # also where one is NaN
            raise ValueError(f"its values lie in [{values.min():g}, {values.max():g}], and floats "
                             "must lie in [0, 1]")
        values = 255 * values
    elif image.mode.startswith("I"):
        if image.mode == "I" and kind not in ("PNG", "PPM"):  # of these two Pillow reads 16 bits so
            raise ValueError("whole numbers of 32 bits have no known range, store 8 or 16 bits")
        values = np.asarray(image, dtype=np.float64) / 257
    else:
        return image
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white


# --- the check -----------------------------------------------------------------------------------

def check_all(count: int, read: Callable[[int], Encoded | None], name: Callable[[int], object],
              origin: str, written: Sequence[Path]) -> list[str]:
    """Decode every image once; show a bar.

    What was found is kept in the cache until a file changes.

    Args:
        count: how many images there are.
        read: the encoded image of a number, from 0.
        name: of an image, for messages.
        origin: of all images, for the bar.
        written: the files that hold them; without, nothing is kept.

    Returns:
        The sha256 of each encoded image.

    Raises:
        ValueError: images that cannot be read; names two and counts them.
    """
    stamps = "".join(map(stamp, written))
    found = cache_folder() / "images" / f"{sha256_of(stamps.encode())[:32]}.txt"
    if written and found.exists():
        digests = found.read_text(encoding="utf-8").split()
        if len(digests) == count:
            return digests

    def check(number: int, item: Encoded | None) -> tuple[str, ValueError | None]:
        try:
            content = item if isinstance(item, bytes | None) else Path(item).read_bytes()
            decode(content, 3, name(number))
            return sha256_of(content), None
        except OSError as error:
            return "", ValueError(f"{name(number)} cannot be read ({error}): replace it")
        except ValueError as error:
            return "", error

    results: list[tuple[str, ValueError | None]] = []
    with ThreadPoolExecutor(cores_per_process()) as pool:
        for begin in tqdm(range(0, count, AT_ONCE), desc=f"checking {origin}",
                          unit_scale=AT_ONCE, disable=None if count > AT_ONCE else True):
            numbers = range(begin, min(begin + AT_ONCE, count))
            results += pool.map(check, numbers, map(read, numbers))
    bad = [str(error) for _, error in results if error]
    if bad:
        more = f"; {len(bad)} images in all are so, another is: {bad[1]}" if len(bad) > 1 else ""
        raise ValueError(bad[0] + more)
    digests = [digest for digest, _ in results]
    if written:
        found.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(found, "\n".join(digests))
    return digests


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
