"""Subscriptions to the events of a mailbox (Learn: subscription resource type, Create, Update, Reauthorize)."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlsplit
from uuid import UUID, uuid5

from local.cloud.exchange.access import find_mailbox, may_touch, roles_in
from local.cloud.exchange.courier import Courier
from local.cloud.exchange.events import READ, read_body
from local.cloud.exchange.mailbox import Item, Mailbox, Properties
from local.cloud.exchange.notices import notice
from local.cloud.exchange.outbox import Subscription
from local.cloud.exchange.shape import preferences
from local.cloud.exchange.zones import MalformedTime, instant, read_instant
from local.cloud.protocol import Answer, Call, Refused, Route
from local.cloud.tenants import Tenant

LONGEST = timedelta(minutes=10_080)
SHORTEST = timedelta(minutes=45)
# Learn: Microsoft Graph service-specific throttling limits, subscription service limits, per app and tenant.
WRITES = ("subscription writes", 500, 20.0)
LISTS = ("subscription lists", 25, 20.0)
READS = ("subscription reads", 500, 20.0)
CHANGES = ("created", "updated", "deleted")
LONGEST_STATE = 128
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
WRITABLE = {
    "changeType",
    "notificationUrl",
    "lifecycleNotificationUrl",
    "resource",
    "expirationDateTime",
    "clientState",
    "latestSupportedTlsVersion",
    "includeResourceData",
    "encryptionCertificate",
    "encryptionCertificateId",
    "notificationQueryOptions",
    "notificationUrlAppId",
}
_RESOURCE = re.compile(r"/?users(?:/|\(')([^/']+)(?:'\))?/(?:calendar/|calendars/[^/]+/)?events/?", re.IGNORECASE)


@dataclass(frozen=True)
class Subscriptions:
    courier: Courier

    def routes(self) -> list[Route]:
        one = "subscriptions/{subscription}"
        return [
            Route("POST", "subscriptions", self.create, units=0, quota=WRITES),
            Route("GET", "subscriptions", list_all, units=0, quota=LISTS),
            Route("GET", one, get_one, units=0, quota=READS),
            Route("PATCH", one, self.patch, units=0, quota=WRITES),
            Route("DELETE", one, delete, units=0, quota=WRITES),
            Route("POST", f"{one}/reauthorize", reauthorize, units=0, quota=WRITES),
        ]

    async def create(self, call: Call) -> Answer:
        """201 once both URLs have proved that they listen; Refused otherwise."""
        body = _checked(read_body(call))
        mailbox = _mailbox(call, body["resource"])
        subscription = _subscription(call, body, mailbox)
        _refuse_more(call, mailbox, subscription)
        await self._shake_hands(call.tenant, subscription)
        _refuse_more(call, mailbox, subscription)  # another call may have been faster
        call.tenant.exchange.subscriptions[subscription.id] = subscription
        if call.tenant.faults.notification_before_201:
            await self._notify_first(call.tenant, subscription, mailbox)
        return Answer(201, _context(call) | shown(subscription))

    async def patch(self, call: Call, key: str) -> Answer:
        """Learn: Update subscription. Only the expiry and the notification URL can change."""
        subscription, body = _own(call, key), read_body(call)
        if not isinstance(body, dict) or set(body) - {"expirationDateTime", "notificationUrl"}:
            raise _wrong("Only expirationDateTime and notificationUrl can be updated.")
        if "notificationUrl" in body:
            url = _url(body["notificationUrl"])
            await self._prove(call.tenant, url)
            subscription.notification_url = url
        if "expirationDateTime" in body:
            subscription.expires = _expiry(call.now, body["expirationDateTime"])
        return Answer(body=_context(call) | shown(subscription))

    async def _shake_hands(self, tenant: Tenant, subscription: Subscription) -> None:
        await self._prove(tenant, subscription.notification_url)
        if subscription.lifecycle_url:
            await self._prove(tenant, subscription.lifecycle_url)

    async def _prove(self, tenant: Tenant, url: str) -> None:
        """Learn: Receive change notifications through webhooks, notificationUrl validation."""
        token = f"Validation: Testing client application reachability for subscription Request-Id: {_new_id(tenant)}"
        full = f"{url}{'&' if '?' in url else '?'}validationToken={quote_plus(token)}"
        plain = {"Content-Type": "text/plain; charset=utf-8"}
        patience = tenant.faults.too_slow_after_ms / 1000
        status, content_type, text = await self.courier.post(full, patience, data=b"", headers=plain)
        if status == 0:
            raise _wrong("Subscription validation request timed out.")
        if status != 200:
            message = "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request."
            raise _wrong(message)
        if content_type != "text/plain" or text != token:
            message = (
                "Subscription validation request failed. Response must exactly match validationToken query parameter."
            )
            raise _wrong(message)

    async def _notify_first(self, tenant: Tenant, subscription: Subscription, mailbox: Mailbox) -> None:
        """A notification that overtakes the answer to the request which asked for it."""
        for item in list(mailbox.items.values())[-1:]:
            early = {"value": [_notice_of(tenant, subscription, mailbox, item)]}
            await self.courier.post(subscription.notification_url, tenant.faults.slow_after_ms / 1000, json=early)


def _notice_of(tenant: Tenant, subscription: Subscription, mailbox: Mailbox, item: Item) -> Properties:
    return notice(tenant, subscription, mailbox, item, subscription.change_types[-1])


def list_all(call: Call) -> Answer:
    every = [each for each in live(call.tenant) if each.app_id == call.app_id]
    return Answer(body=_context(call, "") | {"value": [shown(each) for each in every]})


def get_one(call: Call, key: str) -> Answer:
    return Answer(body=_context(call) | shown(_own(call, key)))


def delete(call: Call, key: str) -> Answer:
    own = _own(call, key)  # looked up first: it leaves out those that have run out, in a new dict
    del call.tenant.exchange.subscriptions[own.id]
    return Answer(204, b"")


def reauthorize(call: Call, key: str) -> Answer:
    _own(call, key)
    return Answer(204, b"")


def live(tenant: Tenant) -> list[Subscription]:
    """The subscriptions that have not run out; those that have are forgotten."""
    now, every = tenant.clock.now(), tenant.exchange.subscriptions
    for key in [key for key, each in every.items() if each.expires <= now]:
        del every[key]
    return list(every.values())


def shown(subscription: Subscription) -> Properties:
    return {
        "id": subscription.id,
        "resource": subscription.resource,
        "applicationId": subscription.app_id,
        "changeType": ",".join(subscription.change_types),
        "clientState": subscription.client_state,
        "notificationUrl": subscription.notification_url,
        "notificationQueryOptions": None,
        "lifecycleNotificationUrl": subscription.lifecycle_url,
        "expirationDateTime": instant(subscription.expires),
        "creatorId": subscription.principal_id,
        "includeResourceData": None,
        "latestSupportedTlsVersion": subscription.tls or "v1_2",
        "encryptionCertificate": None,
        "encryptionCertificateId": None,
        "notificationUrlAppId": None,
    }


def _context(call: Call, suffix: str = "/$entity") -> Properties:
    return {"@odata.context": f"{call.base}/$metadata#subscriptions{suffix}"}


def _own(call: Call, key: str) -> Subscription:
    found = next((each for each in live(call.tenant) if each.id == key and each.app_id == call.app_id), None)
    if found is None:
        raise Refused(404, "ResourceNotFound", "The object was not found.")
    return found


def _wrong(message: str, code: str = "ValidationError") -> Refused:
    return Refused(400, code, message)


def _checked(body: Any) -> Properties:
    if not isinstance(body, dict):
        raise _wrong("The request body is not an object.", "InvalidRequest")
    given = {name: value for name, value in body.items() if "@odata" not in name and value is not None}
    if unknown := sorted(set(given) - WRITABLE):
        message = f"The property '{unknown[0]}' does not exist on type 'microsoft.graph.subscription'."
        raise _wrong(message, "InvalidRequest")
    for name in ("changeType", "notificationUrl", "resource", "expirationDateTime"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise _wrong(f"{name} is a required property for subscription creation.", "InvalidRequest")
    if given.get("includeResourceData"):
        raise Refused(501, "NotSimulated", "The simulated Graph sends no resource data.")
    if len(str(given.get("clientState", ""))) > LONGEST_STATE:
        raise _wrong(f"clientState is longer than {LONGEST_STATE} characters.", "InvalidRequest")
    return given


def _mailbox(call: Call, resource: str) -> Mailbox:
    """The mailbox that a resource names; what Exchange itself refuses comes wrapped up."""
    found = _RESOURCE.fullmatch(resource)
    if not found:
        raise Refused(501, "NotSimulated", "The simulated Graph has subscriptions to users/{id}/events only.")
    mailbox = find_mailbox(call.tenant, found[1])
    if mailbox is None:
        raise _extension(404, "NotFound", f"The requested user '{found[1]}' is invalid.")
    if mailbox.hosting != "cloud":
        raise _extension(404, "NotFound", "REST API is not yet supported for this mailbox.")
    if not READ & roles_in(call, mailbox.owner.address) or not may_touch(call, mailbox):
        raise _extension(403, "Forbidden", "Access is denied. Check credentials and try again.")
    if mailbox.no_subscriptions:
        message = (
            "REST API is not yet supported for this mailbox. This error can occur for sandbox (test) accounts or for"
            " accounts that are on a dedicated mail server (backend 'Unknown')."
        )
        raise _extension(404, "NotFound", message)
    return mailbox


def _extension(status: int, name: str, reason: str) -> Refused:
    return Refused(status, "ExtensionError", f"Operation: Create; Exception: [Status Code: {name}; Reason: {reason}]")


def _new_id(tenant: Tenant) -> str:
    return str(uuid5(UUID(tenant.id), f"subscription {tenant.exchange.next_version()}"))


def _subscription(call: Call, body: Properties, mailbox: Mailbox) -> Subscription:
    kinds = tuple(part.strip().lower() for part in body["changeType"].split(","))
    if not kinds or set(kinds) - set(CHANGES):
        raise _wrong("changeType has a value that is not supported.", "InvalidRequest")
    app = call.tenant.app(call.app_id)
    return Subscription(
        id=_new_id(call.tenant),
        app_id=call.app_id,
        principal_id=app.principal_id if app else "",
        resource=body["resource"],
        change_types=tuple(kind for kind in CHANGES if kind in kinds),
        notification_url=_url(body["notificationUrl"]),
        lifecycle_url=_url(body["lifecycleNotificationUrl"]) if "lifecycleNotificationUrl" in body else None,
        client_state=body.get("clientState"),
        expires=_expiry(call.now, body["expirationDateTime"]),
        mailbox=mailbox.guid,
        immutable=preferences(call).immutable,
        tls=body.get("latestSupportedTlsVersion"),
    )


def _url(text: Any) -> str:
    """A URL of https; plain http only to this machine."""
    parts = urlsplit(text) if isinstance(text, str) else None
    if parts is None or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)):
        raise _wrong("The notification URL must be an https URL.", "InvalidRequest")
    return str(text)


def _expiry(now: datetime, text: Any) -> datetime:
    try:
        wanted = read_instant(text if isinstance(text, str) else "")
    except MalformedTime as error:
        raise _wrong("expirationDateTime is not a date with a time.", "InvalidRequest") from error
    if wanted > now + LONGEST:
        raise _wrong(f"Subscription expiration can only be {LONGEST // timedelta(minutes=1)} minutes in the future.")
    if wanted <= now:
        raise _wrong("Subscription expiration must be in the future.")
    return max(wanted, now + SHORTEST)


def _refuse_more(call: Call, mailbox: Mailbox, wanted: Subscription) -> None:
    """409 for the same subscription again, 403 for one more than a mailbox may have."""
    of_mailbox = [each for each in live(call.tenant) if each.mailbox == mailbox.guid]
    for each in of_mailbox:
        if (each.app_id, each.change_types) == (wanted.app_id, wanted.change_types):
            message = f"Subscription Id {each.id} already exists for the requested combination"
            raise Refused(409, "ObjectIdentifierInUse", message)
    if len(of_mailbox) >= call.tenant.faults.subscriptions_per_mailbox:
        raise _extension(403, "Forbidden", "The maximum number of subscriptions for this mailbox has been reached.")
