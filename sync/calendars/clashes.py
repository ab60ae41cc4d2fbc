"""Which reservations need the room at the same moment: pure, for a single one and for a long series alike."""

from bisect import bisect_left
from collections.abc import Iterable

from sync.calendars.model import Times


def clashing(wanted: Iterable[Times], taken: Iterable[Times]) -> list[Times]:
    """Those of `taken` that overlap with any of `wanted`, in the order of their starts.

    No two of `wanted` overlap, as no two occurrences of a series do: so the last one that begins before another
    reservation ends is the only one that can reach into it.
    """
    ordered = sorted(wanted, key=lambda times: times.start)
    starts = [times.start for times in ordered]
    found = [each for each in taken if (before := bisect_left(starts, each.end)) and ordered[before - 1].overlaps(each)]
    return sorted(found, key=lambda times: (times.start, times.end))
