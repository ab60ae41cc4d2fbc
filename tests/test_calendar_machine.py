"""Whatever the portal, Outlook, the weather and dying workers do, in any order: both sides come to agree.

Section 8 of the calendars' semantics, with all its operations and faults, in all eight combinations of settings. A
failing example is shrunk by Hypothesis and printed as the list of what happened.
"""

import sys
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.calendar_world import ROLES, World
from tests.clock import never_wait
from tests.cloud import Cloud
from tests.house import House

NUMBERS = count(1)
FLAGS = ("delegation", "strictMode", "createOnUserCalendar")
TITLES = st.sampled_from(["Plan", "Review", "Lunch"])
SMALL = st.integers(0, 11)
OPERATIONS = st.one_of(
    st.tuples(st.just("portal_create"), SMALL, SMALL, TITLES, SMALL),
    st.tuples(st.just("portal_series"), SMALL, SMALL, TITLES, SMALL),
    st.tuples(st.just("portal_move"), SMALL, SMALL),
    st.tuples(st.just("portal_title"), SMALL, TITLES),
    st.tuples(st.just("portal_owner"), SMALL, SMALL),
    st.tuples(st.just("portal_room"), SMALL, SMALL),
    st.tuples(st.just("portal_guests"), SMALL, st.integers(0, 7)),
    st.tuples(st.just("portal_notes"), SMALL, TITLES),
    st.tuples(st.just("portal_cancel"), SMALL),
    st.tuples(st.just("outlook_create"), SMALL, SMALL, SMALL, TITLES),
    st.tuples(st.just("outlook_series"), SMALL, SMALL, SMALL, TITLES),
    st.tuples(st.just("outlook_move"), SMALL, SMALL),
    st.tuples(st.just("outlook_title"), SMALL, TITLES),
    st.tuples(st.just("outlook_delete"), SMALL),
    st.tuples(st.just("outlook_move_occurrence"), SMALL, st.sampled_from([30, 60, -30])),
    st.tuples(st.just("outlook_delete_occurrence"), SMALL),
    st.tuples(st.just("room_create"), SMALL, SMALL, TITLES),
    st.tuples(st.just("deliver"), st.integers(1, 3)),
    st.tuples(st.just("notify"), st.integers(1, 3)),
    st.tuples(st.just("work")),
    st.tuples(st.just("sync"), st.sampled_from(["delta", "full"])),
    st.tuples(st.just("crash"), st.integers(0, 12)),
    st.tuples(st.just("flip"), st.sampled_from(FLAGS)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("fault"), st.sampled_from(["lost", "busy", "empty", "untidy"])),
)
FAULTS: dict[str, dict[str, Any]] = {
    "lost": {"rateReset": 0.4, "retryAfter": {"style": "seconds", "seconds": 0}},
    "busy": {"rate503": 0.3, "rateBatchItem": 0.3, "retryAfter": {"style": "decimal", "seconds": 0.01}},
    "empty": {"emptyRounds": 1},
    "untidy": {"untidyPaging": True, "silentOccurrenceDeletes": True},
}


def perform(world: World, operation: tuple[Any, ...]) -> None:
    name, *values = operation
    world.trace.append(repr(operation))
    match name:
        case "portal_series" | "outlook_series":
            getattr(world, name.replace("series", "create"))(*values, series=True)
        case "portal_title":
            world.portal_edit(values[0], {"title": values[1]})
        case "portal_guests":
            guests = [{"email": f"guest{bit}@fabrikam.com"} for bit in range(3) if values[1] >> bit & 1]
            world.portal_edit(values[0], {"attendees": guests})
        case "portal_notes":
            world.portal_edit(values[0], {"notes": values[1]})
        case "portal_owner":
            owner = {"name": "New", "email": world.people[values[1] % len(world.people)]}
            world.portal_edit(values[0], {"owner": owner})
        case "outlook_title":
            world.outlook_change(values[0], {"subject": values[1]})
        case "fault":
            world.fault(**FAULTS[values[0]])
        case _:
            getattr(world, name)(*values)


@pytest.mark.parametrize("combination", range(8), ids=lambda number: f"{number:03b}")
def test_both_sides_come_to_agree(
    listening: House, cloud: Cloud, combination: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_wait(monkeypatch)
    flags = {name: bool(combination >> (2 - place) & 1) for place, name in enumerate(FLAGS)}

    @settings(
        max_examples=2,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(OPERATIONS, min_size=12, max_size=24))
    def live(operations: list[tuple[Any, ...]]) -> None:
        tenant = cloud.generate(users=4, rooms=3, roles=ROLES, guestShare=0)
        name = listening.connect(tenant, f"world-{next(NUMBERS)}")
        world = World(listening, tenant, name, flags)
        try:
            for operation in operations:
                perform(world, operation)
            world.settle()
            world.judge()
            for _ in range(2):
                world.sync("full")
            stored = world.stored()
            tenant.control.delete("calendar-writes")
            world.sync("full")
            world.judge(reread=True)
            assert tenant.control.get("calendar-writes") == [], "I9"
            assert [each for each in world.stored() if each not in stored] == [], "I9"
        except BaseException:
            sys.stderr.write(f"{flags}\n" + "\n".join(world.trace))
            raise
        finally:
            tenant.control.delete("")

    live()
