"""The photos that the portal holds, and how one is given up: by the deletion guard, as everything is."""

from collections.abc import Iterable, Sequence

from storage.tables import Row, Write
from sync.deletions import At, Deletions, Kind
from sync.feed import Change
from sync.jobs import Work
from sync.people import USER, photo_prefix
from sync.runs import LogLine

GONE = "removed"
PHOTOS = Kind(
    entity="photo",
    prefix=USER,
    remedies={
        GONE: "Nothing to do: this user has no photo in the directory any more.",
        "user-not-found": "Nothing to do: the next users sync notices that the user is gone.",
        "photo-refused-before": "Upload another photo for this user; the one refused earlier has not changed.",
    },
)


def blob_name(connection: str, row_key: str, content: str) -> str:
    """The name of a photo's blob: its content's hash is in it, so a row never names bytes other than its own."""
    return f"{photo_prefix(connection, row_key)}{content}"


def forget(work: Work, blobs: Sequence[str]) -> None:
    """Delete these blobs: after the commit that they are named in, and again by whoever goes on from it."""
    for name in blobs:
        work.app.blobs.delete(name)


class Albums(Deletions):
    """The deletions of photos. That one is noted stands on the user's row, as `photo_gone`."""

    def __init__(self, work: Work) -> None:
        super().__init__(work, PHOTOS)

    @property
    def each(self) -> int:
        return 40

    def total(self) -> int:
        data = self.work.app.tables.data
        rows = data.scan(self.work.connection, USER, columns=("j_photo",), where="state eq 'active'")
        return sum(1 for row in rows if row.get("j_photo"))

    def noted(self, ids: Iterable[str]) -> Sequence[tuple[str, str]]:
        rows = [self._row(self.key(item_id)) for item_id in ids]
        return [(row["key"], GONE) for row in rows if row is not None and _is_gone(row)]

    def waiting(self) -> list[Row]:
        """All that is noted; a note of somebody who has left meanwhile is taken away, for their photo goes with them."""
        still = []
        for noted in super().waiting():
            row = self._row(noted["row"])
            if row is not None and _is_gone(row):
                still.append(noted)
            else:
                left = [] if row is None else [Write("update", noted["row"], {"photo_gone": False})]
                self.work.claim.commit(self.work.now(), [*left, self.free(noted["row"])])
        return still

    def _row(self, key: str) -> Row | None:
        return self.work.app.tables.data.get(self.work.connection, key)

    def delete(self, due: Sequence[tuple[str, str]], at: At) -> None:
        rows = [row for row in (self._row(key) for key, _ in due) if row is not None and _is_gone(row)]
        emptied = {"j_photo": None, "photo_rejected": "", "photo_gone": False}
        unnamed = [blob_name(self.work.connection, row["key"], row["j_photo"]["hash"]) for row in rows]
        ids = [self.id(row["key"]) for row in rows]
        self.work.claim.commit(
            self.work.now(),
            [write for row in rows for write in (Write("update", row["key"], emptied), self.free(row["key"]))],
            changes=[Change("photo", item_id, "deleted") for item_id in ids],
            log=[LogLine("info", "photo", item_id, "deleted", GONE, PHOTOS.remedies[GONE]) for item_id in ids],
            outcomes={"deleted": len(rows)},
            checkpoint={**at, "unnamed": unnamed},
        )
        forget(self.work, unnamed)


def _is_gone(row: Row) -> bool:
    return row["state"] == "active" and bool(row.get("photo_gone")) and bool(row.get("j_photo"))
