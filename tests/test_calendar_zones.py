"""Names of zones and what their clocks show, above all where these are put forward or back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tzlocal.windows_tz import tz_win, win_tz

from sync.calendars.zones import iana, is_plain, is_shared, skipped, to_utc, to_wall, windows

NEW_YORK = "America/New_York"
ZONES = [NEW_YORK, "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "UTC"]
START = datetime.fromisoformat("2000-01-01T00:00:00")
zones = st.sampled_from(ZONES)
walls = st.integers(0, 60 * 365 * 86400).map(lambda seconds: START + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Eastern Standard Time", NEW_YORK),
        ("GTB Standard Time", "Europe/Bucharest"),  # once missing in somebody's own map
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("Europe/Vienna", "Europe/Vienna"),
        ("UTC", "UTC"),
        ("tzone://Microsoft/Custom", None),
        ("tzone://Microsoft/Utc", None),
        ("", None),
        ("Customized Time Zone", None),
        ("America", None),  # a folder
        ("../../etc/passwd", None),
        ("a" * 5000, None),
        ("half\ud83d", None),
        ("localtime", None),  # whatever this machine is in
    ],
)
def test_iana(name: str, expected: str | None) -> None:
    """A zone is known by its Windows or its IANA name; anything else says nothing, and above all not UTC."""
    assert iana(name) == expected


def test_every_windows_name_is_known() -> None:
    """Each zone of Windows has a zone that can be used here, and its name comes back from it."""
    for name in win_tz:
        found = iana(name)
        assert found is not None
        assert windows(found) == name


def test_every_iana_name_has_a_windows_name_that_is_known() -> None:
    assert {name for name in tz_win if windows(name) not in win_tz} == set()


def test_a_zone_without_windows_name() -> None:
    """It is called UTC, and not shared."""
    assert windows("Antarctica/Troll") == "UTC"
    assert not is_shared(datetime(2026, 7, 1, tzinfo=UTC), "Antarctica/Troll")


@pytest.mark.parametrize(
    ("wall", "expected", "plain"),
    [
        pytest.param("2026-03-08T01:59:59", "2026-03-08T06:59:59", True, id="before the jump"),
        pytest.param("2026-03-08T02:00:00", "2026-03-08T07:00:00", False, id="skipped: 03:00"),
        pytest.param("2026-03-08T02:30:00", "2026-03-08T07:30:00", False, id="skipped: 03:30"),
        pytest.param("2026-03-08T03:00:00", "2026-03-08T07:00:00", True, id="after the jump"),
        pytest.param("2026-11-01T00:59:59", "2026-11-01T04:59:59", True, id="before it is put back"),
        pytest.param("2026-11-01T01:30:00", "2026-11-01T05:30:00", False, id="twice: the first"),
        pytest.param("2026-11-01T02:00:00", "2026-11-01T07:00:00", True, id="after it was put back"),
    ],
)
def test_to_utc(wall: str, expected: str, plain: bool) -> None:
    """A time that New York's clocks skip is as long after the jump; of two that they show twice it is the first."""
    given_wall = datetime.fromisoformat(wall)

    assert to_utc(given_wall, NEW_YORK) == datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert is_plain(given_wall, NEW_YORK) == plain


@pytest.mark.parametrize(
    ("wall", "zone", "expected"),
    [
        ("2026-03-08T01:59:59", NEW_YORK, timedelta(0)),
        ("2026-03-08T02:00:00", NEW_YORK, timedelta(hours=1)),
        ("2026-03-08T03:00:00", NEW_YORK, timedelta(0)),
        ("2026-11-01T01:30:00", NEW_YORK, timedelta(0)),
        ("2026-10-04T02:15:00", "Australia/Lord_Howe", timedelta(minutes=30)),
        ("2011-12-30T12:00:00", "Pacific/Apia", timedelta(days=1)),
    ],
)
def test_skipped(wall: str, zone: str, expected: timedelta) -> None:
    """What the clocks skip, an hour in most places and a day where the date line moved, and not what they show twice."""
    assert skipped(datetime.fromisoformat(wall), zone) == expected


@given(walls, zones)
def test_a_plain_time_comes_back(wall: datetime, zone: str) -> None:
    """What the clocks show once survives the way to UTC and back; what they skip comes back later by the jump."""
    back = to_wall(to_utc(wall, zone), zone)

    assert back == wall or (not is_plain(wall, zone) and timedelta(0) < back - wall <= timedelta(days=1))


@given(walls, zones)
def test_an_instant_comes_back_unless_it_is_the_second_of_two(at: datetime, zone: str) -> None:
    moment = at.replace(tzinfo=UTC)
    back = to_utc(to_wall(moment, zone), zone)

    assert back == moment or (not is_plain(to_wall(moment, zone), zone) and back < moment)


@given(walls)
def test_shared_zones(at: datetime) -> None:
    """What Windows calls a zone by has the zone's own hours, here by the example of two that share one name."""
    assert ZoneInfo(NEW_YORK).utcoffset(at) == ZoneInfo("America/Detroit").utcoffset(at)
    assert is_shared(at.replace(tzinfo=UTC), "America/Detroit")


def test_a_zone_that_left_its_windows_zone() -> None:
    """Scoresbysund keeps Greenland's hours since 2024, and is still called Azores in CLDR."""
    assert is_shared(datetime(2020, 7, 1, tzinfo=UTC), "America/Scoresbysund")
    assert not is_shared(datetime(2026, 7, 1, tzinfo=UTC), "America/Scoresbysund")
