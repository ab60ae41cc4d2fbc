"""Subscriptions and notifications at the control endpoint; local/cloud/control.py lists the calls."""

from collections.abc import Callable
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from local.cloud.exchange.courier import Courier
from local.cloud.exchange.notices import lifecycle_notice, notice
from local.cloud.exchange.outbox import Mode, Notice, Properties, Subscription
from local.cloud.exchange.subscriptions import live, shown
from local.cloud.model import Model
from local.cloud.tenants import Tenant

Find = Callable[[web.Request], Tenant]
Lifecycle = Literal["reauthorizationRequired", "subscriptionRemoved", "missed"]


class Collecting(Model):
    mode: Mode


class Deliver(Model):
    count: int = Field(default=1_000_000, ge=0)


class Forgery(Model):
    """`item` replaces parts of what a notification of that subscription would be; "resourceData" as a whole."""

    subscription_id: str
    item: dict[str, Any] = Field(default_factory=dict)
    count: int = Field(default=1, ge=1)


class LifecycleEvent(Model):
    event: Lifecycle
    subscription_id: str


def routes(tenant_of: Find, courier: Courier) -> list[web.RouteDef]:
    calls = _Notifications(tenant_of, courier)
    tenant = "/tenants/{tenant}"
    return [
        web.get(f"{tenant}/subscriptions", calls.list_subscriptions),
        web.delete(f"{tenant}/subscriptions/{{subscription}}", calls.delete_subscription),
        web.get(f"{tenant}/notifications", calls.drain),
        web.post(f"{tenant}/notifications", calls.set_mode),
        web.get(f"{tenant}/notifications/counts", calls.get_counts),
        web.post(f"{tenant}/notifications/deliver", calls.deliver),
        web.post(f"{tenant}/notifications/forge", calls.forge),
        web.post(f"{tenant}/lifecycle", calls.send_lifecycle),
    ]


class _Notifications:
    def __init__(self, tenant_of: Find, courier: Courier) -> None:
        self._tenant = tenant_of
        self._courier = courier

    async def list_subscriptions(self, request: web.Request) -> web.Response:
        return web.json_response([_subscription(each) for each in live(self._tenant(request))])

    async def delete_subscription(self, request: web.Request) -> web.Response:
        del self._tenant(request).exchange.subscriptions[request.match_info["subscription"]]
        return web.Response(status=204)

    async def drain(self, request: web.Request) -> web.Response:
        outbox = self._tenant(request).exchange.outbox
        taken, outbox.waiting = outbox.waiting, []
        return web.json_response([_notice(each) for each in taken])

    async def set_mode(self, request: web.Request) -> web.Response:
        outbox = self._tenant(request).exchange.outbox
        outbox.mode = Collecting.model_validate(await request.json()).mode
        return web.json_response({"mode": outbox.mode})

    async def get_counts(self, request: web.Request) -> web.Response:
        outbox = self._tenant(request).exchange.outbox
        names = ("posts", "delivered", "failed", "lost", "dropped", "expired")
        return web.json_response({"waiting": len(outbox.waiting), **{name: outbox.counts[name] for name in names}})

    async def deliver(self, request: web.Request) -> web.Response:
        """Send what waits, due or not, and wait for the answers."""
        tenant, left = self._tenant(request), Deliver.model_validate(await request.json()).count
        outbox, sent, statuses = tenant.exchange.outbox, 0, []
        for url in dict.fromkeys(each.url for each in list(outbox.waiting)):
            here = min(left - sent, sum(each.url == url for each in outbox.waiting))
            if here:
                statuses += await self._courier.send_due(tenant, url, here, early=True)
                sent += here
        return web.json_response({"items": sent, "statuses": statuses})

    async def forge(self, request: web.Request) -> web.Response:
        tenant, forgery = self._tenant(request), Forgery.model_validate(await request.json())
        subscription = tenant.exchange.subscriptions[forgery.subscription_id]
        item = _plausible(tenant, subscription) | forgery.item
        for _ in range(forgery.count):
            _queue(tenant, subscription.notification_url, dict(item))
        return web.json_response(item, status=201)

    async def send_lifecycle(self, request: web.Request) -> web.Response:
        tenant, wanted = self._tenant(request), LifecycleEvent.model_validate(await request.json())
        subscription = tenant.exchange.subscriptions[wanted.subscription_id]
        if subscription.lifecycle_url is None:
            raise ValueError("the subscription has no lifecycleNotificationUrl")
        item = lifecycle_notice(tenant, subscription, wanted.event)
        if wanted.event == "subscriptionRemoved":
            del tenant.exchange.subscriptions[subscription.id]
        _queue(tenant, subscription.lifecycle_url, item)
        return web.json_response(item, status=201)


def _queue(tenant: Tenant, url: str, item: Properties) -> None:
    now = tenant.clock.now()
    tenant.exchange.outbox.waiting.append(Notice(url, item, now, now))


def _plausible(tenant: Tenant, subscription: Subscription) -> Properties:
    """A notification as it would be for the newest event of the mailbox."""
    mailbox = tenant.exchange.by_guid(subscription.mailbox) if subscription.mailbox else None
    if mailbox is None or not mailbox.items:
        raise ValueError("the mailbox of the subscription has no event to tell of")
    newest = max(mailbox.items.values(), key=lambda item: item.version)
    return notice(tenant, subscription, mailbox, newest, subscription.change_types[-1])


def _subscription(subscription: Subscription) -> Properties:
    mailbox = str(subscription.mailbox) if subscription.mailbox else None
    return shown(subscription) | {"mailboxId": mailbox, "immutableIds": subscription.immutable}


def _notice(each: Notice) -> Properties:
    return {"url": each.url, "item": each.item, "due": each.due.isoformat(), "attempts": each.attempts}
