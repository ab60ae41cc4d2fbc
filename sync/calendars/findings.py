"""What a room's calendar shows: a round of changes read to its end, and what it leaves out asked for.

Learn: event: delta. Not in it are the fields of occurrences (they are those of their series), a deleted occurrence (the
instances of a series of which anything has changed are listed), and the series of an occurrence that changed alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sync.calendars.event import Remote, Unreadable, hydrated, parse_event
from sync.calendars.mailboxes import Denied, Raw, Round, fetch_events, fetch_instances, fetch_round
from sync.calendars.model import Times, imported_id
from sync.calendars.terms import window_of
from sync.calendars.visit import Visit
from sync.errors import CursorExpired


@dataclass
class Findings:
    """What a round has shown: single events, series, and what seems to be gone. `complete` is one that began anew."""

    complete: bool
    singles: dict[str, Remote] = field(default_factory=dict)
    masters: dict[str, Remote] = field(default_factory=dict)
    instances: dict[str, list[Remote]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    gone_series: set[str] = field(default_factory=set)
    removed: frozenset[str] = frozenset()

    def moment(self, remote: Remote) -> Times:
        """When a single event takes place, or an occurrence of a series."""
        instances = self.instances.get(remote.id, ())
        return next((one.times for one in instances if one.kind == "occurrence"), remote.times)

    def seen(self) -> set[str]:
        """The ids of everything that is there."""
        listed = (remote.id for instances in self.instances.values() for remote in instances)
        return {*self.singles, *self.masters, *listed, *self.unreadable}


def read(visit: Visit, *, anew: bool) -> tuple[Round, bool]:
    """A round, and whether it was a complete one. An empty one where there was something is not believed at once."""
    if not anew and visit.state.delta_link:
        try:
            return fetch_round(visit.graph, visit.mailbox, visit.state.delta_link, visit.window), False
        except CursorExpired:
            visit.set(delta_link="")
    start, end = window_of(visit.settings, visit.room.time_zone, visit.work.now())
    visit.set(window_start=start, window_end=end)
    round_ = fetch_round(visit.graph, visit.mailbox, "", visit.window)
    if not round_.events and any(one.link.room_event and one.live for one in visit.ledger):
        round_ = fetch_round(visit.graph, visit.mailbox, "", visit.window)
    return round_, True


def understand(visit: Visit, round_: Round, *, complete: bool, again: Iterable[str] = ()) -> Findings:
    """What a round comes to. Also looked at are events that are to be seen `again`, by their ids."""
    findings = Findings(complete, removed=round_.removed - round_.events.keys())
    doubtful = round_.removed & round_.events.keys()
    homeless = {event for event, raw in round_.events.items() if _is_homeless(raw)}
    asked = doubtful | homeless | (set(again) - findings.removed - round_.events.keys())
    events = {**round_.events, **_present(visit, asked, findings)}
    events = {event: raw for event, raw in events.items() if event not in findings.removed | findings.unreadable}
    occurrences: dict[str, list[Remote]] = {}
    for event, raw in events.items():
        remote = parse(visit, event, raw, findings)
        if remote is None:
            continue
        match remote.kind:
            case "single":
                findings.singles[event] = remote
            case "series":
                findings.masters[event] = remote
            case _ if not remote.master:
                findings.singles[event] = replace(remote, kind="single")
            case _:
                occurrences.setdefault(remote.master, []).append(remote)
    touched = sorted(findings.masters.keys() | occurrences.keys())
    _find_masters(visit, touched, findings)
    for master in touched:
        if master in findings.masters:
            _list_instances(visit, master, occurrences.get(master, []), findings)
    return findings


def _present(visit: Visit, doubtful: Iterable[str], findings: Findings) -> dict[str, Raw]:
    """Those of the events that are there; the others are removed, or stay as they are where nobody may look."""
    asked = fetch_events(visit.graph, visit.mailbox, doubtful) if doubtful else {}
    findings.removed |= {event for event, raw in asked.items() if raw is None}
    findings.unreadable |= {event for event, raw in asked.items() if isinstance(raw, Denied)}
    return {event: raw for event, raw in asked.items() if isinstance(raw, Mapping)}


def _is_homeless(raw: Raw) -> bool:
    """Whether this is one of a series that it does not name."""
    return raw.get("type") in ("occurrence", "exception") and not raw.get("seriesMasterId")


def parse(visit: Visit, event: str, raw: Raw, findings: Findings) -> Remote | None:
    try:
        return parse_event(raw, visit.room.time_zone)
    except Unreadable as bad:
        findings.unreadable.add(event)
        visit.ledger.count("failed")
        visit.ledger.note(imported_id(visit.room.id, event), "failed", str(bad), level="error")
        return None


def _find_masters(visit: Visit, touched: Iterable[str], findings: Findings) -> None:
    """The masters that the round itself does not hold."""
    wanted = [master for master in touched if master not in findings.masters]
    for master, raw in (fetch_events(visit.graph, visit.mailbox, wanted) if wanted else {}).items():
        if raw is None:
            findings.gone_series.add(master)
        elif isinstance(raw, Denied):
            findings.unreadable.add(master)
        elif remote := parse(visit, master, raw, findings):
            findings.masters[master] = remote


def _list_instances(visit: Visit, master: str, shown: list[Remote], findings: Findings) -> None:
    """The instances in the window. Stubs of a complete round are enough where none of them was moved or renamed."""
    series = findings.masters[master]
    if findings.complete and all(one.stub for one in shown):
        findings.instances[master] = [_placed(hydrated(one, series)) for one in shown]
        return
    listed = fetch_instances(visit.graph, visit.mailbox, master, visit.window)
    if listed is None:
        findings.gone_series.add(master)
        del findings.masters[master]
        return
    parsed = [parse(visit, str(raw.get("id")), raw, findings) for raw in listed]
    findings.instances[master] = [_placed(one) for one in parsed if one is not None]


def _placed(instance: Remote) -> Remote:
    """An occurrence that was never moved begins when its series says so."""
    if instance.original_start:
        return instance
    return replace(instance, original_start=instance.times.start)
