"""Brings what is under way to its receivers: meeting messages between mailboxes, notifications over HTTP.

Learn: Receive change notifications through webhooks. 2xx within 3 seconds is a delivery; everything else is tried again
after growing waits, with 10 seconds for an answer, for 4 hours. Waits are the tenant's time: who moves its clock forward
need not wait.
"""

import asyncio
import ssl
import time
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from local.cloud.exchange import booking
from local.cloud.exchange.outbox import Notice, Receiver
from local.cloud.tenants import Tenant

MOST_ITEMS = 20
AT_ONCE = 4
TRIED_FOR = timedelta(hours=4)
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=30)
WATCHED = timedelta(minutes=10)
ENOUGH_ANSWERS = 10


class Courier:
    """`poke` after everything that may have put something under way, or moved a clock."""

    def __init__(self, authority: Path) -> None:
        self._authority = authority
        self._session: aiohttp.ClientSession | None = None
        self._lanes: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._bells: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def close(self) -> None:
        for lane in self._lanes.values():
            lane.cancel()
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)
        if self._session:
            await self._session.close()

    def poke(self, tenant: Tenant) -> None:
        booking.settle(tenant)
        self._bells[tenant.id].set()
        self._bells[tenant.id] = asyncio.Event()
        if booking.next_delivery(tenant):
            self._start(tenant, "")
        outbox = tenant.exchange.outbox
        if outbox.mode == "send":
            for url in {notice.url for notice in outbox.waiting}:
                self._start(tenant, url)

    def _start(self, tenant: Tenant, url: str) -> None:
        running = self._lanes.get((tenant.id, url))
        if running is None or running.done():
            work = self._post_lane(tenant, url) if url else self._mail_lane(tenant)
            self._lanes[tenant.id, url] = asyncio.get_running_loop().create_task(work)

    async def _mail_lane(self, tenant: Tenant) -> None:
        while due := booking.next_delivery(tenant):
            await self._until(tenant, due)
            booking.settle(tenant)
            self.poke(tenant)

    async def _post_lane(self, tenant: Tenant, url: str) -> None:
        outbox = tenant.exchange.outbox
        while outbox.mode == "send" and (mine := [notice for notice in outbox.waiting if notice.url == url]):
            await self._until(tenant, min(notice.due for notice in mine))
            await self.send_due(tenant, url)

    async def _until(self, tenant: Tenant, due: datetime) -> None:
        """Return at that time of the tenant, or as soon as somebody pokes."""
        wait = (due - tenant.clock.now()).total_seconds()
        if wait > 0:
            bell = self._bells[tenant.id]
            try:
                await asyncio.wait_for(bell.wait(), wait)
            except TimeoutError:
                return

    async def send_due(
        self, tenant: Tenant, url: str, count: int = MOST_ITEMS * AT_ONCE, *, early: bool = False
    ) -> list[int]:
        """Send what waits for a URL and is due (`early`: whatever waits); answers the status of each POST, 0 for none."""
        outbox, now = tenant.exchange.outbox, tenant.clock.now()
        due = [notice for notice in outbox.waiting if notice.url == url and (early or notice.due <= now)]
        if tenant.faults.notification_shuffle:
            outbox.rng.shuffle(due)
        due = due[:count]
        taken = set(map(id, due))
        outbox.waiting = [notice for notice in outbox.waiting if id(notice) not in taken]
        posts = [due[start : start + MOST_ITEMS] for start in range(0, len(due), MOST_ITEMS)]
        return list(await asyncio.gather(*(self._send(tenant, url, post) for post in posts)))

    async def _send(self, tenant: Tenant, url: str, notices: list[Notice]) -> int:
        faults, outbox = tenant.faults, tenant.exchange.outbox
        patience = faults.too_slow_after_ms if any(notice.attempts for notice in notices) else faults.slow_after_ms
        started = time.monotonic()
        status, _, _ = await self.post(url, patience / 1000, json={"value": [notice.item for notice in notices]})
        watch(tenant, url, time.monotonic() - started)
        delivered = 200 <= status < 300
        outbox.counts["posts"] += 1
        outbox.counts["delivered" if delivered else "failed"] += len(notices)
        if not delivered:
            for notice in notices:
                put_back(tenant, notice)
        return status

    async def post(self, url: str, seconds: float, **content: Any) -> tuple[int, str, str]:
        """POST; answers status, content type and text; the status is 0 where nothing answered in time."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().post(url, timeout=timeout, allow_redirects=False, **content) as answer:
                return answer.status, answer.content_type, await answer.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, "", ""

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            trust = ssl.create_default_context()
            trust.load_verify_locations(self._authority)
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=0))
        return self._session


def put_back(tenant: Tenant, notice: Notice) -> None:
    """Keep an undelivered item for its next try, unless it has been tried for long enough."""
    now, outbox = tenant.clock.now(), tenant.exchange.outbox
    notice.attempts += 1
    notice.due = now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** (notice.attempts - 1))
    if notice.due - notice.queued > TRIED_FOR:
        outbox.counts["expired"] += 1
    else:
        outbox.waiting.append(notice)


def watch(tenant: Tenant, url: str, seconds: float) -> None:
    """A receiver that answers too slowly, too often, gets its notifications late or not at all for ten minutes."""
    now, faults = tenant.clock.now(), tenant.faults
    receiver = tenant.exchange.outbox.receivers.setdefault(urlsplit(url).netloc, Receiver())
    receiver.answers.append((now, seconds))
    lately = [each for at, each in receiver.answers if now - at <= WATCHED]
    if len(lately) < ENOUGH_ANSWERS:
        return
    if sum(each * 1000 > faults.slow_after_ms for each in lately) / len(lately) > 0.10:
        receiver.slow_until = now + WATCHED
    if sum(each * 1000 > faults.too_slow_after_ms for each in lately) / len(lately) > 0.15:
        receiver.drop_until = now + WATCHED
