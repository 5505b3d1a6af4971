"""Writes others.safetensors.gz: BMP, PNM, PNG and WebP files of many kinds, and the pixels that Pillow 13 gives.

    python others.py    # in an environment with pillow, numpy and safetensors
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from archive import Cases

WIDTH, HEIGHT = 21, 13
x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
R = ((x * 11 + 20) % 256).astype(np.uint8)
G = ((y * 17 + 40 + 90 * (x > 12)) % 256).astype(np.uint8)
B = ((255 - x * 5 - y * 6) % 256).astype(np.uint8)
A = ((x * 12 + y * 3) % 256).astype(np.uint8)
RGB, RGBA = np.stack([R, G, B], axis=-1), np.stack([R, G, B, A], axis=-1)
cases = Cases("others")


def add(name, data, shift=None):
    """Adds a case. Gray of 16 bits is shifted, which is a deliberate difference: Pillow clamps it."""
    image = Image.open(io.BytesIO(data))
    if shift is None:
        cases.add(name, data, np.array(image.convert("RGB")))
    else:
        values = (np.array(image).astype(int) >> shift).astype(np.uint8)
        cases.add(name, data, np.repeat(values[..., None], 3, axis=-1))


def pack(values, bits, align=1):
    rows = []
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % (8 * align))
        rows.append(bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return rows


def bmp(rows, bits, compression=0, palette=b"", masks=b"", header=40, top_down=False, colors=0):
    """Returns a BMP. `rows` are from top to bottom, or the bytes of run lengths."""
    if not isinstance(rows, bytes):
        rows = b"".join(rows if top_down else rows[::-1])
    height = -HEIGHT if top_down else HEIGHT
    if header == 12:
        info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
        rest = masks.ljust(header - 40, b"\0")[: header - 40] if header > 40 else b""
        info += rest
        masks = masks if header == 40 else b""
    offset = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + masks + palette + rows


def padded(row):
    return row + bytes(-len(row) % 4)


# BMP of 16 bits: every level of each channel.
five = np.stack([(x + y * WIDTH) % 32, (x * 3 + y) % 32, (31 - x - y) % 32], axis=-1)
six = five.copy()
six[..., 1] = (x + y * WIDTH) % 64
rows_555 = [padded(row.astype("<u2").tobytes()) for row in five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]]
rows_565 = [padded(row.astype("<u2").tobytes()) for row in six[..., 0] << 11 | six[..., 1] << 5 | six[..., 2]]
masks_555, masks_565 = struct.pack("<III", 0x7C00, 0x3E0, 0x1F), struct.pack("<III", 0xF800, 0x7E0, 0x1F)
add("bmp_16_rgb", bmp(rows_555, 16))
add("bmp_16_555", bmp(rows_555, 16, 3, masks=masks_555))
add("bmp_16_565", bmp(rows_565, 16, 3, masks=masks_565))
add("bmp_16_565_top_down", bmp(rows_565, 16, 3, masks=masks_565, top_down=True))
for header in (52, 56, 108, 124):
    add(f"bmp_16_565_v{header}", bmp(rows_565, 16, 3, masks=masks_565, header=header))
    add(f"bmp_16_555_v{header}", bmp(rows_555, 16, 3, masks=masks_555, header=header))
# Other depths, with palettes.
colors = lambda count, size=4: b"".join(bytes([i * 7 % 256, i * 13 % 256, i * 29 % 256, 0][:size]) for i in range(count))
for bits in (1, 4, 8):
    values = x * 3 + y * 5 & (1 << bits) - 1
    rows = pack(values, bits, 4)
    add(f"bmp_{bits}", bmp(rows, bits, palette=colors(1 << bits), colors=1 << bits))
    add(f"bmp_{bits}_no_count", bmp(rows, bits, palette=colors(1 << bits)))
    add(f"bmp_{bits}_top_down", bmp(rows, bits, palette=colors(1 << bits), top_down=True))
    add(f"bmp_{bits}_os2", bmp(rows, bits, palette=colors(1 << bits, 3), header=12))
    add(f"bmp_{bits}_gray", bmp(rows, bits, palette=b"".join(bytes([i * 255 // ((1 << bits) - 1)] * 3 + [0]) for i in range(1 << bits))))
small = x + y & 7
add("bmp_8_small_palette", bmp(pack(small, 8, 4), 8, palette=colors(8), colors=8))
bgr, bgrx = RGB[..., ::-1], RGBA[..., [2, 1, 0, 3]]
add("bmp_24", bmp([padded(row.tobytes()) for row in bgr], 24))
add("bmp_24_top_down", bmp([padded(row.tobytes()) for row in bgr], 24, top_down=True))
add("bmp_24_os2", bmp([padded(row.tobytes()) for row in bgr], 24, header=12))
add("bmp_32", bmp([row.tobytes() for row in bgrx], 32))
masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
add("bmp_32_alpha", bmp([row.tobytes() for row in bgrx], 32, 3, masks=masks, header=108))
add("bmp_32_rgba", bmp([row.tobytes() for row in RGBA], 32, 3, masks=struct.pack("<IIII", 0xFF, 0xFF00, 0xFF0000, 0xFF000000), header=124))
# Run lengths.
indices = (x // 4 + y) % 16


def rle(values, four):
    out = b""
    for row in values[::-1]:
        start = 0
        while start < len(row):
            end = start
            while end < len(row) and row[end] == row[start]:
                end += 1
            value = int(row[start])
            out += bytes([end - start, value * 17 if four else value])
            start = end
        out += b"\0\0"
    return out[:-2] + b"\0\1"


add("bmp_rle8", bmp(rle(indices, False), 8, 1, palette=colors(256)))
add("bmp_rle4", bmp(rle(indices, True), 4, 2, palette=colors(16)))
absolute = b"".join(b"\0" + bytes([WIDTH]) + row.astype(np.uint8).tobytes() + bytes(WIDTH % 2) + b"\0\0" for row in indices[::-1])
add("bmp_rle8_absolute", bmp(absolute[:-2] + b"\0\1", 8, 1, palette=colors(256)))

# PNM with every maximum, in text and binary.
for maxval in (1, 15, 100, 254, 255, 256, 1000, 4095, 65535):
    step = max(1, maxval // 200)
    gray = (x * 31 + y * 17 * step) % (maxval + 1)
    rgb = np.stack([gray, (x * 7 * step + y) % (maxval + 1), (maxval - gray)], axis=-1)
    kind = np.dtype("u1" if maxval < 256 else ">u2")
    shift = 8 if maxval > 255 else None
    for name, values, text, binary in (("pgm", gray, b"P2", b"P5"), ("ppm", rgb, b"P3", b"P6")):
        head = b"\n# a comment\n%d %d\n%d\n" % (WIDTH, HEIGHT, maxval)
        words = b"\n".join(b" ".join(b"%d" % v for v in row.ravel()) for row in values)
        add(f"{name}_{maxval}_text", text + head + words + b"\n", shift if name == "pgm" else None)
        add(f"{name}_{maxval}_binary", binary + head + values.astype(kind).tobytes(), shift if name == "pgm" else None)
bits = x + y * 3 & 1
add("pbm_text", b"P1\n%d %d\n" % (WIDTH, HEIGHT) + b"\n".join(b" ".join(b"%d" % v for v in row) for row in bits) + b"\n")
add("pbm_text_packed", b"P1 %d %d\n" % (WIDTH, HEIGHT) + b"\n".join(b"".join(b"%d" % v for v in row) for row in bits))
add("pbm_binary", b"P4 %d %d\n" % (WIDTH, HEIGHT) + b"".join(pack(bits, 1)))
add("ppm_crlf", b"P6\r\n%d\t%d\r\n255\n" % (WIDTH, HEIGHT) + RGB.tobytes())


# PNG of all color types and depths, with transparency and interlacing.
def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values, color, depth, palette=None, transparent=None, interlaced=False):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    values = values.reshape(HEIGHT, WIDTH, channels)

    def scanlines(part):
        if part.size == 0:
            return b""
        part = part.reshape(part.shape[0], -1)
        rows = [row.astype(">u2").tobytes() for row in part] if depth == 16 else pack(part, depth)
        return b"".join(b"\0" + row for row in rows)

    if interlaced:
        passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        data = b"".join(scanlines(values[top::down, left::right]) for top, left, down, right in passes)
    else:
        data = scanlines(values)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color, 0, 0, interlaced))
    if palette is not None:
        out += chunk(b"PLTE", palette)
    if transparent is not None:
        out += chunk(b"tRNS", transparent)
    return out + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


entries = bytes(i * f % 256 for i in range(256) for f in (7, 13, 29))
for interlaced in (False, True):
    suffix = "_interlaced" if interlaced else ""
    for depth in (1, 2, 4, 8, 16):
        top = (1 << depth) - 1
        gray = (x * 257 + y * 83) & top
        shift = 8 if depth == 16 else None
        add(f"png_gray_{depth}{suffix}", png(gray, 0, depth, interlaced=interlaced), shift)
        add(f"png_gray_{depth}_transparent{suffix}", png(gray, 0, depth, transparent=struct.pack(">H", int(gray[0, 0])), interlaced=interlaced), shift)
        if depth <= 8:
            palette = entries[: 3 << depth]
            add(f"png_palette_{depth}{suffix}", png(gray, 3, depth, palette, interlaced=interlaced))
            add(f"png_palette_{depth}_transparent{suffix}", png(gray, 3, depth, palette, bytes([0, 128]), interlaced=interlaced))
        if depth >= 8:
            scale = lambda values: values.astype(int) * (257 if depth == 16 else 1) ^ (x[..., None] if depth == 16 else 0)
            add(f"png_gray_alpha_{depth}{suffix}", png(scale(np.stack([G, A], axis=-1)), 4, depth, interlaced=interlaced))
            add(f"png_rgb_{depth}{suffix}", png(scale(RGB), 2, depth, interlaced=interlaced))
            key = struct.pack(">HHH", *(int(v) for v in scale(RGB)[0, 0]))
            add(f"png_rgb_{depth}_transparent{suffix}", png(scale(RGB), 2, depth, transparent=key, interlaced=interlaced))
            add(f"png_rgba_{depth}{suffix}", png(scale(RGBA), 6, depth, interlaced=interlaced))

# WebP.
for name, values in (("rgb", RGB), ("rgba", RGBA)):
    image = Image.fromarray(values)
    second = Image.fromarray(255 - values)
    for kind, options in (("lossless", {"lossless": True, "exact": True}), ("lossy", {"quality": 90}), ("lossy_low", {"quality": 20})):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **options)
        add(f"webp_{name}_{kind}", buffer.getvalue())
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", save_all=True, append_images=[second], **options)
        add(f"webp_{name}_{kind}_animated", buffer.getvalue())

cases.save()
