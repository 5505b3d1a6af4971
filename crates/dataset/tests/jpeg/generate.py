"""Writes the JPEG files in this folder, and the pixels that Pillow decodes from each as `NAME.png`,
except for `three_resolutions_each`.

Needs Pillow, NumPy, and `cjpeg` and `jpegtran` of libjpeg-turbo.
"""

import io
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
SIZE = (43, 37)  # not a multiple of the size of a block or an MCU
SAMPLINGS = {"444": "1x1", "422": "2x1", "420": "2x2", "440": "1x2", "411": "4x1", "410": "4x2"}
SCANS = {"each": "0;1;2;", "luma_chroma": "0;1,2;", "chroma_first": "2;1;0;"}


def image():
    """Draws waves and a rectangle with sharp edges."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    waves = [np.sin(x / 9 + y / 17), np.cos(x / 13 - y / 7), np.sin((x + y) / 11)]
    pixels = (127 + 110 * np.stack(waves, -1)).astype(np.uint8)
    pixels[12:24, 10:20] = (220, 30, 40)
    return Image.fromarray(pixels)


def encode(name, command, source, scans=None):
    """Runs an encoder on `source` and stores its output and Pillow's pixels."""
    with tempfile.NamedTemporaryFile("w", suffix=".scans") as script:
        if scans:
            script.write(scans)
            script.flush()
            command = [*command, "-scans", script.name]
        data = subprocess.run(command, input=source, capture_output=True, check=True).stdout
    (HERE / f"{name}.jpg").write_bytes(data)
    Image.open(io.BytesIO(data)).convert("RGB").save(HERE / f"{name}.png", optimize=True)


def file(format, mode="RGB", **options):
    """Returns the image as a file of `format`."""
    out = io.BytesIO()
    image().convert(mode).save(out, format, **options)
    return out.getvalue()


def main():
    ppm = file("ppm")
    cjpeg = ["cjpeg", "-quality", "85", "-optimize"]
    for sampling, factors in SAMPLINGS.items():
        for order, scans in SCANS.items():
            if order != "chroma_first" or sampling == "420":
                encode(f"{sampling}_{order}", [*cjpeg, "-sample", factors], ppm, scans)
        restart = ["-restart", "2B", "-sample", factors]
        encode(f"{sampling}_each_restart", [*cjpeg, *restart], ppm, SCANS["each"])
    # Luma with half of the resolution of chroma, in one scan and in separate scans.
    encode("luma_subsampled", [*cjpeg, "-sample", "1x1,2x2,2x2"], ppm)
    encode("luma_subsampled_each", [*cjpeg, "-sample", "1x1,2x2,2x2"], ppm, SCANS["each"])
    encode("rgb_each", [*cjpeg, "-rgb"], ppm, SCANS["each"])
    encode("gray_2x2_restart", [*cjpeg, "-grayscale", "-sample", "2x2", "-restart", "2B"], ppm)
    encode("420_progressive", [*cjpeg, "-progressive", "-sample", "2x2"], ppm)
    encode("411_progressive_restart", [*cjpeg, "-progressive", "-sample", "4x1", "-restart", "2B"], ppm)
    encode("cmyk_each", ["jpegtran"], file("jpeg", mode="CMYK", quality=85), "0;1;2;3;")
    # The decoder rejects three resolutions in separate scans, so the test needs no pixels.
    encode("three_resolutions_each", [*cjpeg, "-sample", "4x1,2x1,1x1"], ppm, SCANS["each"])
    (HERE / "three_resolutions_each.png").unlink()


main()
