"""Transactions of the API on rooms and reservations: decided on what is stored, told in the feed, tried again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from storage.tables import Conflict, Write
from sync.feed import Change, Head

if TYPE_CHECKING:
    from sync.wiring import App

ATTEMPTS = 40
NO_RUN = ""  # what the feed names as the run of a change that the portal itself made
T = TypeVar("T")


@dataclass(frozen=True)
class Step(Generic[T]):
    """What a transaction is to write, the row that it is about first, and what it comes to."""

    result: T
    writes: Sequence[Write] = ()
    changes: Sequence[Change] = ()


def transact(app: "App", connection: str, decide: Callable[[], Step[T]]) -> tuple[T, str]:
    """Commit what `decide` finds right, anew whenever others wrote meanwhile; its result, and the first row's etag.

    Raises what `decide` raises, and Conflict where others kept writing.
    """
    data = app.tables.data
    head = Head(data, connection)
    for _ in range(ATTEMPTS):
        step = decide()
        if not step.writes:
            return step.result, ""
        told = head.append(step.changes, NO_RUN, app.clock()) if step.changes else []
        try:
            return step.result, data.commit(connection, [*step.writes, *told])[0]
        except Conflict:
            head.forget()
        first = step.writes[0]
        found = data.get(connection, first.key)
        if found is not None and first.row and all(found.get(name) == value for name, value in first.row.items()):
            return step.result, found["etag"]  # this very write: its answer was lost and the SDK sent it again
    raise Conflict("others kept writing")
