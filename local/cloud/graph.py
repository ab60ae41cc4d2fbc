"""The HTTP edge of the simulated Microsoft Graph: tokens, limits, injected faults, counters and the journal."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import uuid4

from aiohttp import web

from local.cloud import applications, batch, delta, devices, directory, groups, oddities, organization, photos
from local.cloud.clock import rfc3339
from local.cloud.entra import Entra, TokenRejected
from local.cloud.exchange import calendars, events, places, schedule, view_delta, views
from local.cloud.exchange.access import find_mailbox, roles_in
from local.cloud.exchange.courier import Courier
from local.cloud.exchange.subscriptions import Subscriptions
from local.cloud.faults import RESET, Oddity
from local.cloud.protocol import VERSION, Answer, Call, Refused, Route, Routes, split_url
from local.cloud.throttling import MAILBOX_CONCURRENCY, MAILBOX_WINDOW, retry_after

COMPRESS_FROM = 1024


class Graph:
    def __init__(self, entra: Entra, courier: Courier) -> None:
        self._entra = entra
        self._courier = courier
        post_batch = Route("POST", "$batch", lambda call: batch.post_batch(call, self._respond_to_item), units=0)
        outlook = (view_delta, schedule, views, events, calendars, places)
        subjects = (delta, directory, devices, groups, photos, organization, applications, *outlook)
        subscribing = Subscriptions(courier).routes()
        self._routes = Routes([post_batch, *(route for subject in subjects for route in subject.ROUTES), *subscribing])

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request, whatever it asks for."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            call = await self._call(request, headers)
        except Refused as refused:
            request_id = str(uuid4())
            return _send(refused.answer(headers, request_id, datetime.now(UTC)), headers, request_id)
        tenant = call.tenant
        tenant.counters.requests += 1
        fault = tenant.faults.draw(tenant.rng)
        call.lost = fault == RESET
        answer = await self._respond(call, fault)
        self._courier.poke(tenant)
        await asyncio.sleep(tenant.faults.latency_ms / 1000)
        tenant.throttle.release(call.app_id, call.mailboxes)
        return await _reset(request, answer, call) if call.lost else _send(answer, headers, call.request_id)

    async def _call(self, request: web.Request, headers: Mapping[str, str]) -> Call:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("Access token is empty.")
        try:
            tenant, claims = self._entra.check_token(token)
        except TokenRejected as error:
            raise _unauthorized(f"Access token validation failure. {error}") from error
        version, _, path = request.raw_path.lstrip("/").partition("/")
        if version != VERSION:
            raise Refused(400, "BadRequest", "Invalid version.")
        path, query = split_url(path)
        return Call(
            method=request.method,
            url=request.raw_path,
            path=path,
            query=query,
            headers=headers,
            body=await request.read(),
            host=request.host,
            tenant=tenant,
            app_id=claims["appid"],
            roles=frozenset(claims.get("roles", [])),
            now=tenant.clock.now(),
        )

    async def _respond_to_item(self, call: Call) -> Answer:
        """One request inside a batch."""
        call.tenant.counters.batch_items += 1
        return await self._respond(call, call.tenant.faults.draw_for_item(call.tenant.rng))

    async def _respond(self, call: Call, fault: int | None) -> Answer:
        """Serve the call, or refuse it with the status of the fault; either way it is counted and written down."""
        counters = call.tenant.counters
        arrival = call.tenant.throttle.arrive(call.app_id, _identity(call))
        call.retried = arrival.retried
        counters.retry_violations += arrival.early
        template = "unknown"
        odd: list[Oddity] = []
        try:
            route, parameters = self._routes.find(call.method, call.path)
            template = route.name
            if route.mailbox and "id" in parameters:
                call.mailbox = _mailbox_of(call, parameters["id"])
                call.roles = roles_in(call, call.mailbox)
            odd = oddities.fitting(call, template)
            refusal = self._pause(call, fault, call.tenant.faults.retry_after.seconds) if fault else None
            answer = refusal or self._limit(call, route) or await self._admitted(call, route, parameters)
        except Refused as refused:
            answer = refused.answer(call.headers, call.request_id, call.now)
        answer = oddities.changed(answer, odd, call)
        if call.lost:
            call.tenant.throttle.failed(call.app_id, _identity(call))
        counters.faulted += fault is not None
        counters.by_template[template] += 1
        _journal(call, template, answer)
        return answer

    async def _admitted(self, call: Call, route: Route, parameters: dict[str, str]) -> Answer:
        route.admit(call)
        served = route.handler(call, *parameters.values())
        answer = served if isinstance(served, Answer) else await served
        if cost := route.cost(call):
            answer.headers["x-ms-resource-unit"] = str(cost)
        if (used := call.tenant.throttle.used(call.app_id)) > 0.8:
            answer.headers["x-ms-throttle-limit-percentage"] = f"{used:.2f}"
        return answer

    def _limit(self, call: Call, route: Route) -> Answer | None:
        """The 429 of a spent budget or a busy mailbox."""
        throttle, capacity = call.tenant.throttle, call.tenant.faults.units_per_10s
        wait = throttle.take(call.app_id, route.cost(call), capacity) if capacity and route.units else 0
        if wait:
            call.tenant.counters.throttled += 1
            return self._pause(call, 429, wait)
        if route.quota and (wait := throttle.count(call.app_id, *route.quota)):
            call.tenant.counters.throttled += 1
            return self._pause(call, 429, wait)
        mailbox = call.mailbox
        if mailbox is None:
            return None
        if wait := throttle.count(call.app_id, mailbox, call.tenant.faults.mailbox_requests, MAILBOX_WINDOW):
            call.tenant.counters.throttled += 1
            return self._pause(call, 429, wait, mailbox="Application is over its MailboxRequests limit.")
        if throttle.mailboxes[call.app_id, mailbox] >= MAILBOX_CONCURRENCY:
            call.tenant.counters.throttled += 1
            return self._pause(
                call,
                429,
                call.tenant.faults.retry_after.seconds,
                mailbox="Application is over its MailboxConcurrency limit.",
            )
        throttle.mailboxes[call.app_id, mailbox] += 1
        call.mailboxes.append(mailbox)
        return None

    def _pause(self, call: Call, status: int, seconds: float, *, mailbox: str = "") -> Answer:
        """A refusal that says when to come back, remembered so that an early retry is seen.

        `mailbox` is the message where one mailbox has had enough, not the whole app.
        """
        faults = call.tenant.faults
        header, told = retry_after(faults.retry_after, seconds)
        whole_app = status == 429 and not call.in_batch and not mailbox
        sent_in = faults.latency_ms / 1000
        if not call.lost:
            call.tenant.throttle.pause(call.app_id, _identity(call), told, sent_in=sent_in, whole_app=whole_app)
        answer = _refusal(status, mailbox).answer(call.headers, call.request_id, call.now)
        if header is not None:
            answer.headers["Retry-After"] = header
        if status == 429 and not mailbox:
            answer.headers["x-ms-throttle-scope"] = f"Tenant_Application/ReadWrite/{call.app_id}/{call.tenant.id}"
            answer.headers["x-ms-throttle-information"] = "ResourceUnitLimitExceeded"
        return answer


def _mailbox_of(call: Call, key: str) -> str:
    found = find_mailbox(call.tenant, key)
    return (found.owner.address if found else "") or key


def _journal(call: Call, template: str, answer: Answer) -> None:
    call.tenant.journal.append(
        {
            "at": rfc3339(datetime.now(UTC)),
            "method": call.method,
            "url": call.url,
            "template": template,
            "mailbox": call.mailbox,
            "status": answer.status,
            "reset": call.lost,
            "appId": call.app_id,
            "inBatch": call.in_batch,
            "requestId": call.request_id,
            "clientRequestId": call.headers.get("client-request-id"),
            "retryAfter": answer.headers.get("Retry-After"),
        }
    )


def _identity(call: Call) -> str:
    """What makes two requests the same one tried again."""
    return f"{call.method} {call.url} {zlib.crc32(call.body)}"


def _refusal(status: int, mailbox: str) -> Refused:
    if mailbox:
        return Refused(429, "ApplicationThrottled", mailbox)
    return {
        429: Refused(429, "TooManyRequests", "Please retry again later."),
        503: Refused(503, "ServiceUnavailable", "The service is temporarily unavailable."),
        504: Refused(504, "GatewayTimeout", "The request timed out."),
    }[status]


def _unauthorized(message: str) -> Refused:
    challenge = {
        "WWW-Authenticate": 'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize"'
    }
    return Refused(401, "InvalidAuthenticationToken", message, challenge)


def _encoded(answer: Answer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    if isinstance(answer.body, str):
        return answer.body.encode()
    return json.dumps(answer.body, ensure_ascii=False, separators=(",", ":")).encode()


def _send(answer: Answer, headers: Mapping[str, str], request_id: str) -> web.Response:
    content = _encoded(answer)
    out = {
        "request-id": request_id,
        "client-request-id": headers.get("client-request-id", request_id),
        **answer.headers,
    }
    out["Content-Type"] = answer.content_type
    out["Cache-Control"] = "private"
    is_json = not isinstance(answer.body, bytes)
    if is_json and len(content) >= COMPRESS_FROM and "gzip" in headers.get("accept-encoding", ""):
        content = gzip.compress(content, compresslevel=1)
        out["Content-Encoding"] = "gzip"
    return web.Response(status=answer.status, body=content, headers=out)


async def _reset(request: web.Request, answer: Answer, call: Call) -> web.StreamResponse:
    """Close the connection: half the time at once, half the time in the middle of the answer."""
    content = _encoded(answer)
    response = web.StreamResponse(headers={"Content-Type": answer.content_type, "Content-Length": str(len(content))})
    if call.tenant.rng.random() < 0.5 and len(content) > 1:
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
    if request.transport:
        request.transport.abort()
    return response
