"""Recurrences as texts: two are equal where they say the same."""

import json
from collections.abc import Mapping
from typing import Any


def canonical(recurrence: Mapping[str, Any] | None) -> str:
    """A text that two recurrences in our form (recurrence.reduced) share exactly where they mean the same; "" for none.

    The zone is that of the event's times.
    """
    if recurrence is None:
        return ""
    span = {name: value for name, value in recurrence["range"].items() if name != "recurrenceTimeZone"}
    pattern = {
        name: sorted(value) if isinstance(value, list | tuple) else value
        for name, value in recurrence["pattern"].items()
    }
    return json.dumps([pattern, span], sort_keys=True)


def recurrence_of(pattern: str) -> Mapping[str, Any]:
    """The recurrence that a text of `canonical` stands for."""
    parts = json.loads(pattern)
    return {"pattern": parts[0], "range": parts[1]}
