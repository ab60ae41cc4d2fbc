"""A photo's bytes: whether they really are a picture, and the same picture without what else a camera wrote into it.

The bytes decide, whatever content type came with them. Nothing here keeps state, so threads may share it.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

# A progressive JPEG has about ten scans. Each costs a pass over the whole picture, however few bytes it takes.
MAX_SCANS = 100

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"


class BadImage(ValueError):
    """These bytes are not a photo to keep.

    `reason` is stable: empty, too-large, not-jpeg-or-png, too-many-pixels or does-not-decode.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Image:
    """What a photo's bytes turned out to be; width and height in pixels, before any orientation is applied."""

    content_type: Literal["image/jpeg", "image/png"]
    width: int
    height: int


def inspect(data: bytes, max_bytes: int, max_pixels: int = 20_000_000) -> Image:
    """What the photo `data` is, proved by decoding it after its sizes were found within bounds; else BadImage."""
    if not data:
        raise BadImage("empty")
    if len(data) > max_bytes:
        raise BadImage("too-large")
    if data.startswith(_JPEG):
        return Image("image/jpeg", *_decode(JpegImageFile, b"".join(_jpeg_parts(data)), max_pixels))
    if data.startswith(_PNG):
        return Image("image/png", *_decode(PngImageFile, b"".join(_png_parts(data)), max_pixels))
    raise BadImage("not-jpeg-or-png")


def without_exif(data: bytes, image: Image) -> bytes:
    """The photo `data`, which inspect() found to be `image`, with its pixels but without its metadata.

    EXIF (GPS among it), XMP, IPTC, comments, texts, times, further pictures and whatever follows the picture go; the
    colour profile and, of the EXIF, the orientation stay. The very same bytes where there is nothing to remove.
    """
    return b"".join(_jpeg_parts(data) if image.content_type == "image/jpeg" else _png_parts(data))


def _decode(kind: type[JpegImageFile | PngImageFile], data: bytes, max_pixels: int) -> tuple[int, int]:
    # Not Image.open: that warns about sizes below our own limit, and takes a JPEG with several pictures for an MPO.
    try:
        with kind(BytesIO(data)) as picture:
            size = picture.size
            if size[0] * size[1] <= max_pixels:
                picture.load()
                return size
    except Exception as error:
        raise BadImage("does-not-decode") from error
    raise BadImage("too-many-pixels")


# The next marker: bytes of a scan are stuffed with zeros or are restart markers, and 0xff may be repeated as fill.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_SCAN, _END, _EXIF = 0xDA, 0xD9, 0xE1
# Application segments and comments: of these a decoder needs the pixels' shape, colour profile and colour transform.
_EXTRAS = (*range(0xE0, 0xF0), 0xFE)
_NEEDED = ((0xE0, b"JFIF\0"), (0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe"))


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    """The segments of a JPEG up to its end that are part of the picture (ITU-T T.81, annex B)."""
    position, scans = 2, 0
    yield data[:position]
    while found := _MARKER.search(data, position):
        yield data[position : found.start()]
        start, marker = found.start(), found[1][0]
        if marker == _END:
            yield data[start : found.end()]
            return
        scans += marker == _SCAN
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        if scans > MAX_SCANS:
            break
        yield _segment(marker, data[start:position])
    raise BadImage("does-not-decode")


def _segment(marker: int, segment: bytes) -> bytes:
    payload = segment[4:]
    if marker == _EXIF and payload.startswith(b"Exif\0\0"):
        tiff = _only_orientation(payload[6:])
        return b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff if tiff else b""
    needed = any(marker == needed and payload.startswith(name) for needed, name in _NEEDED)
    return segment if needed or marker not in _EXTRAS else b""


# The chunks that say how to show the pixels (Portable Network Graphics, third edition, section 11).
_SHOWN = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"),
    *(b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"sPLT", b"pHYs"),
}


def _png_parts(data: bytes) -> Iterator[bytes]:
    """The chunks of a PNG up to its end that are part of the picture; of an animated one, the still picture."""
    yield data[:8]
    position, kind = 8, b""
    while kind != b"IEND":
        kind = data[position + 4 : position + 8]
        length = int.from_bytes(data[position : position + 4], "big")
        chunk = data[position : position + length + 12]
        if chunk != _chunk(kind, chunk[8:-4]):  # cut short, or damaged
            raise BadImage("does-not-decode")
        if kind in _SHOWN:
            yield chunk
        elif kind == b"eXIf" and (tiff := _only_orientation(chunk[8:-4])):
            yield _chunk(kind, tiff)
        position += length + 12


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION = 0x0112


def _only_orientation(tiff: bytes) -> bytes:
    """An EXIF block with the orientation of the block `tiff` alone, or nothing where it has none or is upright."""
    try:
        order = _BYTE_ORDERS[tiff[:4]]
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if (tag, kind, count) == (_ORIENTATION, 3, 1) and value in range(2, 9):
                return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, value, 0, 0)
    except (KeyError, struct.error):
        pass  # a block that cannot be read says nothing about orientation
    return b""
