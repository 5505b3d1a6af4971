"""Writes orientation.safetensors.gz: images with an orientation in their metadata, and the pixels that Pillow 13 gives
after `ImageOps.exif_transpose`.

    python orientation.py    # in an environment with pillow, numpy and safetensors
"""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from archive import Cases

warnings.simplefilter("ignore")

x, y = np.meshgrid(np.arange(16), np.arange(12))
IMAGE = Image.fromarray(np.stack([x * 16, y * 20, 255 - x * 8 - y * 8], axis=-1).astype(np.uint8))
BIG, LITTLE = ">", "<"
cases = Cases("orientation")


def exif(value, kind=3, order=LITTLE, count=1, prefix=b"", before=(), tag=0x112):
    """EXIF metadata with one tag after the entries `before`."""
    formats = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q"}
    if kind in (5, 10):
        values = struct.pack(order + "ii", value * 3, 3) * count
    else:
        values = struct.pack(order + formats[kind] * count, *[value] * count)
    entries = [*before, (tag, kind, count, values)]
    data = 8 + 2 + 12 * len(entries) + 4
    directory, tail = struct.pack(order + "H", len(entries)), b""
    for entry_tag, entry_kind, entry_count, entry_values in entries:
        directory += struct.pack(order + "HHI", entry_tag, entry_kind, entry_count)
        if len(entry_values) <= 4:
            directory += entry_values.ljust(4, b"\0")
        else:
            directory += struct.pack(order + "I", data + len(tail))
            tail += entry_values
    head = (b"II" if order == LITTLE else b"MM") + struct.pack(order + "HI", 42, 8)
    return prefix + head + directory + bytes(4) + tail


def xmp(value, element=False):
    if element:
        inner = f"<rdf:Description><tiff:Orientation>{value}</tiff:Orientation></rdf:Description>"
    else:
        inner = f'<rdf:Description tiff:Make="x" tiff:Orientation="{value}"/>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>{inner}</rdf:RDF></x:xmpmeta>'.encode()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(before=b"", after=b"", animated=False):
    buffer = io.BytesIO()
    IMAGE.save(buffer, "PNG")
    plain = buffer.getvalue()
    start, end = plain.index(b"IDAT") - 4, len(plain) - 12
    return plain[:start] + before + plain[start:end] + after + plain[end:]


def jpeg(*segments):
    buffer = io.BytesIO()
    IMAGE.save(buffer, "JPEG", quality=98, subsampling=0)
    plain = buffer.getvalue()
    parts = b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments)
    return plain[:2] + parts + plain[2:]


def webp(exif=None, xmp=None, flags=None):
    buffer = io.BytesIO()
    IMAGE.save(buffer, "WEBP", lossless=True)
    pixels = buffer.getvalue()[12:]
    if flags is None:
        flags = (8 if exif is not None else 0) | (4 if xmp is not None else 0)
    size = [(n - 1).to_bytes(3, "little") for n in IMAGE.size]
    body = b"WEBPVP8X" + struct.pack("<I4B", 10, flags, 0, 0, 0) + size[0] + size[1] + pixels
    for name, data in ((b"EXIF", exif), (b"XMP ", xmp)):
        if data is not None:
            body += name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(orientation=None, xmp=None, compression=None):
    info = {}
    if orientation is not None:
        info[0x112] = orientation
    if xmp is not None:
        info[700] = xmp
    buffer = io.BytesIO()
    IMAGE.save(buffer, "TIFF", tiffinfo=info, compression=compression)
    return buffer.getvalue()


def profile(data, name=b"exif"):
    text = data.hex()
    lines = "\n".join(text[i : i + 72] for i in range(0, len(text), 72))
    return b"\n%s\n%8d\n%s\n" % (name, len(data), lines.encode())


def text(kind, key, data, compressed=True):
    if kind == b"tEXt":
        return chunk(kind, key + b"\0" + data)
    if kind == b"zTXt":
        return chunk(kind, key + b"\0\0" + zlib.compress(data))
    flag, data = (b"\1\0", zlib.compress(data)) if compressed else (b"\0\0", data)
    return chunk(kind, key + b"\0" + flag + b"en\0key\0" + data)


def add(name, data):
    """Adds a case, with Pillow's upright pixels."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    cases.add(name, data, np.array(image.convert("RGB")))


HEAD = b"Exif\0\0"
XAP = b"http://ns.adobe.com/xap/1.0/\0"
RAW, XML = b"Raw profile type exif", b"XML:com.adobe.xmp"
for value in range(1, 9):
    add(f"png_exif_before_{value}", png(before=chunk(b"eXIf", exif(value))))
    add(f"png_exif_after_{value}", png(after=chunk(b"eXIf", exif(value, order=BIG))))
    add(f"webp_{value}", webp(exif(value)))
    add(f"tiff_{value}", tiff(value, compression="tiff_lzw" if value % 2 else None))
    add(f"jpeg_{value}", jpeg(HEAD + exif(value, order=BIG)))
    add(f"xmp_jpeg_{value}", jpeg(XAP + xmp(value, element=value % 2 == 0)))
for kind in (1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16):
    for order, name in ((LITTLE, "little"), (BIG, "big")):
        add(f"type_{kind}_{name}", jpeg(HEAD + exif(6, kind, order)))
        add(f"type_{kind}_{name}_twice", jpeg(HEAD + exif(6, kind, order, count=2)))
make = (0x10F, 2, 12, b"camera maker")
add("jpeg_tag_after_others", jpeg(HEAD + exif(6, before=[(0x100, 4, 1, b"\0\0\0\x10"), make])))
add("jpeg_first_of_two_tags", jpeg(HEAD + exif(6, before=[(0x112, 3, 1, b"\3\0")])))
add("jpeg_unknown_type_first", jpeg(HEAD + exif(6, before=[(0x112, 99, 1, b"\3\0")])))
add("jpeg_prefix_twice", jpeg(HEAD * 2 + exif(6)))
whole = exif(6, before=[make])
add("segments_two", jpeg(HEAD + whole[:30], HEAD + whole[30:]))
add("segments_three", jpeg(HEAD + whole[:10], XAP + xmp(3), HEAD + whole[10:40], HEAD + whole[40:]))
add("segments_last_xmp", jpeg(XAP + xmp(3), XAP + xmp(6)))
add("segments_exif_over_xmp", jpeg(XAP + xmp(3), HEAD + exif(6)))
add("segments_xmp_without_tag_in_exif", jpeg(HEAD + exif(1, tag=0x10E), XAP + xmp(6)))
add("segments_truncated_directory", jpeg(HEAD + exif(6, before=[make])[:40]))
for value in (0, 9, 77, 65535):
    add(f"invalid_jpeg_{value}", jpeg(HEAD + exif(value), XAP + xmp(6)))
    add(f"invalid_png_{value}", png(after=chunk(b"eXIf", exif(value))))
add("invalid_xmp_9", jpeg(XAP + xmp(9)))
add("invalid_xmp_text", jpeg(XAP + xmp("left")))
for kind in (b"tEXt", b"zTXt", b"iTXt"):
    name = kind.decode()
    for place in ("before", "after"):
        add(f"png_profile_{name}_{place}", png(**{place: text(kind, RAW, profile(HEAD + exif(6)))}))
        add(f"xmp_png_{name}_{place}", png(**{place: text(kind, XML, xmp(8, element=place == "after"))}))
add("png_profile_without_prefix", png(after=text(b"zTXt", RAW, profile(exif(5, order=BIG)))))
add("png_profile_last", png(text(b"zTXt", RAW, profile(exif(3))), text(b"tEXt", RAW, profile(exif(6)))))
add("png_profile_after_exif", png(chunk(b"eXIf", exif(6)), text(b"zTXt", RAW, profile(exif(3)))))
add("png_profile_before_exif", png(text(b"zTXt", RAW, profile(exif(3))), chunk(b"eXIf", exif(6))))
add("png_profile_of_another_name", png(text(b"zTXt", b"Raw profile type APP1", profile(exif(6)))))
add("xmp_png_uncompressed", png(text(b"iTXt", XML, xmp(6), compressed=False)))
add("xmp_png_with_exif", png(text(b"iTXt", XML, xmp(6)), chunk(b"eXIf", exif(3))))
add("png_exif_last_of_two", png(chunk(b"eXIf", exif(3)), chunk(b"eXIf", exif(6))))
add("png_exif_type_long", png(after=chunk(b"eXIf", exif(6, 4, BIG))))
add("webp_with_prefix", webp(HEAD + exif(6)))
add("webp_big_endian_long", webp(exif(6, 4, BIG)))
add("webp_without_flag", webp(exif(6), flags=0))
add("xmp_webp", webp(xmp=xmp(6)))
add("xmp_webp_element", webp(xmp=xmp(7, element=True)))
add("xmp_webp_with_exif", webp(exif(8), xmp(3)))
add("xmp_webp_without_flag", webp(xmp=xmp(6), flags=0))
add("xmp_tiff", tiff(xmp=xmp(6)))
add("xmp_tiff_element", tiff(xmp=xmp(8, element=True)))
add("xmp_tiff_with_tag", tiff(6, xmp(3)))
frames = io.BytesIO()
IMAGE.save(frames, "PNG", save_all=True, append_images=[IMAGE.rotate(90)], exif=exif(6))
add("png_exif_animated", frames.getvalue())

cases.save()
