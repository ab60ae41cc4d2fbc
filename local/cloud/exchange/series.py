"""The occurrences of a stored event: those of its pattern, less the deleted ones, with the changed ones in their place."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from local.cloud.exchange.mailbox import Item, Properties, SeriesException
from local.cloud.exchange.recurrence import slot_at, slots
from local.cloud.exchange.zones import When

FAR = timedelta(days=1825)


class Occurrence(NamedTuple):
    """`slot` is where the pattern puts it (Graph's originalStart), `exception` how it differs, if it does."""

    slot: datetime
    when: When
    exception: SeriesException | None = None


def occurrences(item: Item, since: datetime, until: datetime) -> list[Occurrence]:
    """What of a series falls into a window, in the order of the pattern."""
    return [each for each in _kept(item, until) if each.when.overlaps(since, until)]


def _kept(item: Item, until: datetime) -> Iterator[Occurrence]:
    assert item.recurrence is not None
    waiting = dict(item.exceptions)
    for when in slots(item.recurrence, item.when, until):
        if when.start not in item.cancelled:
            exception = waiting.pop(when.start, None)
            yield Occurrence(when.start, exception.when if exception else when, exception)
    for slot, exception in sorted(waiting.items()):
        yield Occurrence(slot, exception.when, exception)


def occurrence(item: Item, slot: datetime) -> Occurrence | None:
    """The occurrence that the pattern puts at `slot`, None where there is none or it has been deleted."""
    if item.recurrence is None or slot in item.cancelled:
        return None
    found = slot_at(item.recurrence, item.when, slot)
    if found is None:
        return None
    exception = item.exceptions.get(slot)
    return Occurrence(slot, exception.when if exception else found, exception)


def neighbours(item: Item, slot: datetime) -> tuple[Occurrence | None, Occurrence | None]:
    """The occurrences before and after one."""
    assert item.recurrence is not None
    before = after = None
    for when in slots(item.recurrence, item.when):
        if when.start in item.cancelled or when.start == slot:
            continue
        exception = item.exceptions.get(when.start)
        each = Occurrence(when.start, exception.when if exception else when, exception)
        if when.start > slot:
            after = each
            break
        before = each
    return before, after


def busy_times(item: Item, since: datetime, until: datetime) -> list[When]:
    """When an event blocks its calendar inside a window."""
    if item.recurrence is None:
        return [item.when] if item.when.overlaps(since, until) and blocks(item) else []
    return [each.when for each in occurrences(item, since, until) if blocks(item, each)]


def blocks(item: Item, each: Occurrence | None = None) -> bool:
    properties = held_of(item, each.slot if each else None)
    return properties["showAs"] != "free" and not properties["isCancelled"]


def held_of(item: Item, slot: datetime | None) -> Properties:
    """The properties of an item, or of one of its occurrences: the series', with what differs."""
    exception = item.exceptions.get(slot) if slot else None
    return item.properties | exception.changes if exception else item.properties
