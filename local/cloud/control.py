"""The control endpoint of the simulated cloud: what an administrator, the weather and the passing of time would do.

JSON in and out, no authentication. 404 for what is not there, 409 for a name that is taken, 422 for a wrong body.
{t} is a tenant's id or domain, {u} a user's id, {a} an app id, {k} a key id.

The cloud
  GET    /clock                         {"now"}
  POST   /clock {"advanceSeconds": n}   moves the clocks of all tenants forward
  GET    /counters                      the sum over all tenants, in the form of GET /tenants/{t}/counters
  GET    /identity?clientId=            {"issuer","subject","audience"} for a federated credential that trusts the
                                        managed identity (the system-assigned one without clientId)
  POST   /vault {"unavailable","throttled","purgeProtection","settlesAfterSeconds"}  what the vault does next

Tenants
  GET    /tenants                       [tenant]
  POST   /tenants                       201, tenant. Body: a tenant data file (see local/tenants), or
         {"generate": {"users","seed","photoShare","guestShare","disabledShare","devices","contactGroups","contactMembers",
         "rooms","eventsPerRoom","roles"}}; the same seed gives the same tenant; a tenant with the same id or domain is
         replaced. contactMembers of the users are dealt to contactGroups groups, all members of one group of level 0.
         Rooms are room1@domain, room2@domain and so on
  GET    /tenants/{t}                   {"id","displayName","domain","now","apps":[app],"users","photos","devices",
         "groups":[{"id","displayName","members"}],"rooms"}, the numbers of live ones; a generated group of level 0 comes first
  DELETE /tenants/{t}

Behaviour of Graph towards one tenant
  GET    /tenants/{t}/counters          {"tokens","tokensRefused","graph":{"requests","batchPosts","batchItems",
         "byTemplate":{"GET /users/delta":n},"throttled","faulted","retryViolations"}}: `requests` are HTTP requests,
         byTemplate also counts the items of batches; retryViolations are requests (or items) that came before the
         Retry-After that their client was given had passed: the same request after any refusal, and after a 429 of a
         whole request everything of that app, half a second excepted in which it may have been under way
  POST   /tenants/{t}/counters          resets them, answers what they were
  GET    /tenants/{t}/journal?last=n    the last requests and batch items, oldest first; "mailbox" is the address of the
         mailbox that one is about
  GET    /tenants/{t}/faults
  POST   /tenants/{t}/faults            replaces all: {"latencyMs","unitsPer10s","rate429","rate503","rate504","rateReset",
         "rateBatchItem","retryAfter":{"style":"seconds|decimal|date|absent","seconds"},"untidyPaging",
         "retriedPageLinksFail","expiredDelta":"gone|syncStateNotFound|syncStateInvalid|resyncRequired","deltaPage":
         objects of the directory on a page of delta (200),"seed"} and those of calendars below; {} ends them.
         untidyPaging: empty pages with a next link, repeated, replayed and removed objects in delta.
         retriedPageLinksFail: a page link from an answer to a retried request does not work. "odd" [{"call","mailbox",
         "query","ofStatus","status","code","retryAfter","ignore","drop","replace"}] are answers that another Graph might
         give: see Oddity.
  GET    /tenants/{t}/clock             {"now"}
  POST   /tenants/{t}/clock {"advanceSeconds": n}
  POST   /tenants/{t}/expire {"delta": true, "pages": "Directory_ExpiredPageToken|DirectoryPageTokenNotFoundException"}
         every delta link, every page link handed out so far stops working

Users: properties as in Graph, plus "manager", an id or null, "photo", null or {"version","longest","etag"}, and "state",
"live" or "deleted"
  GET    /tenants/{t}/users?state=live  [user]
  POST   /tenants/{t}/users             201, user; needs userPrincipalName; "photo": side of the upload in pixels
  GET    /tenants/{t}/users/{u}
  PATCH  /tenants/{t}/users/{u}         null clears a property
  DELETE /tenants/{t}/users/{u}         into the recycle bin, for good 30 days later
  POST   /tenants/{t}/users/{u}/restore
  POST   /tenants/{t}/users/{u}/purge   gone for good
  GET    /tenants/{t}/users/{u}/photo?size=240x240   the bytes that Graph would serve
  PUT    /tenants/{t}/users/{u}/photo   {"longest": 648} draws a new picture; {"base64","contentType"} plants any bytes
  DELETE /tenants/{t}/users/{u}/photo
  POST   /tenants/{t}/mutate {"count","seed","kinds":["patch","create","delete","restore","photo","removePhoto"]}
         so many changes to so many different users; answers {"patch":[ids],...} by kind. Other kinds, which may meet
         the same object again: patchDevice, createDevice, deleteDevice, changeOwner, patchGroup, createGroup (in the
         first group), deleteGroup (not the first), addMember, removeMember (no group)

Devices, groups and organisation contacts: {o} is devices, groups or orgContacts, {i} an object's id. Properties as in
Graph, plus "state", and the ids that the object links to: "registeredOwners" of a device, "members" of a group (users,
groups, devices, organisation contacts). Only Microsoft 365 groups ("groupTypes": ["Unified"]) have a recycle bin.
  GET    /tenants/{t}/{o}?state=live    [object]
  POST   /tenants/{t}/{o}               201, object; needs displayName; the ids of its links may come with it
  GET    /tenants/{t}/{o}/{i}
  PATCH  /tenants/{t}/{o}/{i}           null clears a property; "members" or "registeredOwners" replaces all of them;
                                        {"visibility": "HiddenMembership"} hides a group's members
  DELETE /tenants/{t}/{o}/{i}
  POST   /tenants/{t}/groups/{i}/restore
  POST   /tenants/{t}/groups/{i}/purge
  POST   /tenants/{t}/groups/{i}/members {"ids"}             adds; DELETE .../members/{id} removes one
  POST   /tenants/{t}/devices/{i}/registeredOwners {"ids"}   adds; DELETE .../registeredOwners/{id} removes one

Rooms, mailboxes and events: {m} is a mailbox by id, userPrincipalName or address, {e} an event by either id of Graph or
by iCalUId. An event is what Graph shows of it in UTC with immutable ids, plus "restrictedId" (the other form of its id),
"generation", "cancelledStarts", "exceptionStarts" and the extended properties.
  GET    /tenants/{t}/rooms             [room]
  POST   /tenants/{t}/rooms             201, room: {"emailAddress","displayName"} and, if wanted, "id","capacity","building",
         "floorNumber","label","list" (address of its room list),"timeZone" (IANA) and the rules of Set-CalendarProcessing
         with their defaults: "deleteSubject","addOrganizerToSubject","deleteComments","removePrivateProperty" true,
         "allowConflicts" false,"allowRecurringMeetings" true,"bookingWindowInDays" 180,"maximumDurationInMinutes" 1440,
         "enforceSchedulingHorizon" true,"processExternalMeetingMessages" false,"removeCanceledMeetings" true (false: the
         room keeps them as isCancelled),"autoAccept" true
  PATCH  /tenants/{t}/rooms/{m}         DELETE takes the room and its mailbox away
  GET    /tenants/{t}/mailboxes/{m}     {"id","address","displayName","isRoom","mailbox","timeZone","denied",
         "noSubscriptions","events"}
  PATCH  /tenants/{t}/mailboxes/{m}     {"denied" (every app gets 403),"noSubscriptions" (ExtensionError),
         "mailbox":"cloud|none|onPremises","timeZone"}
  GET    /tenants/{t}/mailboxes/{m}/events?start=&end=   [event], single events and series; with a window, each has its
         "instances" there
  POST   /tenants/{t}/mailboxes/{m}/events  201, event. The owner of the mailbox makes it in Outlook: body as in Graph,
         attendees are invited. {m} may be an address outside of the organisation, whose "organizer" then says the name.
         Also "iCalUId", and "quirks": {"originalTimeZone","recurrenceTimeZone"}, what this copy shows in their place
  GET    /tenants/{t}/mailboxes/{m}/events/{e}
  PATCH  /tenants/{t}/mailboxes/{m}/events/{e}   as the owner would in Outlook; {e} may be an occurrence
  DELETE /tenants/{t}/mailboxes/{m}/events/{e}
  POST   /tenants/{t}/mailboxes/{m}/events/{e}/accept|decline|tentativelyAccept
  POST   /tenants/{t}/mailboxes/{m}/events/{e}/move   to another folder and back: its restricted id is another one
  GET    /tenants/{t}/meetings          {"delayMs"}
  POST   /tenants/{t}/meetings          {"delayMs": n|"manual"}: how long meeting messages are under way, by the tenant's
         clock; 0 at once. "manual": until they are delivered here
  GET    /tenants/{t}/meetings/pending  [{"kind":"request|cancel|response|tidy","to","from","iCalUId","originalStart",
         "response","sent"}], oldest first; tidy is the room making its copy anonymous
  POST   /tenants/{t}/meetings/deliver {"count": n}   the oldest ones, all without count; answers them
  GET    /tenants/{t}/calendar-writes   [{"at","mailbox","isRoom","method","path","eventId","isOrganizer","organizer",
         "iCalUId" (a series' own),"originalStart" (of one occurrence),"appId","requestId","lost","body"}], what apps
         wrote to events through Graph and was not refused before it was looked at; DELETE forgets them
  Faults: {"mailboxRequests" (per app and mailbox in 10 minutes),"emptyRounds": n (so many of the next full delta rounds
         are complete and empty),"silentOccurrenceDeletes","deltaGenerations": n (older delta links have expired),
         "subscriptionsPerMailbox","placesWithoutNextLink"}; untidyPaging shuffles calendarView/delta, too

Subscriptions and notifications
  GET    /tenants/{t}/subscriptions     [subscription as in Graph, plus "mailboxId","immutableIds"]
  DELETE /tenants/{t}/subscriptions/{id}   it dies without a word
  POST   /tenants/{t}/notifications     {"mode":"send|collect"}: collect keeps them until somebody asks for them
  GET    /tenants/{t}/notifications     [{"url","item","due","attempts"}] that wait; they are gone then
  POST   /tenants/{t}/notifications/deliver {"count": n}   sends what waits, due or not; {"items","statuses"} of the POSTs
  POST   /tenants/{t}/notifications/forge {"subscriptionId","item","count"}   201, a false notification: parts of a true
         one are replaced, such as {"clientState": "wrong"} or {"subscriptionId": "..."}
  GET    /tenants/{t}/notifications/counts {"waiting","posts","delivered","failed","lost","dropped","expired"} items
  POST   /tenants/{t}/lifecycle         201. {"event":"reauthorizationRequired|subscriptionRemoved|missed",
         "subscriptionId"}
  Faults: {"notificationCopies": [2,4] (how many there are of each),"notificationLoss" (a rate),"notificationDelayMs",
         "notificationShuffle","notificationBefore201","slowAfterMs","tooSlowAfterMs" (the 3 and 10 seconds)}

Apps: {"appId","objectId","principalId","displayName","roles","secrets","certificates","federatedCredentials","enabled",
       "hasServicePrincipal","conditionalAccessBlock","mailboxScope" (addresses of the only mailboxes that it may touch,
       with Calendars.ReadWrite whatever its roles)}
  POST   /tenants/{t}/apps              201, app
  GET    /tenants/{t}/apps/{a}
  PATCH  /tenants/{t}/apps/{a}          {"roles","enabled","hasServicePrincipal","conditionalAccessBlock","displayName",
         "mailboxScope"}
  POST   /tenants/{t}/apps/{a}/secrets  201, {"keyId","value","displayName","startDateTime","endDateTime"}; all optional
  PATCH  /tenants/{t}/apps/{a}/secrets/{k} {"endDateTime"}
  DELETE /tenants/{t}/apps/{a}/secrets/{k}
  POST   /tenants/{t}/apps/{a}/certificates {"pem"}   201, with its keyId
  DELETE /tenants/{t}/apps/{a}/certificates/{k}
  POST   /tenants/{t}/apps/{a}/federatedCredentials {"issuer","subject","audiences","name"}
  DELETE /tenants/{t}/apps/{a}/federatedCredentials/{name}
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from aiohttp import web
from pydantic import Field, ValidationError

from local.cloud import control_apps, control_directory, control_users
from local.cloud.clock import Clock
from local.cloud.counters import total
from local.cloud.exchange import control_calendars, control_notifications
from local.cloud.exchange.courier import Courier
from local.cloud.faults import ExpiredPage, Faults
from local.cloud.identity import SYSTEM_ASSIGNED, TOKEN_EXCHANGE, ManagedIdentity
from local.cloud.model import Model
from local.cloud.objects import Conflict
from local.cloud.population import Population, generate
from local.cloud.protocol import Refused
from local.cloud.tenants import Tenant, TenantFile, Tenants
from local.cloud.vault import Vault

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Advance(Model):
    advance_seconds: float = Field(ge=0)


class Generate(Model):
    generate: Population


class Expire(Model):
    delta: bool = False
    pages: ExpiredPage | None = None


class VaultSwitches(Model):
    unavailable: bool = False
    throttled: int = Field(default=0, ge=0)
    purge_protection: bool = False
    settles_after_seconds: float = Field(default=0, ge=0)


class Control:
    def __init__(self, tenants: Tenants, identity: ManagedIdentity, vault: Vault, courier: Courier) -> None:
        self._tenants = tenants
        self._identity = identity
        self._vault = vault
        self._courier = courier

    def routes(self) -> list[web.RouteDef]:
        tenant = "/tenants/{tenant}"
        return [
            web.get("/clock", self._get_clock),
            web.post("/clock", self._advance_all),
            web.get("/counters", self._sum_counters),
            web.get("/identity", self._get_identity),
            web.post("/vault", self._set_vault),
            web.get("/tenants", self._list_tenants),
            web.post("/tenants", self._create_tenant),
            web.get(tenant, self._get_tenant),
            web.delete(tenant, self._remove_tenant),
            web.get(f"{tenant}/counters", self._get_counters),
            web.post(f"{tenant}/counters", self._reset_counters),
            web.get(f"{tenant}/journal", self._get_journal),
            web.get(f"{tenant}/faults", self._get_faults),
            web.post(f"{tenant}/faults", self._set_faults),
            web.get(f"{tenant}/clock", self._get_tenant_clock),
            web.post(f"{tenant}/clock", self._advance),
            web.post(f"{tenant}/expire", self._expire),
            *control_users.routes(self._tenant),
            *control_directory.routes(self._tenant),
            *control_apps.routes(self._tenant),
            *control_calendars.routes(self._tenant),
            *control_notifications.routes(self._tenant, self._courier),
        ]

    def _tenant(self, request: web.Request) -> Tenant:
        tenant = self._tenants.find(request.match_info["tenant"])
        if tenant is None:
            raise KeyError(request.match_info["tenant"])
        return tenant

    async def _get_clock(self, _: web.Request) -> web.Response:
        return _time(self._tenants.clock)

    async def _advance_all(self, request: web.Request) -> web.Response:
        self._tenants.clock.advance(Advance.model_validate(await request.json()).advance_seconds)
        return _time(self._tenants.clock)

    async def _sum_counters(self, _: web.Request) -> web.Response:
        return web.json_response(total(tenant.counters for tenant in self._tenants).as_json())

    async def _get_identity(self, request: web.Request) -> web.Response:
        subject = self._identity.subject(request.query.get("clientId", SYSTEM_ASSIGNED))
        return web.json_response({"issuer": self._identity.issuer, "subject": subject, "audience": TOKEN_EXCHANGE})

    async def _set_vault(self, request: web.Request) -> web.Response:
        switches = VaultSwitches.model_validate(await request.json())
        self._vault.unavailable = switches.unavailable
        self._vault.throttled = switches.throttled
        self._vault.purge_protection = switches.purge_protection
        self._vault.settles_after = timedelta(seconds=switches.settles_after_seconds)
        return web.json_response(switches.model_dump(by_alias=True))

    async def _list_tenants(self, _: web.Request) -> web.Response:
        return web.json_response([_shown(tenant) for tenant in self._tenants])

    async def _create_tenant(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "generate" in body:
            tenant = generate(Generate.model_validate(body).generate)
        else:
            tenant = TenantFile.model_validate(body).tenant()
        self._tenants.add(tenant)
        return web.json_response(_shown(tenant), status=201)

    async def _get_tenant(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._tenant(request)))

    async def _remove_tenant(self, request: web.Request) -> web.Response:
        tenant = self._tenant(request)
        tenant.exchange.outbox.waiting.clear()
        tenant.exchange.messages.clear()
        self._courier.poke(tenant)
        self._tenants.remove(tenant)
        return web.Response(status=204)

    async def _get_counters(self, request: web.Request) -> web.Response:
        return web.json_response(self._tenant(request).counters.as_json())

    async def _reset_counters(self, request: web.Request) -> web.Response:
        return web.json_response(self._tenant(request).reset_counters().as_json())

    async def _get_journal(self, request: web.Request) -> web.Response:
        journal = list(self._tenant(request).journal)
        return web.json_response(journal[-int(request.query.get("last", len(journal))) :])

    async def _get_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self._tenant(request).faults.model_dump(by_alias=True))

    async def _set_faults(self, request: web.Request) -> web.Response:
        self._tenant(request).set_faults(Faults.model_validate(await request.json()))
        return await self._get_faults(request)

    async def _get_tenant_clock(self, request: web.Request) -> web.Response:
        return _time(self._tenant(request).clock)

    async def _advance(self, request: web.Request) -> web.Response:
        self._tenant(request).clock.advance(Advance.model_validate(await request.json()).advance_seconds)
        return _time(self._tenant(request).clock)

    async def _expire(self, request: web.Request) -> web.Response:
        expire, expiry = Expire.model_validate(await request.json()), self._tenant(request).expiry
        if expire.delta:
            expiry.delta_before = expiry.serial
        if expire.pages:
            expiry.page_before, expiry.page_code = expiry.serial, expire.pages
        return web.Response(status=204)


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the handlers raise, as answers."""
    try:
        return await handler(request)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        return web.json_response({"error": "wrong body", "fields": wrong}, status=422)
    except Refused as error:
        return web.json_response(
            {"error": error.message, "code": error.code}, status=404 if error.status == 404 else 422
        )
    except KeyError as error:
        return web.json_response({"error": f"there is no {error}"}, status=404)
    except Conflict as error:
        return web.json_response({"error": f"{error} is taken"}, status=409)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=422)


def poking(tenants: Tenants, courier: Courier) -> Any:
    """Whatever a control call has put under way sets off at once, whatever has become due by a clock that it moved."""

    @web.middleware
    async def poke(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if request.method != "GET":
            for tenant in tenants:
                courier.poke(tenant)
        return answer

    return poke


def _time(clock: Clock) -> web.Response:
    return web.json_response({"now": clock.now().isoformat()})


def _shown(tenant: Tenant) -> Json:
    states = Counter((user.live, user.photo is not None) for user in tenant.users.members)
    return {
        "id": tenant.id,
        "displayName": tenant.display_name,
        "domain": tenant.domain,
        "now": tenant.clock.now().isoformat(),
        "apps": [app.model_dump(by_alias=True, mode="json") for app in tenant.apps],
        "users": states[True, True] + states[True, False],
        "photos": states[True, True],
        "devices": sum(1 for _ in tenant.devices.live()),
        "groups": [
            {"id": group.id, "displayName": group.properties["displayName"], "members": len(group.links)}
            for group in tenant.groups.live()
        ],
        "rooms": len(tenant.exchange.rooms),
    }
