"""Devices, groups and organisation contacts at the control endpoint; control.py lists the calls."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import Field

from local.cloud.model import Model
from local.cloud.objects import DirectoryObject, Objects
from local.cloud.tenants import Tenant, parted

Find = Callable[[web.Request], Tenant]
Store = Callable[[Tenant], Objects[Any]]
Json = dict[str, Any]


class Ids(Model):
    ids: list[str] = Field(min_length=1)


def routes(tenant_of: Find) -> list[web.RouteDef]:
    devices = _Objects(tenant_of, lambda tenant: tenant.devices)
    groups = _Objects(tenant_of, lambda tenant: tenant.groups)
    org_contacts = _Objects(tenant_of, lambda tenant: tenant.org_contacts)
    every = [*_routes("devices", devices), *_routes("groups", groups), *_routes("orgContacts", org_contacts)]
    return [
        *every,
        *_links("devices/{id}/registeredOwners", devices),
        *_links("groups/{id}/members", groups),
        web.post("/tenants/{tenant}/groups/{id}/restore", groups.restore),
        web.post("/tenants/{tenant}/groups/{id}/purge", groups.purge),
    ]


def _routes(path: str, objects: "_Objects") -> list[web.RouteDef]:
    every = f"/tenants/{{tenant}}/{path}"
    one = every + "/{id}"
    return [
        web.get(every, objects.list_all),
        web.post(every, objects.create),
        web.get(one, objects.get),
        web.patch(one, objects.patch),
        web.delete(one, objects.delete),
    ]


def _links(path: str, objects: "_Objects") -> list[web.RouteDef]:
    every = f"/tenants/{{tenant}}/{path}"
    return [web.post(every, objects.add_links), web.delete(every + "/{target}", objects.remove_link)]


class _Objects:
    def __init__(self, tenant_of: Find, store: Store) -> None:
        self._tenant = tenant_of
        self._store_of = store

    def _store(self, request: web.Request) -> Objects[Any]:
        return self._store_of(self._tenant(request))

    async def list_all(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        every = [shown(each) for each in self._store(request).members if not each.purged]
        return web.json_response([each for each in every if state in (None, each["state"])])

    async def create(self, request: web.Request) -> web.Response:
        made = create(self._tenant(request), self._store(request), await request.json())
        return web.json_response(shown(made), status=201)

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(shown(self._store(request).stored(request.match_info["id"])))

    async def patch(self, request: web.Request) -> web.Response:
        body = await request.json()
        changed = patch(self._tenant(request), self._store(request), request.match_info["id"], body)
        return web.json_response(shown(changed))

    async def delete(self, request: web.Request) -> web.Response:
        now = self._tenant(request).clock.now()
        return web.json_response(shown(self._store(request).delete(request.match_info["id"], now)))

    async def restore(self, request: web.Request) -> web.Response:
        return web.json_response(shown(self._store(request).restore(request.match_info["id"])))

    async def purge(self, request: web.Request) -> web.Response:
        self._store(request).purge(request.match_info["id"], self._tenant(request).clock.now())
        return web.Response(status=204)

    async def add_links(self, request: web.Request) -> web.Response:
        tenant, store = self._tenant(request), self._store(request)
        holder = store.stored(request.match_info["id"])
        wanted = Ids.model_validate(await request.json()).ids
        store.link(holder, [tenant.member(each) for each in wanted])
        return web.json_response(shown(holder))

    async def remove_link(self, request: web.Request) -> web.Response:
        store = self._store(request)
        holder = store.stored(request.match_info["id"])
        store.unlink(holder, [request.match_info["target"]])
        return web.json_response(shown(holder))


def create(tenant: Tenant, store: Objects[Any], body: Json) -> Any:
    """A new object with its links, or KeyError if it names another one that is not there."""
    own, ids = parted(body, store.relation)
    targets = [tenant.member(each) for each in ids]
    made = store.create(own)
    store.link(made, targets)
    return made


def patch(tenant: Tenant, store: Objects[Any], object_id: str, body: Json) -> Any:
    """Set properties, and if the body names the relation, all links; KeyError if there is no such object."""
    own, ids = parted(body, store.relation)
    targets = [tenant.member(each) for each in ids]
    changed = store.patch(object_id, own)
    if store.relation in body:
        wanted = {target.id for target in targets}
        store.unlink(changed, [each for each in changed.links if each not in wanted])
        store.link(changed, targets)
    return changed


def shown(subject: DirectoryObject) -> Json:
    """An object as the control endpoint knows it: what was set of it, the ids that it links to, and its state."""
    ids = list(subject.links)
    links = next(iter(ids), None) if subject.relation == "manager" else ids
    return subject.properties | {subject.relation: links, "state": "live" if subject.live else "deleted"}
