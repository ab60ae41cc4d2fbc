"""What subscribers are told of a change (Learn: changeNotification resource type)."""

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from local.cloud.exchange.ids import ItemId, change_key
from local.cloud.exchange.mailbox import Item, Mailbox
from local.cloud.exchange.outbox import Notice, Properties, Receiver, Subscription
from local.cloud.tenants import Tenant

SLOW = timedelta(minutes=10)


def announce(tenant: Tenant, mailbox: Mailbox, item: Item, change_type: str) -> None:
    """Queue what every subscription to this mailbox is told: usually more than once, now and then not at all."""
    now = tenant.clock.now()
    for subscription in tenant.exchange.subscriptions.values():
        concerned = subscription.mailbox == mailbox.guid and change_type in subscription.change_types
        if concerned and subscription.expires > now:
            _queue(tenant, subscription, mailbox, item, change_type, now)


def _queue(
    tenant: Tenant, subscription: Subscription, mailbox: Mailbox, item: Item, change_type: str, now: datetime
) -> None:
    faults, outbox = tenant.faults, tenant.exchange.outbox
    again = "updated" if change_type == "created" and "updated" in subscription.change_types else change_type
    for number in range(outbox.rng.randint(*sorted(faults.notification_copies))):
        if outbox.rng.random() < faults.notification_loss:
            outbox.counts["lost"] += 1
            continue
        shown = notice(tenant, subscription, mailbox, item, again if number else change_type)
        receiver = outbox.receivers.get(urlsplit(subscription.notification_url).netloc, Receiver())
        if receiver.drop_until and receiver.drop_until > now:
            outbox.counts["dropped"] += 1
            continue
        due = now + timedelta(milliseconds=faults.notification_delay_ms)
        if receiver.slow_until and receiver.slow_until > now:
            due += SLOW
        outbox.waiting.append(Notice(subscription.notification_url, shown, now, due))


def notice(tenant: Tenant, subscription: Subscription, mailbox: Mailbox, item: Item, change_type: str) -> Properties:
    """One item of a notification."""
    item_id = str(ItemId(mailbox.guid, item.guid, None if subscription.immutable else item.moves))
    path = f"Users/{mailbox.guid}/Events/{item_id}"
    return _head(tenant, subscription) | {
        "changeType": change_type,
        "resource": path,
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.Event",
            "@odata.id": path,
            "@odata.etag": f'W/"{change_key(mailbox.guid, item.version)}"',
            "id": item_id,
        },
    }


def lifecycle_notice(tenant: Tenant, subscription: Subscription, event: str) -> Properties:
    return _head(tenant, subscription) | {
        "resource": subscription.resource,
        "lifecycleEvent": event,
    }


def _head(tenant: Tenant, subscription: Subscription) -> Properties:
    return {
        "subscriptionId": subscription.id,
        "subscriptionExpirationDateTime": subscription.expires.isoformat(),
        "clientState": subscription.client_state,
        "tenantId": tenant.id,
    }
