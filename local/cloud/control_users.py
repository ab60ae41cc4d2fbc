"""The users' part of the control endpoint; control.py lists its calls."""

import base64
from collections.abc import Callable
from typing import Any

from aiohttp import web

from local.cloud.control_directory import create, patch, shown
from local.cloud.model import Model
from local.cloud.mutation import Mutation, mutate
from local.cloud.photos import SIZES, etag, photo_bytes
from local.cloud.tenants import Tenant
from local.cloud.users import User

Find = Callable[[web.Request], Tenant]


class NewPhoto(Model):
    longest: int = 648
    base64: str | None = None
    content_type: str = "image/jpeg"


def routes(tenant_of: Find) -> list[web.RouteDef]:
    users = _Users(tenant_of)
    every = "/tenants/{tenant}/users"
    one = every + "/{user}"
    return [
        web.get(every, users.list_all),
        web.post(every, users.create),
        web.get(one, users.get),
        web.patch(one, users.patch),
        web.delete(one, users.delete),
        web.post(one + "/restore", users.restore),
        web.post(one + "/purge", users.purge),
        web.get(one + "/photo", users.get_photo),
        web.put(one + "/photo", users.put_photo),
        web.delete(one + "/photo", users.delete_photo),
        web.post("/tenants/{tenant}/mutate", users.mutate),
    ]


class _Users:
    def __init__(self, tenant_of: Find) -> None:
        self._tenant = tenant_of

    def _user(self, request: web.Request) -> User:
        return self._tenant(request).users.stored(request.match_info["user"])

    async def list_all(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        shown = [_shown(user) for user in self._tenant(request).users.members if not user.purged]
        return web.json_response([user for user in shown if state in (None, user["state"])])

    async def create(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        user = create(tenant, tenant.users, await request.json())
        return web.json_response(_shown(user), status=201)

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._user(request)))

    async def patch(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        user = patch(tenant, tenant.users, request.match_info["user"], await request.json())
        return web.json_response(_shown(user))

    async def delete(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        return web.json_response(_shown(tenant.users.delete(request.match_info["user"], tenant.clock.now())))

    async def restore(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._tenant(request).users.restore(request.match_info["user"])))

    async def purge(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        tenant.users.purge(request.match_info["user"], tenant.clock.now())
        return web.Response(status=204)

    async def get_photo(self, request: web.Request) -> web.Response:
        user = self._user(request)
        if user.photo is None:
            raise KeyError("photo")
        side = int(request.query.get("size", "240x240").partition("x")[0])
        if side not in SIZES or side > user.photo.longest:
            raise KeyError("size")
        return web.Response(body=photo_bytes(user.id, user.photo, side), content_type=user.photo.content_type)

    async def put_photo(self, request: web.Request) -> web.Response:
        user, new = self._user(request), NewPhoto.model_validate(await request.json())
        raw = base64.b64decode(new.base64, validate=True) if new.base64 is not None else None
        user.upload(new.longest, raw, new.content_type)
        return web.json_response(_shown(user))

    async def delete_photo(self, request: web.Request) -> web.Response:
        self._user(request).photo = None
        return web.Response(status=204)

    async def mutate(self, request: web.Request) -> web.Response:
        return web.json_response(mutate(self._tenant(request), Mutation.model_validate(await request.json())))


def _shown(user: User) -> dict[str, Any]:
    photo = user.photo and {
        "version": user.photo.version,
        "longest": user.photo.longest,
        "etag": etag(user.id, user.photo),
    }
    return shown(user) | {"photo": photo}
