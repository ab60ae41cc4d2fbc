"""What to do about one item: by table for every situation, by property for every sequence of them."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.plan import Absent, Decision, Present, Stored, decide, digest, guard_holds

ANN = {"displayName": "Ann", "businessPhones": ["+1 206"]}
ANNE = {"displayName": "Anne", "businessPhones": ["+1 206"]}
ACTIVE = Stored("active", digest(ANN))
DELETED = Stored("deleted", digest(ANN))
PURGED = Stored("purged", "")


@pytest.mark.parametrize(
    ("source", "stored", "expected"),
    [
        pytest.param(Present(ANN), None, Decision("created", "created"), id="new"),
        pytest.param(Present(ANN), PURGED, Decision("created", "created"), id="back after the purge: new again"),
        pytest.param(Present(ANN), DELETED, Decision("restored", "restored"), id="back within 30 days"),
        pytest.param(Present(ANNE), DELETED, Decision("restored", "restored"), id="back and changed: one change"),
        pytest.param(Present(ANNE), ACTIVE, Decision("updated", "updated"), id="changed"),
        pytest.param(Present(ANN), ACTIVE, Decision("unchanged", None), id="as it was"),
        pytest.param(Absent("left"), ACTIVE, Decision("deleted", "deleted", "left"), id="left"),
        pytest.param(Absent("guest"), ACTIVE, Decision("deleted", "deleted", "guest"), id="out of scope"),
        pytest.param(Absent("left"), None, Decision("skipped", None, "left"), id="never held"),
        pytest.param(Absent("left"), DELETED, Decision("skipped", None, "left"), id="a tombstone already"),
        pytest.param(Absent("guest"), PURGED, Decision("skipped", None, "guest"), id="purged already"),
    ],
)
def test_decide(source: Present | Absent, stored: Stored | None, expected: Decision) -> None:
    """Every situation has one outcome, and a change for the portal exactly where something is written."""
    assert decide(source, stored) == expected


SOURCES = st.one_of(
    st.dictionaries(st.sampled_from(["displayName", "mail"]), st.one_of(st.none(), st.text(max_size=2))).map(Present),
    st.sampled_from(["left", "guest", "disabled"]).map(Absent),
)


def follow(stored: Stored | None, source: Present | Absent) -> tuple[Decision, Stored | None]:
    """The decision, and what is stored after it is applied."""
    decision = decide(source, stored)
    if decision.change is None:
        return decision, stored
    if isinstance(source, Present):
        return decision, Stored("active", digest(source.fields))
    assert stored is not None
    return decision, replace(stored, state="deleted")


@given(st.lists(st.tuples(SOURCES, st.integers(1, 3)), min_size=1))
def test_last_source_wins(told: list[tuple[Present | Absent, int]]) -> None:
    """Any sequence of sources, each told any number of times, ends in the state that the last one gives."""
    stored: Stored | None = None
    for source, times in told:
        for _ in range(times):
            _, stored = follow(stored, source)

    last = told[-1][0]
    held = stored if stored is not None and stored.state == "active" else None
    assert held == (Stored("active", digest(last.fields)) if isinstance(last, Present) else None)


@given(st.lists(SOURCES, min_size=1))
def test_a_repeat_changes_nothing(told: list[Present | Absent]) -> None:
    """A source that is told again right away leads to no change for the portal."""
    stored: Stored | None = None
    for source in told:
        _, stored = follow(stored, source)
        again, after = follow(stored, source)
        assert (again.change, after) == (None, stored)


@given(st.lists(SOURCES))
def test_counts_add_up(told: list[Present | Absent]) -> None:
    """Every item told is counted once, and comings less goings are what is held at the end."""
    stored: Stored | None = None
    counts: Counter[str] = Counter()
    for source in told:
        decision, stored = follow(stored, source)
        counts[decision.outcome] += 1
        assert (decision.change is None) == (decision.outcome in ("unchanged", "skipped"))

    assert counts.total() == len(told)
    held = stored is not None and stored.state == "active"
    assert counts["created"] + counts["restored"] - counts["deleted"] == held


@given(SOURCES, st.sampled_from([ACTIVE, DELETED, PURGED]))
def test_a_purged_item_is_never_restored(source: Present | Absent, before: Stored) -> None:
    """Only a tombstone that still has its data can be restored."""
    assert (decide(source, before).outcome == "restored") == (isinstance(source, Present) and before.state == "deleted")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, False),
        ({"a": "Zoë"}, {"a": "Zoe"}, False),
        ({"a": "ann"}, {"a": "Ann"}, False),
        ({"a": True}, {"a": "true"}, False),
    ],
)
def test_digest(one: dict[str, object], other: dict[str, object], same: bool) -> None:
    """Equal content has one digest in any order of names; a change of letter case or of type is a change."""
    assert (digest(one) == digest(other)) == same


@pytest.mark.parametrize(
    ("deletions", "total", "max_count", "max_percent", "holds"),
    [
        (0, 100, 0, 0, False),
        (20, 100, 500, 20, False),
        (21, 100, 500, 20, True),
        (501, 100_000, 500, 20, True),
        (500, 100_000, 500, 20, False),
        (2, 10, 500, 20, False),
        (3, 10, 500, 20, True),
        (1, 1, 500, 20, False),  # half of a few, and one of one
        (4, 9, 500, 20, False),
        (5, 9, 500, 20, True),
        (2, 3, 500, 20, True),
        (6, 9, 500, 70, False),
        (9, 9, 500, 100, False),
        (1, 100, 500, 0, True),  # 0 lets nothing pass
        (1, 100, 0, 100, True),
    ],
)
def test_guard(deletions: int, total: int, max_count: int, max_percent: int, holds: bool) -> None:
    """More than the count or than the share waits; a single one does not, unless either limit is 0."""
    assert guard_holds(deletions, total, max_count, max_percent) is holds


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 600), st.integers(0, 100))
def test_guard_grows_with_what_it_guards(deletions: int, more: int, max_count: int, max_percent: int) -> None:
    """Whatever is held stays held with more deletions, and no limit lets everything of ten or more go but 100%."""
    total = deletions + more
    if guard_holds(deletions, total, max_count, max_percent):
        assert guard_holds(deletions + 1, total, max_count, max_percent)
    elif total >= 10 and deletions == total:
        assert max_percent == 100
