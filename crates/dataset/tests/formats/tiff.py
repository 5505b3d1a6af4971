"""Writes tiff.safetensors.gz: TIFF files of many kinds, and the pixels that Pillow 13 gives. Files without pixels have to
be refused.

    python tiff.py    # in an environment with pillow, numpy and safetensors
"""

import io
import lzma
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from archive import Cases

warnings.simplefilter("ignore")

WIDTH, HEIGHT = 21, 13
x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
# Smooth, with a sharp edge.
R = ((x * 11 + 20) % 256).astype(np.uint8)
G = ((y * 17 + 40 + 90 * (x > 12)) % 256).astype(np.uint8)
B = ((255 - x * 5 - y * 6) % 256).astype(np.uint8)
A = ((x * 12 + y * 3) % 256).astype(np.uint8)
RGB = np.stack([R, G, B], axis=-1)
cases = Cases("tiff")


def write(tags, chunks, order="<", big=False, tiled=False, pages=1):
    """Returns a TIFF with these tags, {number: (type, values)}, and compressed chunks."""
    formats = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 7: "B", 11: "f", 12: "d", 16: "Q"}
    word, count = ("Q", "Q") if big else ("I", "H")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HH", 8, 0) if big else b""
    start = len(head) + struct.calcsize(word)
    data, offsets = b"", []
    for chunk in chunks:
        offsets.append(start + len(data))
        data += chunk + bytes(len(chunk) % 2)
    tags = dict(tags)
    tags[324 if tiled else 273] = (16 if big else 4, offsets)
    tags[325 if tiled else 279] = (4, [len(chunk) for chunk in chunks])
    inline = struct.calcsize(word)
    directory = start + len(data)
    entry = 4 + 2 * inline
    for page in range(pages):
        at = start + len(data)
        tail_at = at + struct.calcsize("=" + count) + entry * len(tags) + inline
        body, tail = struct.pack(order + count, len(tags)), b""
        for number in sorted(tags):
            kind, values = tags[number]
            values = list(values) if isinstance(values, (list, tuple, np.ndarray, bytes)) else [values]
            packed = struct.pack(order + formats[kind] * len(values), *values)
            body += struct.pack(order + "HH" + word, number, kind, len(values))
            if len(packed) <= inline:
                body += packed.ljust(inline, b"\0")
            else:
                body += struct.pack(order + word, tail_at + len(tail))
                tail += packed + bytes(len(packed) % 2)
        following = tail_at + len(tail) if page + 1 < pages else 0
        data += body + struct.pack(order + word, following) + tail
        # Later pages are negatives, so that reading one of them is noticed.
        tags[262] = (3, 1 - tags[262][1][0] if isinstance(tags[262][1], list) else 1 - tags[262][1])
    return head + struct.pack(order + word, directory) + data


def tags(photometric, bits, samples=1, compression=1, **others):
    result = {256: (3, WIDTH), 257: (3, HEIGHT), 258: (3, [bits] * samples), 259: (3, compression)}
    result |= {262: (3, photometric), 277: (3, samples), 278: (3, HEIGHT)}
    names = dict(fill=266, rows=278, planar=284, predictor=317, extra=338, format=339, t4=292)
    for name, value in others.items():
        result[names[name] if name in names else int(name[1:])] = value if isinstance(value, tuple) else (3, value)
    return result


def pack(values, bits):
    """Rows of samples of less than 8 bits, each padded to bytes."""
    rows = []
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return b"".join(rows)


def packbits(data):
    """Literal runs, a run of equal bytes, and bytes without an effect."""
    out = b""
    for i in range(0, len(data), 100):
        part = data[i : i + 100]
        if len(set(part)) == 1 and len(part) > 1:
            out += bytes([257 - len(part), part[0]])
        else:
            out += bytes([len(part) - 1]) + part + b"\x80"
    return out


def add(name, data, pixels=None, refused=False):
    if refused:
        cases.add(name, data)
        return
    if pixels is None:
        image = Image.open(io.BytesIO(data))
        values = np.array(image)
        pixels = np.array(image.convert("RGB")) if not image.mode.startswith("I;16") else None
        if pixels is None:
            # A deliberate difference: Pillow clamps at 255.
            shift = 4 if name.startswith("gray_12") else 8
            pixels = np.repeat((values >> shift).astype(np.uint8)[..., None], 3, axis=-1)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    cases.add(name, data, pixels)


def refuse(name, data):
    add(name, data, refused=True)


def saved(mode, data, name, info=None, **options):
    """Adds a file that Pillow writes."""
    image = Image.frombytes(mode, (WIDTH, HEIGHT), np.ascontiguousarray(data).tobytes()) if isinstance(data, np.ndarray) else data
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", tiffinfo=info or {}, **options)
    add(name, buffer.getvalue())


ORDERS = {"<": "little", ">": "big"}
# Gray, with both meanings of 0 and both bit orders.
for bits in (1, 2, 4, 8):
    values = x * 7 + y * 5 & (1 << bits) - 1
    for photometric, meaning in ((0, "white"), (1, "black")):
        data = pack(values, bits)
        add(f"gray_{bits}_{meaning}_is_zero", write(tags(photometric, bits), [data]))
        swapped = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        # Pillow reads all of them but 8 bits with 0 as white, for which it lacks a mode.
        same = cases.pixels(f"gray_{bits}_{meaning}_is_zero") if (bits, photometric) == (8, 0) else None
        add(f"gray_{bits}_{meaning}_reversed", write(tags(photometric, bits, fill=2), [swapped], ">"), same)
add("gray_1_deflate_reversed", write(tags(1, 1, compression=8, fill=2), [bytes(int(f"{b:08b}"[::-1], 2) for b in zlib.compress(pack(x + y & 1, 1)))]))
for order, name in ORDERS.items():
    wide = (x * 3001 + y * 1009).astype(order + "u2")
    add(f"gray_16_{name}", write(tags(1, 16), [wide.tobytes()], order))
    add(f"gray_16_{name}_deflate", write(tags(1, 16, compression=8), [zlib.compress(wide.tobytes())], order))
    signed = (x * 40 - 200 + y * 9).astype(order + "i2")
    add(f"gray_int16_{name}", write(tags(1, 16, format=2), [signed.tobytes()], order))
    long = (x * 40 - 200 + y * 9).astype(order + "i4")
    add(f"gray_int32_{name}", write(tags(1, 32, format=2), [long.tobytes()], order))
    real = (x * 14.37 - 20 + y * 3.9).astype(order + "f4")
    real[0, :4] = [np.nan, np.inf, -np.inf, 254.99]
    add(f"gray_float_{name}", write(tags(1, 32, format=3), [real.tobytes()], order))
add("gray_uint32", write(tags(1, 32), [(x * 14 + y).astype("<u4").tobytes()]))
big_values = (x * 14 + y).astype("<u4")
big_values[:, 3] = 2**31 + 7
add("gray_uint32_large", write(tags(1, 32), [big_values.tobytes()]))
add("gray_float_white_is_zero", write(tags(0, 32, format=3), [real.astype("<f4").tobytes()]))
add("gray_int8", write(tags(1, 8, format=2), [R.tobytes()]))
twelve = x * 190 + y * 3
add("gray_12", write(tags(1, 12), [pack(twelve, 12)]))
white = (x * 3001 + y * 1009).astype("<u2")
inverted = np.repeat(255 - (white >> 8).astype(np.uint8)[..., None], 3, axis=-1)
add("gray_16_white_is_zero", write(tags(0, 16), [white.tobytes()]), inverted)
# Gray with additional samples.
two = np.stack([G, A], axis=-1)
add("gray_alpha", write(tags(1, 8, 2, extra=2), [two.tobytes()]))
add("gray_alpha_unspecified", write(tags(1, 8, 2, extra=0), [two.tobytes()]))
unmultiplied = np.where(A == 0, 0, np.minimum(255, G.astype(int) * 255 // np.maximum(A, 1))).astype(np.uint8)
add("gray_alpha_associated", write(tags(1, 8, 2, extra=1), [two.tobytes()]), np.repeat(unmultiplied[..., None], 3, axis=-1))
# Palettes.
for bits in (1, 2, 4, 8):
    size = 1 << bits
    colors = [(i * 37 + c * 91) % 256 * 256 + 200 for c in range(3) for i in range(size)]
    data = pack(x * 3 + y * 5 & size - 1, bits)
    add(f"palette_{bits}", write(tags(3, bits, t320=(3, colors)), [data]))
    add(f"palette_{bits}_deflate", write(tags(3, bits, compression=8, t320=(3, colors)), [zlib.compress(data)], ">"))
add("palette_alpha", write(tags(3, 8, 2, extra=2, t320=(3, colors)), [np.stack([A, R], axis=-1).tobytes()]))
# RGB with alpha, 16 bits, planes.
four = np.dstack([RGB, A])
for extra, name in ((0, "unspecified"), (1, "associated"), (2, "unassociated")):
    add(f"rgba_{name}", write(tags(2, 8, 4, extra=extra), [four.tobytes()]))
    wide = (four.astype(int) * 257 - 3 & 0xFFFF).astype(">u2")
    add(f"rgba_16_{name}", write(tags(2, 16, 4, extra=extra), [wide.tobytes()], ">"))
add("rgba_without_tag", write(tags(2, 8, 4), [four.tobytes()]))
add("rgb_two_extra", write(tags(2, 8, 5, extra=[0, 0]), [np.dstack([four, R]).tobytes()]))
for order, name in ORDERS.items():
    wide = (RGB.astype(int) * 251 + x[..., None]).astype(order + "u2")
    add(f"rgb_16_{name}", write(tags(2, 16, 3), [wide.tobytes()], order))
    differences = np.diff(wide.astype(int), axis=1, prepend=0).astype(order + "u2")
    add(f"rgb_16_{name}_predictor", write(tags(2, 16, 3, compression=8, predictor=2), [zlib.compress(differences.tobytes())], order))
planes = [RGB[..., c].tobytes() for c in range(3)]
add("rgb_planes", write(tags(2, 8, 3, planar=2), planes))
add("rgb_planes_deflate", write(tags(2, 8, 3, planar=2, compression=8), [zlib.compress(p) for p in planes]))
strips = [RGB[top : top + 4, :, c].tobytes() for c in range(3) for top in range(0, HEIGHT, 4)]
add("rgb_planes_strips", write(tags(2, 8, 3, planar=2, rows=4), strips))
floats = (RGB / 200.0 - 0.1).astype("<f4")
add("rgb_float", write(tags(2, 32, 3, format=[3, 3, 3]), [floats.tobytes()]), np.floor(np.clip(floats.astype(np.float32), 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8))
# Strips, tiles, BigTIFF and pages.
strips = [RGB[top : top + 5].tobytes() for top in range(0, HEIGHT, 5)]
add("rgb_strips", write(tags(2, 8, 3, rows=5), strips))
add("rgb_strips_lzma", write(tags(2, 8, 3, rows=5, compression=34925), [lzma.compress(s) for s in strips]))
add("rgb_strips_packbits", write(tags(2, 8, 3, rows=5, compression=32773), [packbits(s) for s in strips]))
add("gray_packbits", write(tags(1, 8, compression=32773), [packbits((G // 64 * 64).repeat(1).tobytes())]))
add("gray_packbits_runs", write(tags(1, 8, compression=32773), [packbits(np.sort(G // 128 * 9, axis=None).tobytes())]))
padded = np.pad(RGB, ((0, 32 - HEIGHT), (0, 32 - WIDTH), (0, 0)), constant_values=77)
tiles = [padded[top : top + 16, left : left + 16] for top in (0,) for left in (0, 16)]
tile_tags = {322: (3, 16), 323: (3, 16)}
without_strips = {k: v for k, v in tags(2, 8, 3).items() if k != 278} | tile_tags
add("rgb_tiles", write(without_strips, [t.tobytes() for t in tiles], tiled=True))
deflated = {**without_strips, 259: (3, 8), 317: (3, 2)}
tile_data = [zlib.compress(np.diff(t.astype(int), axis=1, prepend=0).astype(np.uint8).tobytes()) for t in tiles]
add("rgb_tiles_predictor", write(deflated, tile_data, tiled=True))
gray_tiles = {**{k: v for k, v in tags(1, 8, compression=8).items() if k != 278}, 322: (3, 16), 323: (3, 16)}
add("gray_tiles_big", write(gray_tiles, [zlib.compress(t[..., 1].tobytes()) for t in tiles], big=True, tiled=True))
plane_tiles = {**without_strips, 284: (3, 2), 259: (3, 8)}
add("rgb_plane_tiles", write(plane_tiles, [zlib.compress(t[..., c].tobytes()) for c in range(3) for t in tiles], tiled=True))
for order, name in ORDERS.items():
    # Pillow cannot open the big-endian file.
    add(f"bigtiff_{name}", write(tags(2, 8, 3, rows=5), strips, order, big=True), RGB if order == ">" else None)
add("pages", write(tags(1, 8), [R.tobytes()], pages=3))
# Predictor 3: differences of bytes, sorted by significance.
for order, name in ORDERS.items():
    rows = []
    for row in (x * 12.5 + y * 3).astype(np.float32):
        sorted_bytes = np.frombuffer(row.astype(">f4").tobytes(), np.uint8).reshape(-1, 4).T.ravel()
        rows.append(np.diff(sorted_bytes.astype(int), prepend=0).astype(np.uint8).tobytes())
    # Pillow swaps the bytes of compressed big-endian floats twice.
    pixels = np.repeat(np.minimum(x * 12.5 + y * 3, 255).astype(np.uint8)[..., None], 3, axis=-1)
    file = write(tags(1, 32, compression=8, format=3, predictor=3), [zlib.compress(b"".join(rows))], order)
    add(f"float_predictor_{name}", file, pixels if order == ">" else None)
add("float_predictor_2", write(tags(1, 32, compression=8, format=3, predictor=2), [zlib.compress(np.diff((x * 12.5).astype("<f4").view("<u4").astype(np.int64), axis=1, prepend=0).astype("<u4").tobytes())]))
# CMYK.
cmyk = np.stack([R, G, B, A // 2], axis=-1)
add("cmyk", write(tags(5, 8, 4), [cmyk.tobytes()]))
add("cmyk_deflate_planes", write(tags(5, 8, 4, planar=2, compression=8), [zlib.compress(cmyk[..., c].tobytes()) for c in range(4)]))
add("cmyk_16", write(tags(5, 16, 4), [(cmyk.astype(int) * 256 + 99).astype("<u2").tobytes()]))
# YCbCr, with blocks of subsampled chroma.
ycbcr = np.array(Image.fromarray(RGB).convert("YCbCr"))


def blocks(h, v):
    out = b""
    rows, columns = -(-HEIGHT // v) * v, -(-WIDTH // h) * h
    full = np.pad(ycbcr, ((0, rows - HEIGHT), (0, columns - WIDTH), (0, 0)), mode="edge")
    for top in range(0, rows, v):
        for left in range(0, columns, h):
            block = full[top : top + v, left : left + h]
            out += block[..., 0].tobytes() + block[0, 0, 1:].tobytes()
    return out


for h, v in ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (4, 2), (4, 4)):
    sampling = {"t530": (3, [h, v])}
    add(f"ycbcr_{h}{v}", write(tags(6, 8, 3, compression=8, **sampling), [zlib.compress(blocks(h, v))]))
add("ycbcr_default_sampling", write(tags(6, 8, 3, compression=8), [zlib.compress(blocks(2, 2))]))
add("ycbcr_raw", write(tags(6, 8, 3, t530=(3, [1, 1])), [ycbcr.tobytes()]))
studio = (5, [15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1])
add("ycbcr_studio_range", write(tags(6, 8, 3, compression=8, t530=(3, [1, 1])) | {}, [zlib.compress(ycbcr.tobytes())]))
luma = (11, [0.2126, 0.7152, 0.0722])
add("ycbcr_luma", write(tags(6, 8, 3, compression=8, t530=(3, [1, 1]), t529=luma), [zlib.compress(ycbcr.tobytes())]))
reference = (11, [16.0, 235.0, 128.0, 240.0, 128.0, 240.0])
add("ycbcr_reference", write(tags(6, 8, 3, compression=8, t530=(3, [1, 1]), t532=reference), [zlib.compress(ycbcr.tobytes())]))
# Files that Pillow writes with libtiff.
gray, bilevel = Image.fromarray(G), Image.fromarray(G).point(lambda v: 255 * (v > 120)).convert("1")
color = Image.fromarray(RGB)
for compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma"):
    saved("RGB", RGB, f"pillow_rgb_{compression}", compression=compression)
    saved("L", gray, f"pillow_gray_{compression}", compression=compression)
    saved("1", bilevel, f"pillow_1_{compression}", compression=compression)
    if compression != "packbits":
        saved("RGB", RGB, f"pillow_predictor_{compression}", {317: 2}, compression=compression)
for compression in ("group3", "group4"):
    saved("1", bilevel, f"pillow_fax_{compression}", compression=compression)
    saved("1", bilevel, f"pillow_fax_{compression}_black", {262: 0}, compression=compression)
    saved("1", bilevel, f"pillow_fax_{compression}_reversed", {266: 2}, compression=compression)
for mode in ("L", "RGB", "YCbCr"):
    saved(mode, color.convert(mode), f"jpeg_{mode}", compression="jpeg", quality=96)
saved("YCbCr", color.convert("YCbCr"), "jpeg_YCbCr_strips", {278: 8}, compression="jpeg", quality=96, strip_size=1)
saved("YCbCr", color.convert("YCbCr"), "ycbcr_pillow", compression=None)
for mode in ("LA", "P", "RGBA", "RGBX", "CMYK", "I;16", "I", "F"):
    source = color.convert("L").convert(mode) if mode in ("I;16", "I", "F", "LA") else color.convert(mode)
    for compression in (None, "tiff_lzw", "zstd"):
        saved(mode, source, f"pillow_{mode}_{compression}", compression=compression)
# Refused, because the values could not be right.
add_lab = write(tags(8, 8, 3), [RGB.tobytes()])
refuse("refused_lab", add_lab)
refuse("refused_rle", write(tags(0, 1, compression=2), [pack(x + y & 1, 1)]))
refuse("refused_fax_2d", write(tags(0, 1, compression=3, t4=(4, 1)), [bytes(60)]))
refuse("refused_old_jpeg", write(tags(6, 8, 3, compression=6), [bytes(60)]))
cmyk_jpeg = io.BytesIO()
color.convert("CMYK").save(cmyk_jpeg, "TIFF", compression="jpeg")
refuse("refused_jpeg_cmyk", cmyk_jpeg.getvalue())
refuse("refused_jpeg_2000", write(tags(2, 8, 3, compression=34712), [bytes(60)]))
refuse("refused_webp", write(tags(2, 8, 3, compression=50001), [bytes(60)]))
refuse("refused_jpeg_xl", write(tags(2, 8, 3, compression=50002), [bytes(60)]))
refuse("refused_float64", write(tags(1, 64, format=3), [(x * 1.0).astype("<f8").tobytes()]))
refuse("refused_float16", write(tags(1, 16, format=3), [(x * 1.0).astype("<f2").tobytes()]))
refuse("refused_complex", write(tags(1, 64, format=6), [(x * 1j).astype("<c8").tobytes()]))
refuse("refused_int8_rgb", write(tags(2, 8, 3, format=[2, 2, 2]), [RGB.tobytes()]))
refuse("refused_4_bit_rgb", write(tags(2, 4, 3), [pack((RGB // 16).reshape(HEIGHT, -1), 4)]))
refuse("refused_16_bit_palette", write(tags(3, 16, t320=(3, colors)), [white.tobytes()]))
mixed = tags(2, 8, 3) | {258: (3, [5, 6, 5])}
refuse("refused_565", write(mixed, [RGB[..., :2].tobytes()]))
refuse("refused_cfa", write(tags(32803, 8), [R.tobytes()]))
refuse("refused_logluv", write(tags(32845, 8, 3, compression=34677), [RGB.tobytes()]))
refuse("refused_uint32_white", write(tags(0, 32), [big_values.tobytes()]))
refuse("refused_many_tiles", write({**without_strips, 256: (4, 1 << 12), 257: (4, 1 << 12), 322: (3, 1), 323: (3, 1)}, [b"abc"], tiled=True))
refuse("refused_large_tiles", write({**without_strips, 322: (3, 1), 323: (4, 1 << 28)}, [b"abc"] * WIDTH, tiled=True))
refuse("raw_dng", write(tags(2, 8, 3, t50706=(1, [1, 4, 0, 0])), [RGB.tobytes()]))
refuse("raw_nef", write(tags(2, 8, 3, t254=(4, 1), t330=(4, [8])), [RGB.tobytes()]))
# Damaged.
whole = write(tags(2, 8, 3, compression=8), [zlib.compress(RGB.tobytes())])
refuse("damaged_few_strips", write(tags(2, 8, 3, rows=1), [RGB.tobytes()]))
refuse("damaged_short_strip", write(tags(2, 8, 3, compression=8), [zlib.compress(RGB.tobytes()[:-9])]))
refuse("damaged_no_palette", write(tags(3, 8), [R.tobytes()]))
refuse("damaged_zero_tile", write({**without_strips, 322: (3, 0)}, [t.tobytes() for t in tiles], tiled=True))
refuse("damaged_too_few_samples", write(tags(2, 8, 1), [RGB.tobytes()]))
refuse("damaged_ycbcr_length", write(tags(6, 8, 3), [ycbcr.tobytes()]))
refuse("damaged_lzw", write(tags(2, 8, 3, compression=5), [bytes(range(200))]))
refuse("damaged_no_directory", whole[:8])
refuse("damaged_directory_outside", b"II*\0\xff\xff\xff\x7f")

cases.save()
