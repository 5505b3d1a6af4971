"""Writes `matrix.safetensors`: JPEG files of every kind, and the pixels that Pillow decodes from them.

For each file NAME, `NAME.jpg` has its bytes. `NAME.png` has Pillow's pixels as a PNG, unless Pillow cannot open the file.
Needs Pillow 13, NumPy and safetensors: `python generate.py`.
"""

import io
import pathlib
import struct
import sys
import warnings

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from encoder import STEPS, Component, Frame, Scan, encode, segment

warnings.simplefilter("ignore")
SIZES = [(1, 1), (2, 3), (7, 9), (8, 8), (9, 17), (16, 16), (17, 15), (31, 33), (33, 31), (45, 5), (5, 45)]
COMMON = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 2), "441": (1, 4)}
JFIF = segment(0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\0\0")
EXIF = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\1\0\0\0\0\0\0\0")
COMMENT = segment(0xFE, b"comment with \xff\xd8 \xff\xda \xff\xd9 \xff\xc0 in it")
APP = segment(0xE5, bytes(range(256)))


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def drawing(size, channels, seed=0):
    """Waves, and a rectangle with sharp edges. The mean slope is small and the channels differ."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    waves = [np.sin(x / 9 + y / 17 + seed), np.cos(x / 13 - y / 7), np.sin((x + y) / 11 + 2), np.cos(x / 8 + y / 9)]
    pixels = 127 + 90 * np.stack(waves, -1)
    w, h = size
    pixels[h // 3:h // 3 + h // 2, w // 4:w // 4 + w // 3] = (220, 30, 60, 160)
    return pixels[..., :channels]


def planes(size, factors, ids, tables=None, seed=0, ycc=False):
    """Returns components with the given sampling factors, each the average of the drawing."""
    hmax, vmax = max(h for h, _ in factors), max(v for _, v in factors)
    pixels = drawing(size, len(factors), seed)
    if ycc:
        pixels = pixels[..., :3] @ np.array([[0.299, -0.1687, 0.5], [0.587, -0.3313, -0.4187], [0.114, 0.5, -0.0813]])
        pixels[..., 1:] += 128
        if len(factors) == 4:
            pixels = np.concatenate([pixels, drawing(size, 4, seed)[..., 3:]], -1)
    result = []
    for i, (h, v) in enumerate(factors):
        width, height = -(-size[0] * h // hmax), -(-size[1] * v // vmax)
        column = np.minimum(np.arange(size[0]) * h // hmax, width - 1)
        row = np.minimum(np.arange(size[1]) * v // vmax, height - 1)
        total, count = np.zeros((height, width)), np.zeros((height, width))
        np.add.at(total, (row[:, None], column), pixels[..., i])
        np.add.at(count, (row[:, None], column), 1)
        samples = np.clip(np.rint(total / np.maximum(count, 1)), 0, 255)
        table = (tables or [0, 1, 1, 0])[i]
        result.append(Component(ids[i], h, v, table, samples))
    return result


def color(size, luma=(1, 1), chroma=(1, 1), ids=(1, 2, 3), **options):
    return planes(size, [luma, chroma, options.pop("cr", chroma)], ids, ycc=True, **options)


def progressive(count, kind="full"):
    """Returns the scans of a progressive file."""
    every = tuple(range(count))
    each = lambda *args: [Scan((i,), *args) for i in every]
    if kind == "spectral":
        return [Scan(every, 0, 0), *each(1, 5), *each(6, 63)]
    if kind == "dc_each":
        return [*each(0, 0, 0, 1), *each(1, 63, 0, 0), *each(0, 0, 1, 0)]
    if kind == "deep":
        refine = [scan for al in (2, 1, 0) for scan in (Scan(every, 0, 0, al + 1, al), *each(1, 63, al + 1, al))]
        return [Scan(every, 0, 0, 0, 3), *each(1, 63, 0, 3), *refine]
    if kind == "bands":
        bands = [(1, 1), (2, 4), (5, 20), (21, 62), (63, 63)]
        return [Scan(every, 0, 0), *[scan for band in reversed(bands) for scan in each(*band)]]
    if kind == "each":
        return [*each(0, 0), *each(1, 63, 0, 1), *each(1, 63, 1, 0)]
    if kind == "dc_partly":
        return [Scan(every[:1], 0, 0, 0, 1), *([Scan(every[1:], 0, 0)] if count > 1 else []), *each(1, 63),
                Scan(every[:1], 0, 0, 1, 0)]
    return [Scan(every, 0, 0, 0, 1), Scan((0,), 1, 5, 0, 2), *[Scan((i,), 1, 63, 0, 1) for i in every[1:]],
            Scan((0,), 6, 63, 0, 2), Scan((0,), 1, 63, 2, 1), Scan(every, 0, 0, 1, 0),
            *[Scan((i,), 1, 63, 1, 0) for i in reversed(every)]]


def sequential(count, kind):
    if kind == "each":
        return [Scan((i,)) for i in range(count)]
    if kind == "partly":
        return [Scan((0,)), Scan(tuple(range(1, count)))] if count > 1 else None
    if kind == "partly_last":
        return [Scan(tuple(range(count - 1))), Scan((count - 1,))]
    if kind == "reversed":
        return [Scan((i,)) for i in reversed(range(count))]
    return None


MODES = {
    "baseline": lambda n: dict(),
    "default": lambda n: dict(default=True),
    "each": lambda n: dict(scans=sequential(n, "each")),
    "progressive": lambda n: dict(sof=0xC2, scans=progressive(n)),
    "partly": lambda n: dict(scans=sequential(n, "partly"), sof=0xC1),
    "restart": lambda n: dict(restarts=(2,)),
    "each_restart": lambda n: dict(scans=sequential(n, "each"), restarts=(3,), default=True),
    "progressive_each": lambda n: dict(sof=0xC2, scans=progressive(n, "each")),
    "progressive_restart": lambda n: dict(sof=0xC2, scans=progressive(n), restarts=(3,)),
}


def cases():
    """Yields (name, bytes) for each file."""
    jfif = dict(head=[JFIF])
    names = list(MODES)

    # Every luma with every chroma sampling, in one mode each.
    every = [(h, v) for v in range(1, 5) for h in range(1, 5)]
    for i, luma in enumerate(every):
        for j, chroma in enumerate(every):
            mode = names[(i + 2 * j) % len(names)]
            size = (25, 18) if (i + j) % 2 else (18, 31)
            data = encode(size, color(size, luma, chroma), **jfif, **MODES[mode](3))
            yield f"sampling/{luma[0]}x{luma[1]}_{chroma[0]}x{chroma[1]}_{mode}", data
    # Resolutions that one of the decoders gets wrong in some modes.
    for luma, cb, cr in (((4, 2), (2, 1), (1, 1)), ((4, 2), (4, 1), (1, 1)), ((4, 1), (2, 1), (2, 1)), ((1, 4), (1, 2), (1, 1)),
                         ((4, 4), (1, 4), (1, 4)), ((4, 4), (2, 2), (1, 1)), ((2, 4), (1, 2), (1, 2)), ((2, 2), (2, 2), (1, 1))):
        for mode in ("baseline", "each", "progressive", "progressive_each"):
            size = (37, 29)
            label = "_".join(f"{h}x{v}" for h, v in (luma, cb, cr))
            yield f"difficult/{label}_{mode}", encode(size, color(size, luma, cb, cr=cr), **jfif, **MODES[mode](3))
    # Wide enough for the threads of jpeg-decoder.
    for mode in ("each", "partly", "progressive", "baseline"):
        size = (141, 13)
        yield f"wide/420_{mode}", encode(size, color(size, (2, 2)), **jfif, **MODES[mode](3))
        yield f"wide/rgb_{mode}", encode(size, color(size), head=[adobe(0)], **MODES[mode](3))
        yield f"wide/cmyk_{mode}", encode(size, planes(size, [(1, 1)] * 4, (1, 2, 3, 4)), head=[adobe(0)], **MODES[mode](4))
        yield f"wide/luma_1x1_{mode}", encode(size, color(size, (1, 1), (2, 2)), **jfif, **MODES[mode](3))
    # Common samplings, in every mode.
    for name, luma in COMMON.items():
        for mode, options in MODES.items():
            size = (34, 37)
            yield f"common/{name}_{mode}", encode(size, color(size, luma), **jfif, **options(3))
        for kind in ("reversed", "partly_last"):
            size = (34, 37)
            data = encode(size, color(size, luma), **jfif, scans=sequential(3, kind))
            yield f"common/{name}_{kind}", data
        for kind in ("spectral", "dc_each", "deep", "bands", "dc_partly"):
            size = (35, 27)
            data = encode(size, color(size, luma), **jfif, sof=0xC2, scans=progressive(3, kind))
            yield f"common/{name}_progressive_{kind}", data
    # Chroma finer than luma, in every mode, and components that differ.
    for name, factors in {
        "luma_1x1": [(1, 1), (2, 2), (2, 2)], "luma_2x1": [(2, 1), (1, 2), (1, 2)], "luma_1x2": [(1, 2), (2, 1), (2, 1)],
        "cr_full": [(2, 2), (1, 1), (2, 2)], "cb_wide": [(2, 2), (2, 1), (1, 2)], "cr_tall": [(4, 2), (2, 2), (1, 1)],
        "three_widths": [(4, 1), (2, 1), (1, 1)], "three_heights": [(1, 4), (1, 2), (1, 1)],
    }.items():
        for mode in ("baseline", "each", "partly", "progressive", "restart"):
            size = (35, 30)
            data = encode(size, planes(size, factors, (1, 2, 3), ycc=True), **jfif, **MODES[mode](3))
            yield f"mixed/{name}_{mode}", data
    # Sizes.
    for size in SIZES:
        for name in ("444", "422", "420", "440", "411"):
            for mode in ("baseline", "progressive", "each"):
                data = encode(size, color(size, COMMON[name], seed=1), **jfif, **MODES[mode](3))
                yield f"size/{size[0]}x{size[1]}_{name}_{mode}", data
    # Gray: the sampling factors of a single component have no effect.
    for size in SIZES[2:]:
        for factors in ((1, 1), (2, 2), (3, 1), (1, 4)):
            mode = names[(size[0] + factors[0] * 3 + factors[1]) % len(names)]
            data = encode(size, planes(size, [factors], [1]), **jfif, **MODES[mode](1))
            yield f"gray/{size[0]}x{size[1]}_{factors[0]}x{factors[1]}_{mode}", data
    # Restart intervals, also in other places than the ends of rows, and different ones for the scans.
    for name, luma in list(COMMON.items())[:5]:
        size = (35, 26)
        for restart in (1, 5, 7, 100):
            yield f"restart/{name}_{restart}", encode(size, color(size, luma), **jfif, restarts=(restart,))
            data = encode(size, color(size, luma), **jfif, restarts=(restart,), sof=0xC2, scans=progressive(3))
            yield f"restart/{name}_progressive_{restart}", data
        for restarts in ((4, 0, 3), (0, 2, 5), (7, 1)):
            label = "_".join(map(str, restarts))
            for mode in ("each", "progressive", "partly"):
                data = encode(size, color(size, luma), **jfif, restarts=restarts, **MODES[mode](3))
                yield f"restart/{name}_{mode}_{label}", data
    # Colors of three components: markers and component ids.
    markers = {
        "none": [], "jfif": [JFIF], "adobe0": [adobe(0)], "adobe1": [adobe(1)], "adobe2": [adobe(2)], "adobe9": [adobe(9)],
        "jfif_adobe0": [JFIF, adobe(0)], "adobe0_jfif": [adobe(0), JFIF], "jfif_adobe1": [JFIF, adobe(1)],
        "exif": [EXIF], "exif_adobe0": [EXIF, adobe(0)], "exif_jfif": [EXIF, JFIF], "jfif_exif_adobe0": [JFIF, EXIF, adobe(0)],
        "short_jfif": [segment(0xE0, b"JFIF\0\1\2\1")], "short_jfif_adobe0": [segment(0xE0, b"JFIF\0\1\2\1"), adobe(0)],
        "jfxx": [segment(0xE0, b"JFXX\0\x13" + bytes(20))], "jfif_app1": [segment(0xE1, JFIF[4:])],
        "short_adobe": [segment(0xEE, b"Adobe\0\x64\0\0\0\0")], "long_adobe": [segment(0xEE, adobe(0)[4:] + b"more")],
        "not_adobe": [segment(0xEE, b"adobe\0\x64\0\0\0\0\0")], "adobe_app13": [segment(0xED, adobe(0)[4:])],
        "adobe1_adobe0": [adobe(1), adobe(0)], "adobe0_adobe1": [adobe(0), adobe(1)],
    }
    ids = {"123": (1, 2, 3), "012": (0, 1, 2), "RGB": (82, 71, 66), "rgb": (114, 103, 98), "any": (17, 200, 5),
           "132": (1, 3, 2), "BGR": (66, 71, 82), "YCC": (1, 34, 35), "same": (7, 7, 7)}
    size = (19, 13)
    for marker, head in markers.items():
        for name, components in ids.items():
            if name in ("123", "RGB", "any") or marker in ("none", "jfif", "adobe0"):
                yield f"color/{marker}_{name}", encode(size, color(size, ids=components), head=head)
    for mode in MODES:
        for marker in ("none", "jfif_adobe0", "adobe0"):
            for luma in ((1, 1), (2, 2), (2, 1)):
                data = encode(size, color(size, luma, ids=ids["RGB"]), head=markers[marker], **MODES[mode](3))
                yield f"color/{luma[0]}x{luma[1]}_{mode}_{marker}", data
    yield "color/adobe0_after_frame", encode(size, color(size), after_sof=adobe(0))
    yield "color/jfif_after_frame", encode(size, color(size, ids=ids["RGB"]), after_sof=JFIF)
    yield "color/adobe0_after_first_scan", encode(size, color(size), scans=sequential(3, "each"), between=adobe(0))
    yield "color/jfif_after_first_scan", encode(size, color(size, ids=ids["RGB"]), scans=sequential(3, "each"), between=JFIF)
    # Four components, and two, which Pillow refuses.
    layouts = {"1x1": [(1, 1)] * 4, "k_full": [(2, 2), (1, 1), (1, 1), (2, 2)], "422": [(2, 1), (1, 1), (1, 1), (2, 1)],
               "k_half": [(2, 2), (2, 2), (2, 2), (1, 1)], "black_only": [(1, 1), (1, 1), (1, 1), (2, 1)]}
    for marker in ("none", "jfif", "adobe0", "adobe1", "adobe2", "adobe9", "jfif_adobe0", "jfif_adobe2", "exif"):
        head = [JFIF, adobe(2)] if marker == "jfif_adobe2" else markers[marker]
        for name, factors in layouts.items():
            size = (25, 18)
            ycc = "adobe" in marker and "adobe0" not in marker
            kinds = ("baseline", "each", "progressive", "restart") if name in ("1x1", "k_full") else ("baseline", "partly")
            for mode in kinds:
                if marker in ("none", "adobe0", "adobe2") or mode == "baseline":
                    data = encode(size, planes(size, factors, (1, 2, 3, 4), ycc=ycc), head=head, **MODES[mode](4))
                    yield f"four/{name}_{mode}_{marker}", data
    yield "four/ids_CMYK", encode(size, planes(size, layouts["1x1"], tuple(b"CMYK")))
    for mode in ("baseline", "each", "progressive"):
        data = encode(size, planes(size, [(1, 1)] * 2, (1, 2)), **MODES[mode](2))
        yield f"two/{mode}", data
    # Quantization tables.
    size = (29, 23)
    for mode in ("baseline", "each", "progressive", "partly"):
        wide = dict(tables={0: STEPS * 20, 1: STEPS * 30}, wide=True)
        yield f"tables/16_bit_{mode}", encode(size, color(size, (2, 2)), **jfif, **wide, **MODES[mode](3))
    for table in (2, 3):
        components = color(size, (2, 1), tables=[table, 0, 1])
        yield f"tables/slot_{table}", encode(size, components, **jfif, sof=0xC1)
    tables = {0: STEPS, 1: STEPS * 3, 2: STEPS * 6}
    for sof, scans in ((0xC0, sequential(3, "each")), (0xC2, [Scan((i,), 0, 0) for i in range(3)] + [Scan((i,), 1, 63) for i in range(3)])):
        for factors in ((1, 1), (2, 2)):
            components = color(size, factors, tables=[0, 1, 2])
            data = encode(size, components, **jfif, sof=sof, scans=scans, tables=tables, separate_tables=True)
            yield f"tables/again_before_each_scan_{sof:x}_{factors[0]}x{factors[1]}", data
    # Segments, fill bytes and stray bytes in unusual places, in every mode.
    for mode, options in MODES.items():
        components = color(size, (2, 2))
        make = lambda head=(JFIF,), **more: encode(size, components, head=head, **{**options(3), **more})
        plain = make()
        yield f"segments/fill_{mode}", make(fill=1)
        yield f"segments/fill_3_{mode}", make(fill=3)
        yield f"segments/comments_{mode}", make(head=[JFIF, COMMENT, APP, EXIF, COMMENT], between=COMMENT + APP)
        yield f"segments/number_of_lines_{mode}", make(after_first=segment(0xDC, struct.pack(">H", size[1])))
        yield f"segments/height_from_number_of_lines_{mode}", make(height=0, after_first=segment(0xDC, struct.pack(">H", size[1])))
        yield f"segments/trailing_{mode}", plain + b"trailing \xff\xda\xff\xc0\xff\xd8 data" * 3
        yield f"segments/two_images_{mode}", plain + encode((8, 8), color((8, 8)), **jfif)
        thumbnail = encode((16, 16), planes((16, 16), [(1, 1)], [1]), sof=0xC2, scans=progressive(1))
        yield f"segments/thumbnail_{mode}", make(head=[segment(0xE1, b"Exif\0\0" + thumbnail), segment(0xE2, b"MPF\0" + bytes(40)), JFIF])
        yield f"segments/stray_{mode}", make(head=[JFIF, b"stray", COMMENT, b"\0\0\0"])
        yield f"segments/stray_between_{mode}", make(between=b"stray")
        yield f"segments/no_end_{mode}", plain[:-2]
        yield f"segments/half_{mode}", plain[:len(plain) * 3 // 4]
    # Scans that leave something out, or repeat it.
    for name, scans in {
        "no_refinement": progressive(3)[:-3], "no_last_refinement": progressive(3)[:-1], "dc_only": [Scan((0, 1, 2), 0, 0)],
        "no_chroma_ac": progressive(3, "spectral")[:2] + progressive(3, "spectral")[4:5], "only_luma": [Scan((0,), 0, 0), Scan((0,), 1, 63)],
        "twice": progressive(3, "spectral") * 2, "repeated_band": [*progressive(3, "spectral"), Scan((0,), 1, 5)],
    }.items():
        yield f"scans/progressive_{name}", encode(size, color(size, (2, 2)), **jfif, sof=0xC2, scans=scans)
    for name, scans in {"only_luma": [Scan((0,))], "no_cr": [Scan((0, 1))], "luma_twice": [Scan((0,)), *sequential(3, "each")],
                        "all_twice": [Scan((0, 1, 2))] * 2, "overlap": [Scan((0, 1)), Scan((1, 2))]}.items():
        yield f"scans/{name}", encode(size, color(size, (2, 1)), **jfif, scans=scans)
    # Frames of other processes. The data does not fit, because only the marker or the precision is changed.
    base = encode(size, color(size, (2, 2)), **jfif)
    at = base.index(b"\xff\xc0\0\x11")
    for sof in (0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF):
        yield f"process/sof_{sof:x}", base[:at + 1] + bytes([sof]) + base[at + 2:]
    for mode in ("baseline", "progressive", "partly"):
        data = bytearray(encode(size, color(size, (2, 2)), **jfif, **MODES[mode](3)))
        data[data.index(b"\0\x11\x08\0") + 2] = 12
        yield f"process/12_bit_{mode}", bytes(data)
    frame = base[at:at + 19]
    yield "process/two_frames", base[:at] + frame + base[at:]
    yield "process/no_frame", base[:at] + base[at + 19:]
    yield "process/no_width", base[:at + 7] + b"\0\0" + base[at + 9:]


def pillow(data):
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    files, refused = {}, []
    for name, data in cases():
        assert f"{name}.jpg" not in files, name
        files[f"{name}.jpg"] = np.frombuffer(data, np.uint8)
        image = pillow(data)
        if isinstance(image, str):
            refused.append((name, image))
            continue
        out = io.BytesIO()
        image.save(out, "PNG", optimize=True)
        files[f"{name}.png"] = np.frombuffer(out.getvalue(), np.uint8)
    path = pathlib.Path(__file__).parent / "matrix.safetensors"
    save_file(files, path)
    count = sum(name.endswith(".jpg") for name in files)
    print(f"{count} files, {len(refused)} refused by Pillow, {path.stat().st_size:,} bytes", file=sys.stderr)
    if "-v" in sys.argv:
        for name, error in refused:
            print(name, error)


main()
