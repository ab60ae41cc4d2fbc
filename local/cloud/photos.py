"""Profile photos (Learn: Get profilePhoto): real JPEGs, drawn when first asked for.

The picture is one of a few drawings per size; a comment segment with the user's id and the photo's version makes
every user's bytes their own.
"""

import hashlib
import io
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw

from local.cloud.kinds import USER
from local.cloud.protocol import Answer, Call, Refused, Route
from local.cloud.users import Photo, User

READ_PHOTOS = frozenset({"ProfilePhoto.Read.All", "User.Read.All", "User.ReadWrite.All"})
SIZES = [48, 64, 96, 120, 240, 360, 432, 504, 648]
DRAWINGS = 24


def get_photo(call: Call, key: str, size: str = "") -> Answer:
    """Metadata of one size, or of the largest."""
    user, photo = _photo(call, key)
    side = _side(photo, size)
    place = f"photos('{size}')" if size else "photo"
    context = f"{call.base}/$metadata#users('{user.id}')/{place}/$entity"
    return Answer(body={"@odata.context": context} | _metadata(user, photo, side))


def list_photos(call: Call, key: str) -> Answer:
    user, photo = _photo(call, key)
    value = [_metadata(user, photo, side) for side in SIZES if side <= photo.longest]
    return Answer(body={"@odata.context": f"{call.base}/$metadata#users('{user.id}')/photos", "value": value})


def get_bytes(call: Call, key: str, size: str = "") -> Answer:
    user, photo = _photo(call, key)
    content = photo_bytes(user.id, photo, _side(photo, size))
    return Answer(body=content, headers={"ETag": etag(user.id, photo)}, content_type=photo.content_type)


def photo_bytes(user_id: str, photo: Photo, side: int) -> bytes:
    if photo.raw is not None:
        return photo.raw
    stamp = f"{user_id} v{photo.version}".encode()
    drawing = draw(int.from_bytes(hashlib.sha256(stamp).digest()[:4]) % DRAWINGS, side)
    comment = b"\xff\xfe" + (len(stamp) + 2).to_bytes(2) + stamp
    first = 4 + int.from_bytes(drawing[4:6])  # the JFIF segment has to stay the first one
    return drawing[:first] + comment + drawing[first:]


@lru_cache(maxsize=DRAWINGS * len(SIZES))
def draw(number: int, side: int) -> bytes:
    """A face on a coloured ground, as JPEG."""
    hue = number * 360 // DRAWINGS
    image = Image.new("RGB", (side, side), f"hsl({hue}, 55%, 72%)")
    pen = ImageDraw.Draw(image)
    pen.ellipse((side * 0.1, side * 0.72, side * 0.9, side * 1.5), fill=f"hsl({(hue + 150) % 360}, 45%, 40%)")
    pen.ellipse(
        (side * 0.3, side * 0.2, side * 0.7, side * 0.7),
        fill=f"hsl({20 + number % 5 * 6}, 50%, {45 + number % 4 * 10}%)",
    )
    pen.arc((side * 0.4, side * 0.4, side * 0.6, side * 0.6), 20, 160, fill="black", width=max(1, side // 60))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def etag(user_id: str, photo: Photo) -> str:
    content = photo.raw if photo.raw is not None else b""
    digest = hashlib.sha256(f"{user_id} {photo.version} ".encode() + content).hexdigest()
    return f'"{digest[:8].upper()}"'


def _photo(call: Call, key: str) -> tuple[User, Photo]:
    user: User = USER.find(call, key)
    if user.photo is None:
        raise _not_found()
    return user, user.photo


def _side(photo: Photo, size: str) -> int:
    """The side of the asked size in pixels; the largest one where none is asked for."""
    sides = {f"{side}x{side}": side for side in SIZES if side <= photo.longest}
    if not size:
        return max(sides.values())
    if size not in sides:
        raise _not_found()
    return sides[size]


def _not_found() -> Refused:
    thrown = "Microsoft.Fast.Profile.Core.Exception.ImageNotFoundException"
    return Refused(404, "ImageNotFound", f"Exception of type '{thrown}' was thrown.")


def _metadata(user: User, photo: Photo, side: int) -> dict[str, Any]:
    return {
        "@odata.mediaContentType": photo.content_type,
        "@odata.mediaEtag": etag(user.id, photo),
        "id": f"{side}x{side}",
        "width": side,
        "height": side,
    }


ROUTES = [
    Route("GET", "users/{id}/photo/$value", get_bytes, READ_PHOTOS, mailbox=True),
    Route("GET", "users/{id}/photo", get_photo, READ_PHOTOS, mailbox=True),
    Route("GET", "users/{id}/photos/{size}/$value", get_bytes, READ_PHOTOS, mailbox=True),
    Route("GET", "users/{id}/photos/{size}", get_photo, READ_PHOTOS, mailbox=True),
    Route("GET", "users/{id}/photos", list_photos, READ_PHOTOS, mailbox=True),
]
