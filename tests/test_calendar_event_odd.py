"""Events of which an answer leaves out what the others say."""

from typing import Any

import pytest

from sync.calendars.event import parse_event, title_of
from tests.events import BERLIN, PLACEHOLDER, at, event, parsed, person


@pytest.mark.parametrize(
    ("changes", "etag"),
    [
        ({}, 'W/"ZlnW4R"'),
        ({"@odata.etag": 'W/"other"'}, 'W/"other"'),
        ({"@odata.etag": None}, 'W/"ZlnW4R"'),
        ({"@odata.etag": None, "changeKey": None}, ""),
    ],
)
def test_version(changes: dict[str, Any], etag: str) -> None:
    """The etag, or the one that the change key makes; "" where nothing tells it."""
    assert parsed(**changes).etag == etag


SERIES = {"pattern": {"type": "daily", "interval": 1}, "range": {"type": "noEnd", "startDate": "2026-04-15"}}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "single"),
        ({"recurrence": SERIES}, "series"),
        ({"seriesMasterId": "M"}, "occurrence"),
        ({"seriesMasterId": "M", "originalStart": "2026-04-15T11:00:00Z"}, "occurrence"),
        ({"seriesMasterId": "M", "originalStart": "2026-04-14T11:00:00Z"}, "exception"),
        (
            {
                "seriesMasterId": "M",
                "isAllDay": True,
                "start": at("2026-04-15T00:00:00"),
                "end": at("2026-04-16T00:00:00"),
                "originalStart": "2026-04-15T07:00:00Z",
            },
            "occurrence",
        ),
    ],
)
def test_kind(changes: dict[str, Any], kind: str) -> None:
    """What its other properties make of an event that does not say it."""
    raw = event(**changes)
    del raw["type"]

    assert parse_event(raw, BERLIN).kind == kind


@pytest.mark.parametrize(("said", "is_organizer"), [(True, True), (False, False), (None, None)])
def test_whether_it_is_the_organizer(said: bool | None, is_organizer: bool | None) -> None:
    """Silence is no denial."""
    assert parsed(isOrganizer=said).is_organizer is is_organizer


def test_an_organizer_without_an_address() -> None:
    """Only the name is known, which is no title."""
    remote = parsed(organizer=person(" Ann Lee ", None), subject="Ann Lee")

    assert (remote.organizer, remote.organizer_name) == (None, "Ann Lee")
    assert title_of(remote, None, policy_read=True) == PLACEHOLDER
