"""The demo's part about rooms: one becomes active, and what is booked on either side is on both, by real webhooks."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time
from functools import partial
from itertools import takewhile
from urllib.parse import quote
from zoneinfo import ZoneInfo

from local.portal import ENDED, Json, Portal, Tenant
from local.printed import say, table
from local.processes import Failed
from sync.notifications import DELAY_SECONDS

ROOM = "boardroom"
ZONE = "America/New_York"
ORGANIZER = "adele@contoso.onmicrosoft.com"
MEETING, RESERVATION, SERIES = "Budget review", "Visit of the architects", "Weekly planning"
OCCURRENCES, BEFORE = 4, 2  # in all, and before the clock changes
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.1
MOST_REQUESTS = 3
Span = tuple[datetime, datetime]


def show_calendars(portal: Portal, tenant: Tenant, connection: str, step: Callable[[str], None]) -> None:
    """The story of one room; `step` prints the title of a step. Failed where the sides differ."""
    today = datetime.now(ZoneInfo(ZONE)).date()
    changes = clock_change(today + timedelta(weeks=BEFORE + 1))
    first = changes - timedelta(weeks=BEFORE) + timedelta(days=3)  # a Wednesday: clocks change on Sundays
    room = _Room(portal, tenant, connection)
    step("Link a room: pending until its calendar was read, then active, with a webhook")
    room.link()
    step(f"{MEETING}: Adele books it in Outlook, and a webhook brings it")
    room.meet(today + timedelta(days=1))
    step("In the portal: a reservation, and a series that crosses the next change of the clocks")
    room.reserve(today + timedelta(days=1), first)
    step("Outlook moves one occurrence of the series")
    room.move(first + timedelta(weeks=BEFORE), changes)
    step("The two sides, side by side")
    room.compare(today, first + timedelta(weeks=OCCURRENCES))


def clock_change(after: date) -> date:
    """The next day, later than `after`, on which the clocks change."""
    days = (after + timedelta(days=ahead) for ahead in range(1, 366))
    return next(day for day in days if _offset(day - timedelta(days=1)) != _offset(day))


def _offset(day: date) -> timedelta | None:
    return datetime.combine(day, wall_time(12), ZoneInfo(ZONE)).utcoffset()


def moments(day: date, hour: int, minutes: int = 60) -> Json:
    """`start` and `end` of what begins at that hour on the wall."""
    begin = datetime.combine(day, wall_time(hour))
    ends = {"start": begin, "end": begin + timedelta(minutes=minutes)}
    return {name: {"dateTime": f"{at:%Y-%m-%dT%H:%M:%S}", "timeZone": ZONE} for name, at in ends.items()}


def span(event: Mapping[str, Json]) -> Span:
    """When something takes place, in UTC, as the portal or Graph says it."""
    start, end = (
        datetime.fromisoformat(event[name]["dateTime"][:19])
        .replace(tzinfo=ZoneInfo(event[name]["timeZone"]))
        .astimezone(UTC)
        for name in ("start", "end")
    )
    return start, end


@dataclass(frozen=True)
class _Room:
    """The board room on both sides."""

    portal: Portal
    tenant: Tenant
    connection: str

    @property
    def path(self) -> str:
        return f"connections/{self.connection}/rooms/{ROOM}"

    @property
    def address(self) -> str:
        return f"{ROOM}@{ORGANIZER.partition('@')[2]}"

    # --- the steps ---------------------------------------------------------------------------------------------------

    def link(self) -> None:
        begun = time.monotonic()
        self.portal.enable(self.connection, "calendars")
        places = list(self.portal.items(f"connections/{self.connection}/places"))
        say("the tenant's rooms: " + ", ".join(f"{one['displayName']} ({one['capacity']})" for one in places))
        link = {"calendarType": "office365", "externalCalendar": self.address, "active": True, "timeZone": ZONE}
        made = self.portal.put(self.path, {"displayName": "Board room", **link})
        say(f"{made['displayName']}: {made['status']}")
        shown = self._until("The room is not active", lambda: self._shown("active"))
        if shown["statusDetail"] != "webhook":
            raise Failed(f"The room is active without a webhook: {shown['statusDetail']}")
        until = datetime.fromisoformat(shown["subscriptionExpiresAt"])
        say(
            f"{made['displayName']}: {shown['status']} after {time.monotonic() - begun:.1f} s, "
            f"by webhook, subscribed until {until:%d %B}"
        )

    def meet(self, day: date) -> None:
        room = {"type": "resource", "emailAddress": {"address": self.address, "name": "Board room"}}
        body = {"subject": MEETING, **moments(day, 11), "attendees": [room]}
        before = self._until("The sync does not come to rest", self._rest)["id"]
        sent = self._delivered()
        begun = time.monotonic()
        self.tenant.call("POST", f"mailboxes/{ORGANIZER}/events", body)
        taken = self._until("The meeting has not arrived", lambda: self._reserved(MEETING))
        seconds = time.monotonic() - begun
        run = self._notified(before)
        told, requests = self._delivered() - sent, run["graph"]["requests"]
        say(f"{told} notifications, one run, {requests} Graph requests; in the portal after {seconds:.1f} s,")
        say(f"{DELAY_SECONDS} of them waiting for the other notifications of the same booking.")
        say(f"{taken['title']}, owner {taken['owner'] and taken['owner']['name']}, origin {taken['origin']}")
        if not 0 < requests <= MOST_REQUESTS:
            raise Failed(f"The meeting took {requests} Graph requests.")

    def reserve(self, day: date, first: date) -> None:
        reservations = f"{self.path}/reservations"
        pattern = {"type": "weekly", "interval": 1, "daysOfWeek": [f"{first:%A}".lower()]}
        limit = {"type": "numbered", "startDate": first.isoformat(), "numberOfOccurrences": OCCURRENCES}
        repeat = {"recurrence": {"pattern": pattern, "range": limit}}
        self.tenant.call("DELETE", "calendar-writes")
        begun = time.monotonic()
        self.portal.post(reservations, {"title": RESERVATION, **moments(day, 14)})
        self.portal.post(reservations, {"title": SERIES, **moments(first, 9, 30), **repeat})
        for title, kind in ((RESERVATION, "single"), (SERIES, "series")):
            self._until(f"{title} was not sent", partial(self._synced, title, kind))
        writes = self.tenant.call("GET", "calendar-writes")
        if [write["method"] for write in writes] != ["POST", "POST"]:
            raise Failed(f"Two reservations made {len(writes)} writes: {writes}")
        say(f"{RESERVATION}, and {SERIES} with {OCCURRENCES} occurrences:")
        say(f"{len(writes)} writes to the room's calendar, both there after {time.monotonic() - begun:.1f} s")

    def move(self, day: date, changes: date) -> None:
        planned, moved = span(moments(day, 9, 30)), moments(day, 11, 30)
        instance = next(one for one in self._events(day, day + timedelta(days=1)) if span(one) == planned)
        begun = time.monotonic()
        self.tenant.call("PATCH", f"mailboxes/{self.address}/events/{quote(instance['id'], safe='')}", moved)
        self._until("The moved occurrence has not arrived", lambda: self._at(SERIES, span(moved)))
        say(f"The occurrence of {day:%d %B}, the first after the clocks change on {changes:%d %B %Y}, is at 11:00.")
        say(f"In the portal after {time.monotonic() - begun:.1f} s; the others have not moved.")

    def compare(self, first: date, last: date) -> None:
        """Everything on both sides. Failed where a time is not on the other, or a title is not the organizer's."""
        theirs = {span(one): one for one in self._events(first, last)}
        ours = {span(one): one for one in self._reservations(first, last)}
        rows = [["UTC", "New York", "in the portal", "in the room's calendar"]]
        for when in sorted(theirs.keys() | ours.keys()):
            mine, other = ours.get(when), theirs.get(when)
            rows.append([*_times(when), mine["title"] if mine else "-", other["subject"] if other else "-"])
        for line in table(rows, words=4):
            say(line)
        titles = [MEETING, RESERVATION, *[SERIES] * OCCURRENCES]
        if theirs.keys() != ours.keys() or sorted(one["title"] for one in ours.values()) != sorted(titles):
            raise Failed("The portal and the room's calendar are not the same.")
        walls = {
            f"{start.astimezone(ZoneInfo(ZONE)):%H:%M}" for (start, _), one in ours.items() if one["title"] == SERIES
        }
        if walls != {"09:00", "11:00"}:
            raise Failed(f"The series has left its hour: {sorted(walls)}")
        print()
        say("An Outlook meeting has its organizer's name there: its title comes from Adele's own calendar.")
        say("The series stays at 09:00 in New York, so it is at another hour of UTC once the clocks have changed.")

    # --- what is there -----------------------------------------------------------------------------------------------

    def _shown(self, status: str) -> Json | None:
        shown: Json = self.portal.get(self.path)
        if shown["status"] == "error":
            raise Failed(f"The room's sync has failed: {shown['statusDetail']}. {shown['remedy']}")
        return shown if shown["status"] == status else None

    def _reservations(self, first: date, last: date, kind: str = "") -> Iterator[Json]:
        only = f"&type={kind}" if kind else ""
        return self.portal.items(f"{self.path}/reservations?from={first}&to={last}{only}")

    def _events(self, first: date, last: date) -> list[Json]:
        """What the room's calendar shows between those days, occurrences in the place of series."""
        window = f"start={first}T00:00:00Z&end={last}T00:00:00Z"
        events = self.tenant.call("GET", f"mailboxes/{self.address}/events?{window}")
        return [instance for event in events for instance in event["instances"]]

    def _reserved(self, title: str, kind: str = "") -> Json | None:
        today = datetime.now(UTC).date()
        found = self._reservations(today, today + timedelta(days=364), kind)
        return next((one for one in found if one["title"] == title), None)

    def _synced(self, title: str, kind: str) -> Json | None:
        found = self._reserved(title, kind)
        if found and found["syncState"] in ("conflict", "rejected"):
            raise Failed(f"{title} was not taken: {found['note']}")
        return found if found and found["syncState"] == "synced" else None

    def _at(self, title: str, when: Span) -> Json | None:
        day = when[0].date()
        found = self._reservations(day - timedelta(days=1), day + timedelta(days=2))
        return next((one for one in found if one["title"] == title and span(one) == when), None)

    def _notified(self, before: str) -> Json:
        """The run that a notification has started first after the run `before`, when it is over."""
        later = [*takewhile(lambda run: run["id"] != before, self._runs())]
        run = next((run for run in reversed(later) if run["trigger"] == "notification"), None)
        if run is None:
            raise Failed("No notification has started a run.")
        if run["status"] not in ENDED:
            run = self.portal.wait(self.connection, run, seconds=PATIENCE_SECONDS)
        if run["status"] != "succeeded":
            raise Failed(f"The calendars sync ended as {run['status']}: {run['error']}")
        return run

    def _rest(self) -> Json | None:
        """The newest run, when all are over: a notification that comes while one works would not start its own."""
        runs = self._runs()
        return runs[0] if all(run["status"] in ENDED for run in runs) else None

    def _runs(self) -> list[Json]:
        """The last runs, the newest first."""
        runs: list[Json] = self.portal.get(f"connections/{self.connection}/runs?sync=calendars&top=10")["items"]
        return runs

    def _delivered(self) -> int:
        delivered: int = self.tenant.call("GET", "notifications/counts")["delivered"]
        return delivered

    def _until(self, else_: str, look: Callable[[], Json | None]) -> Json:
        """What `look` finds, as soon as it finds anything. Failed after a minute."""
        last = time.monotonic() + PATIENCE_SECONDS
        while (found := look()) is None:
            if time.monotonic() > last:
                raise Failed(f"{else_} after {PATIENCE_SECONDS} seconds: {self.portal.get(self.path)}")
            time.sleep(PAUSE_SECONDS)
        return found


def _times(when: Span) -> tuple[str, str]:
    start, end = when
    here, until = (at.astimezone(ZoneInfo(ZONE)) for at in when)
    return f"{start:%a %d %b %H:%M}-{end:%H:%M}", f"{here:%H:%M}-{until:%H:%M} {here:%Z}"
