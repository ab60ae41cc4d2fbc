"""Names of time zones, Windows' and IANA's, and the wall clocks that they stand for.

The map of Windows names is CLDR's, as the package tzlocal carries it.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tzlocal.windows_tz import tz_win, win_tz

WINDOWS_UTC = "UTC"
# Files that a machine keeps beside its zones: the first is whatever zone it is in itself.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})


@lru_cache(maxsize=1024)
def iana(name: str) -> str | None:
    """The IANA name of a zone with a Windows or an IANA name.

    None where that says nothing: an empty name, an unknown one, or `tzone://Microsoft/Custom`.
    """
    if name in _NO_ZONES:
        return None
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return win_tz.get(name)


def windows(zone: str) -> str:
    """The Windows name of an IANA zone; `UTC` where Windows has none for it."""
    return tz_win.get(zone, WINDOWS_UTC)


def to_utc(wall: datetime, zone: str) -> datetime:
    """When the clocks of an IANA zone show the naive `wall`, in UTC.

    A time that they show twice is the first of the two. One that they skip lies as long after the jump as it would
    have without it: 02:30 is 03:30 (PEP 495, fold 0). Raises OverflowError at the ends of the calendar.
    """
    return wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)


def to_wall(at: datetime, zone: str) -> datetime:
    """What the clocks of an IANA zone show at an instant, naive. Raises OverflowError at the ends of the calendar."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def skipped(wall: datetime, zone: str) -> timedelta:
    """How much later than the naive `wall` it is by the clocks of an IANA zone where they skip that time; else nothing."""
    return to_wall(to_utc(wall, zone), zone) - wall


def is_plain(wall: datetime, zone: str) -> bool:
    """Whether the clocks of an IANA zone show the naive `wall` exactly once."""
    first, second = (wall.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1))
    return first == second


def is_shared(at: datetime, zone: str) -> bool:
    """Whether Microsoft, told the Windows name of an IANA zone, takes the zone's wall clock for the same instant.

    Not for the few zones that Windows has no name for, or one whose rules are not the same by now.
    """
    return to_utc(to_wall(at, zone), win_tz[windows(zone)]) == to_utc(to_wall(at, zone), zone)
