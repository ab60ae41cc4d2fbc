"""Photos: what is refused and why, what is removed, and that nothing a picture shows is ever changed."""

import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from random import Random
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.ImageCms import ImageCmsProfile, createProfile
from PIL.PngImagePlugin import PngInfo

from sync.images import MAX_SCANS, BadImage, Image, inspect, without_exif

LIMIT = 4 * 1024 * 1024
SECRET = b"38.8977N"
ORIENTATION, DESCRIPTION, GPS, LATITUDE_REFERENCE = 0x0112, 0x010E, 0x8825, 1


@cache
def noise(mode: str, width: int, height: int) -> PIL.Image.Image:
    """A picture that does not compress away to nothing."""
    return PIL.Image.frombytes("RGB", (width, height), Random(width).randbytes(3 * width * height)).convert(mode)


def written(kind: str, picture: PIL.Image.Image | None = None, **options: Any) -> bytes:
    file = BytesIO()
    (picture or noise("RGB", 24, 16)).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int | None = None, order: str = "<") -> PIL.Image.Exif:
    """What a phone writes, the place among it."""
    block = PIL.Image.Exif()
    block.endian = order
    block[DESCRIPTION] = SECRET.decode()
    block.get_ifd(GPS)[LATITUDE_REFERENCE] = "N"
    if orientation is not None:
        block[ORIENTATION] = orientation
    return block


def cleaned(data: bytes) -> bytes:
    return without_exif(data, inspect(data, LIMIT))


def shown(data: bytes) -> tuple[Any, ...]:
    """What a viewer makes of the photo: its pixels and how to paint them."""
    with warnings.catch_warnings(action="ignore"), PIL.Image.open(BytesIO(data)) as picture:
        picture.load()
        palette = picture.getpalette("RGBA") if picture.mode == "P" else None
        kept = {key: picture.info.get(key) for key in ("transparency", "icc_profile", "gamma")}
        return picture.mode, picture.size, picture.tobytes(), palette, kept


def turned(data: bytes) -> int:
    """The EXIF orientation; 1 where it turns nothing."""
    with PIL.Image.open(BytesIO(data)) as picture:
        orientation = picture.getexif().get(ORIENTATION, 1)
    return orientation if 2 <= orientation <= 8 else 1


def refused(data: bytes, max_bytes: int = LIMIT, max_pixels: int = 20_000_000) -> str:
    with pytest.raises(BadImage) as refusal:
        inspect(data, max_bytes, max_pixels)
    return refusal.value.reason


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def with_segments(*segments: bytes) -> bytes:
    """A JPEG with these segments right after its start."""
    return written("JPEG")[:2] + b"".join(segments) + written("JPEG")[2:]


def with_chunks(*chunks: bytes) -> bytes:
    """A PNG with these chunks right after its header."""
    return written("PNG")[:33] + b"".join(chunks) + written("PNG")[33:]


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


END = chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "expected"),
    [(written("JPEG"), Image("image/jpeg", 24, 16)), (written("PNG"), Image("image/png", 24, 16))],
    ids=["JPEG", "PNG"],
)
def test_a_photo_is_what_its_bytes_say(data, expected):
    assert expected == inspect(data, len(data), 24 * 16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"\0" * (LIMIT + 1), "too-large", id="a byte too many"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-jpeg-or-png", id="SVG"),
        pytest.param(b'{"error":{"code":"ImageNotFound"}}', "not-jpeg-or-png", id="an error of Graph"),
        pytest.param(written("GIF"), "not-jpeg-or-png", id="GIF"),
        pytest.param(written("WEBP"), "not-jpeg-or-png", id="WebP"),
        pytest.param(written("TIFF"), "not-jpeg-or-png", id="TIFF"),
        pytest.param(b"\xff\xd8\xff", "does-not-decode", id="a JPEG's first bytes"),
        pytest.param(b"\xff\xd8\xff\xd9", "does-not-decode", id="a JPEG without a picture"),
        pytest.param(b"\xff\xd8\xff\xe0\0\1", "does-not-decode", id="a JPEG segment shorter than its own length"),
        pytest.param(b"\xff\xd8" + b"\xff" * (LIMIT - 2), "does-not-decode", id="a JPEG of fill bytes"),
        pytest.param(written("JPEG").replace(b"\xff\xc4", b"\xff\xdd"), "does-not-decode", id="a JPEG without tables"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "does-not-decode", id="a PNG's first bytes"),
        pytest.param(png(END), "does-not-decode", id="a PNG without a picture"),
        pytest.param(png(header(3, 3), END), "does-not-decode", id="a PNG without pixels"),
        pytest.param(
            png(header(0, 5), chunk(b"IDAT", zlib.compress(b"")), END), "does-not-decode", id="a PNG of width 0"
        ),
        pytest.param(
            png(header(99, 99), chunk(b"IDAT", zlib.compress(b"\0" * 50)), END), "does-not-decode", id="too few pixels"
        ),
        pytest.param(written("PNG").replace(b"IDAT", b"IDAt"), "does-not-decode", id="a PNG with a wrong checksum"),
    ],
)
def test_what_is_not_a_photo_is_refused_with_its_reason(data, reason):
    assert refused(data) == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_cut_short_anywhere_is_refused(kind):
    data = written(kind)

    for length in range(8, len(data)):
        assert refused(data[:length]) == "does-not-decode"


def test_a_png_with_a_damaged_byte_anywhere_is_refused():
    data = written("PNG", dpi=(96, 96))

    for place in range(8, len(data)):
        assert refused(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]) == "does-not-decode"


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
def test_a_photo_with_too_many_pixels_is_refused(kind, options):
    data = written(kind, **options)

    assert refused(data, max_pixels=24 * 16 - 1) == "too-many-pixels"


def test_a_bomb_is_refused_before_it_is_decoded():
    bomb = png(header(60_000, 60_000), chunk(b"IDAT", zlib.compress(b"\0" * 3_000_000)), END)
    start = time.thread_time()

    assert refused(bomb) == "too-many-pixels"
    assert time.thread_time() - start < 1


def test_a_jpeg_with_endless_scans_is_refused():
    """60 bytes buy 12 ms of decoding a picture of 19 megapixels: 4 MB of them would keep a worker for a quarter hour."""
    data = written("JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xc4") : -2]
    more = MAX_SCANS - data.count(b"\xff\xda")

    assert inspect(data[:-2] + last * more + data[-2:], LIMIT).width == 24
    assert refused(data[:-2] + last * (more + 1) + data[-2:]) == "does-not-decode"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_without_metadata_is_not_touched(kind):
    data = written(kind, icc_profile=ImageCmsProfile(createProfile("sRGB")).tobytes(), dpi=(96, 96))

    assert cleaned(data) == data


@pytest.mark.parametrize(
    "needed",
    [
        pytest.param(segment(0xEE, b"Adobe\0d\0\0\0\0\1"), id="colour transform"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\1\1profile"), id="colour profile"),
        pytest.param(b"\xff\xff\xff", id="fill bytes"),
    ],
)
def test_what_a_decoder_needs_stays(needed):
    data = with_segments(needed)

    assert cleaned(data) == data


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((b"cHRM", 32), (b"gAMA", 4), (b"sBIT", 3), (b"sRGB", 1), (b"cICP", 4), (b"mDCV", 24), (b"cLLI", 8)),
        *((b"bKGD", 6), (b"hIST", 2), (b"sPLT", 8), (b"pHYs", 9), (b"tRNS", 6)),
    ],
)
def test_what_says_how_to_show_the_pixels_stays(kind, size):
    data = with_chunks(chunk(kind, b"\1" * size))

    assert cleaned(data) == data


GPS_EXIF = b"Exif\0\0" + exif().tobytes().removeprefix(b"Exif\0\0")
XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + SECRET
METADATA = {
    "EXIF": with_segments(segment(0xE1, GPS_EXIF)),
    "EXIF after JFIF": written("JPEG", exif=exif()),
    "EXIF that is broken": with_segments(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + SECRET)),
    "EXIF that is no TIFF": with_segments(segment(0xE1, b"Exif\0\0" + SECRET)),
    "EXIF of another kind": with_segments(segment(0xE1, GPS_EXIF.replace(b"II*\0", b"II+\0"))),
    "XMP": with_segments(segment(0xE1, XMP)),
    "XMP by Pillow": written("JPEG", xmp=XMP),
    "further pictures": written("MPO", save_all=True, append_images=[noise("RGB", 8, 8)], exif=exif()) + SECRET,
    "IPTC": with_segments(segment(0xED, b"Photoshop 3.0\08BIM" + SECRET)),
    "a comment": written("JPEG", comment=SECRET),
    "another application's profile": with_segments(segment(0xE2, b"INFO\0" + SECRET)),
    "after fill bytes": with_segments(b"\xff\xff\xff" + segment(0xE1, XMP)),
    "a thumbnail": with_segments(segment(0xE0, b"JFXX\0\x10" + SECRET)),
    "an unknown application's": with_segments(segment(0xEB, SECRET)),
    "between the scans": written("JPEG", progressive=True).replace(b"\xff\xda", segment(0xFE, SECRET) + b"\xff\xda"),
    "after the end": written("JPEG") + SECRET,
    "PNG EXIF": written("PNG", exif=exif()),
    "PNG EXIF that is broken": with_chunks(chunk(b"eXIf", SECRET)),
    "PNG text": with_chunks(chunk(b"tEXt", b"Location\0" + SECRET)),
    "PNG compressed text": with_chunks(chunk(b"zTXt", b"Location\0\0" + zlib.compress(SECRET))),
    "PNG international text": with_chunks(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET)),
    "PNG time": with_chunks(chunk(b"tIME", b"\x07\xea\x0b\x16\x06\0\0")),
    "PNG private": with_chunks(chunk(b"prVt", SECRET)),
    "PNG text after the pixels": written("PNG")[:-12] + chunk(b"tEXt", b"Location\0" + SECRET) + END,
    "PNG after the end": written("PNG") + SECRET,
    "PNG animation": written("PNG", save_all=True, append_images=[noise("RGB", 24, 16).rotate(180)]),
    "PNG animation that is broken": with_chunks(chunk(b"acTL", b"\0" * 8)),
}
MARKS = (SECRET, zlib.compress(SECRET), b"Exif", b"eXIf", b"http", b"MPF", b"tIME", b"acTL", b"fcTL", b"fdAT")


@pytest.mark.parametrize("data", METADATA.values(), ids=METADATA)
def test_metadata_goes_and_the_picture_stays(data):
    assert any(mark in data for mark in MARKS)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        clean = cleaned(data)

    assert warned == []
    assert not any(mark in clean for mark in MARKS)
    assert cleaned(clean) == clean
    assert shown(clean) == shown(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_stays_upright(kind, orientation, order):
    data = written(kind, exif=exif(orientation, order))
    clean = cleaned(data)

    with PIL.Image.open(BytesIO(clean)) as picture:
        assert dict(picture.getexif()) == {ORIENTATION: orientation}
    assert SECRET not in clean
    assert shown(clean) == shown(data)
    assert cleaned(clean) == clean


@pytest.mark.parametrize("orientation", [0, 1, 9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_orientation_that_turns_nothing_goes_too(kind, orientation):
    assert cleaned(written(kind, exif=exif(orientation))) == written(kind)


def test_two_photos_with_the_same_pixels_are_the_same_once_cleaned():
    assert cleaned(written("JPEG", exif=exif(), comment=b"first")) == cleaned(written("JPEG", comment=b"second"))


def test_threads_may_share_it():
    photos = [*METADATA.values(), written("JPEG"), written("PNG")] * 20
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(cleaned, photos))

    assert at_once == [cleaned(photo) for photo in photos]


SIZES = st.tuples(st.integers(1, 48), st.integers(1, 48))
PHOTO_EXIF = st.none() | st.builds(exif, st.none() | st.integers(0, 9), st.sampled_from("<>"))


SHARP: dict[str, Any] = {"subsampling": "4:4:4"}


@st.composite
def jpegs(draw):
    """Any JPEG that Pillow can write."""
    options = {
        "quality": draw(st.integers(1, 100)),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
        **draw(
            st.sampled_from([{"subsampling": "4:2:2"}, {"subsampling": "4:2:0"}, SHARP, SHARP | {"keep_rgb": True}])
        ),
        "restart_marker_blocks": draw(st.integers(0, 4)),
        "dpi": draw(st.none() | st.just((300, 300))),
        "comment": draw(st.binary(max_size=99)),
        "exif": draw(PHOTO_EXIF),
        "icc_profile": draw(st.none() | st.binary(min_size=1, max_size=70_000)),
    }
    picture = noise(draw(st.sampled_from(["1", "L", "RGB", "CMYK", "YCbCr"])), *draw(SIZES))
    return written("JPEG", picture, **{name: value for name, value in options.items() if value is not None})


@st.composite
def pngs(draw):
    """Any PNG that Pillow can write."""
    texts = PngInfo()
    for key, text in draw(st.dictionaries(st.sampled_from(["Author", "Title"]), st.text("abc", max_size=9))).items():
        texts.add_text(key, text, zip=draw(st.booleans()))
    options = {
        "pnginfo": texts,
        "compress_level": draw(st.integers(0, 9)),
        "dpi": draw(st.none() | st.just((300, 300))),
        "exif": draw(PHOTO_EXIF),
        "icc_profile": draw(st.none() | st.just(ImageCmsProfile(createProfile("sRGB")).tobytes())),
        "transparency": draw(st.none() | st.just(0)),
    }
    mode = draw(
        st.sampled_from(["1", "L", "LA", "P", "RGBA", "I;16"] if options["transparency"] is None else ["L", "P"])
    )
    picture = noise(mode, *draw(SIZES))
    return written("PNG", picture, **{name: value for name, value in options.items() if value is not None})


@settings(deadline=None, max_examples=200)
@given(jpegs() | pngs())
def test_every_photo_survives_pixel_for_pixel(data):
    clean = cleaned(data)

    assert shown(clean) == shown(data)
    assert turned(clean) == turned(data)
    assert len(clean) <= len(data)
    assert cleaned(clean) == clean


@st.composite
def damaged(draw):
    """A photo with a few places overwritten, cut out or blown up."""
    data = bytearray(draw(st.sampled_from([*METADATA.values(), written("PNG"), written("JPEG", progressive=True)])))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(data)


def checksummed(data: bytes) -> bytes:
    """The same, every chunk given the checksum it should have, so that the damage reaches the decoder."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append(chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return png(*chunks)


ANYTHING = st.binary() | st.binary().map(lambda data: b"\xff\xd8\xff" + data) | st.binary().map(png)


@settings(deadline=None, max_examples=1000)
@given(ANYTHING | damaged() | damaged().map(checksummed))
def test_no_bytes_do_worse_than_being_refused(data):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            clean = cleaned(data)
        except BadImage as refusal:
            assert refusal.reason in {"empty", "not-jpeg-or-png", "too-many-pixels", "does-not-decode"}
        else:
            assert inspect(clean, LIMIT) == inspect(data, LIMIT)

    assert warned == []
