"""Pages of a collection: sizes, opaque tokens and links (Learn: Paging Microsoft Graph data in your app)."""

import base64
import binascii
import json
import re
import zlib
from typing import Any
from urllib.parse import quote

from local.cloud.odata import bad, unsupported
from local.cloud.protocol import Call, Refused


def page_size(call: Call, default: int, maximum: int) -> int:
    top = call.query.get("$top", str(default))
    if not top.isdecimal() or not 1 <= int(top) <= maximum:
        raise unsupported(f"Invalid page size specified: '{top}'. Must be between 1 and {maximum} inclusive.")
    return int(top)


def preferred_page_size(call: Call) -> int | None:
    """What `Prefer: odata.maxpagesize=N` asks for."""
    found = re.search(r"odata\.maxpagesize=(\d+)", call.headers.get("prefer", ""))
    return max(1, int(found[1])) if found else None


def seal(content: Any) -> str:
    """An opaque token."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode(), 1)).rstrip(b"=").decode()


def unseal(token: str) -> Any:
    """What `seal` was given, or Refused."""
    try:
        return json.loads(zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise bad("Badly formed token.") from error


def link(call: Call, path: str, options: dict[str, str]) -> str:
    """A full URL of the same Graph that the client called."""
    query = "&".join(f"{name}={quote(value, safe=',')}" for name, value in options.items())
    return f"{call.base}/{path}?{query}"


def untidy(call: Call) -> bool:
    """Whether this page shall be an empty one that has a next page."""
    return call.tenant.faults.untidy_paging and call.tenant.rng.random() < 0.2


def page_token(call: Call, content: Any) -> str:
    """A page token; one that is handed out on a retried request fails later where the tenant's faults say so."""
    broken = call.retried and call.tenant.faults.retried_page_links_fail
    return seal(["page", call.tenant.expiry.issue(), broken, content])


def open_page_token(call: Call, token: str) -> Any:
    """The content, or Refused where the token has expired or is not one."""
    match unseal(token):
        case ["page", int(serial), bool(broken), content]:
            expiry = call.tenant.expiry
            if broken:
                raise Refused(400, "DirectoryPageTokenNotFoundException", "The page token was not found.")
            if serial <= expiry.page_before:
                raise Refused(400, expiry.page_code, "The specified page token value has expired and cannot be used.")
            return content
    raise bad("Badly formed token.")
