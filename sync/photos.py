"""Profile photos: the bytes of everyone's photo once, later only those whose etag changed.

Users are walked in the order of their rows. Where a first pass has not been completed at the wished size, each
batch of 20 asks for bytes; afterwards each asks for metadata, and only changed photos are fetched, 20 at a time.
Graph's delta does not tell of photos (Learn: Use delta query to track changes), so the walk is the safe way.
"""

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar

from storage.tables import PAGE_LIMIT, Row, Write, decode_key
from sync.directory import PAUSE, USER, WRITES, people_for_photos, photo_prefix, read_directory
from sync.errors import Deferred, Forbidden, TenantsyncError
from sync.feed import Change, ChangeKind
from sync.graph.client import BatchAnswer, BatchRequest
from sync.images import BadImage, inspect, without_exif
from sync.jobs import Finish, Work, load_settings, start
from sync.models import PhotosSettings, UsersSettings
from sync.runs import LogLine, Outcome, load_run

_T = TypeVar("_T")
BATCH = 20  # requests (Learn: Combine multiple HTTP requests using JSON batching)
COMMIT_WRITES = 60  # rows of a transaction, with room for one more round of batches
COMMIT_RESULTS = 400
NO_USER = frozenset({"ErrorInvalidUser", "Request_ResourceNotFound"})
PLACEHOLDER = "1x1"  # the id under which a missing photo's metadata may come


@dataclass(frozen=True)
class Person:
    """A user as the walk sees it: `photo` is what is stored, `rejected` the etag of one that was refused."""

    key: str
    photo: Mapping[str, Any] | None
    rejected: str

    @property
    def id(self) -> str:
        return decode_key(self.key[len(USER) :])


@dataclass(frozen=True)
class Result:
    """What became of one person's photo, and what to store for it (None: nothing)."""

    person: Person
    outcome: Outcome
    change: ChangeKind | None = None
    columns: Mapping[str, Any] | None = None
    reason: str = ""
    fetch: bool = False


def run_photos(work: Work) -> Finish | None:
    """One slice of the photo sync."""
    at = dict(work.run.checkpoint)
    if "after" not in at and not _people(work, at.get("people", {})):
        return None
    settings = work.settings
    assert isinstance(settings, PhotosSettings)
    complete = work.state().get("complete") == settings.size and work.run.mode == "delta"
    if work.run.total is None:
        people = work.app.tables.data.scan(work.connection, USER, columns=(), where="state eq 'active'")
        work.claim.commit(work.now(), total=sum(1 for _ in people), unit="people")
    walk = _Walk(work, settings.size, metadata_first=complete)
    if not walk.go(at.get("after", ""), at.get("pending", [])):
        return None
    return Finish({"complete": settings.size})


def _people(work: Work, checkpoint: Mapping[str, Any]) -> bool:
    """Have a list of people: that of the users sync where it is on, else one read here with few fields."""
    settings, _ = load_settings(work.app, work.connection, "users")
    assert isinstance(settings, UsersSettings)
    state = work.state("users")
    if settings.enabled:
        if not state.get("j_cursor"):
            _wait_for_users(work, state.get("last_run"))
        return True
    reading = people_for_photos(settings, state.get("j_cursor"))
    return read_directory(work, reading, dict(checkpoint), lambda inner: {"people": inner})


def _wait_for_users(work: Work, last_run: str | None) -> NoReturn:
    """The users sync has never finished: have it run first, unless it has just failed."""
    last = load_run(work.app.tables.data, work.connection, last_run) if last_run else None
    if last and last[0].finished_at and last[0].finished_at > work.run.queued_at:
        raise TenantsyncError(
            "The users sync, whose list of people is needed, did not succeed",
            code="users-sync-needed",
            remedy="See the error of the last users run; then start the photo sync again.",
        )
    start(work.app, work.connection, "users", trigger=work.run.trigger)
    raise Deferred("Waiting for the first users sync", until=work.now() + PAUSE, throttled=True)


class _Walk:
    """The walk over all users, in slices; it commits what it did together with how far it came."""

    def __init__(self, work: Work, size: str, *, metadata_first: bool) -> None:
        self._work = work
        self._size = size
        self._metadata_first = metadata_first
        self._graph = work.graph
        self._batches = work.app.settings.photo_batches
        self._commits = 0
        self._allowed = False

    def go(self, after: str, pending: Sequence[str]) -> bool:
        """Walk on behind the row `after`; `pending` are keys whose new bytes are still to be fetched."""
        waiting = [self._person(key) for key in pending]
        held: list[Result] = []
        with ThreadPoolExecutor(self._batches) as pool:
            while True:
                people = self._next(after)
                for group in _chunks(people, BATCH * self._batches):
                    if self._work.time_is_up():
                        self._commit(held, after, waiting)
                        return False
                    try:
                        results, waiting = self._deal(pool, group, waiting)
                    except Deferred:
                        self._commit(held, after, waiting)
                        raise
                    held += results
                    after = group[-1].key
                    if len(held) >= COMMIT_RESULTS or sum(bool(result.columns) for result in held) >= COMMIT_WRITES:
                        self._commit(held, after, waiting)
                        held = []
                if len(people) < PAGE_LIMIT:
                    break
            held += self._ask(pool, waiting, metadata=False)
            self._commit(held, after, [])
        return True

    def _deal(
        self, pool: ThreadPoolExecutor, group: Sequence[Person], waiting: Sequence[Person]
    ) -> tuple[list[Result], list[Person]]:
        """The results for `group`, and for those in `waiting` that fill whole batches; and who still waits for bytes."""
        asked = self._ask(pool, group, metadata=self._metadata_first)
        fetch = [*waiting, *(result.person for result in asked if result.fetch)]
        full = len(fetch) - len(fetch) % BATCH
        results = [result for result in asked if not result.fetch]
        return [*results, *self._ask(pool, fetch[:full], metadata=False)], fetch[full:]

    def _next(self, after: str) -> list[Person]:
        rows = self._work.app.tables.data.page(
            self._work.connection, USER, after=after, columns=("j_photo", "photo_rejected"), where="state eq 'active'"
        )
        return [_person(row) for row in rows]

    def _person(self, key: str) -> Person:
        row = self._work.app.tables.data.get(self._work.connection, key)
        return _person(row or {"key": key})

    def _ask(self, pool: ThreadPoolExecutor, people: Sequence[Person], *, metadata: bool) -> list[Result]:
        """The results for `people`, in batches of 20, several at once."""
        groups = list(_chunks(people, BATCH))
        contexts = [copy_context() for _ in groups]
        answers = pool.map(lambda group, context: context.run(self._batch, group, metadata=metadata), groups, contexts)
        return [result for part in answers for result in part]

    def _batch(self, people: Sequence[Person], *, metadata: bool) -> list[Result]:
        suffix = "" if metadata else "/$value"
        requests = [
            BatchRequest(str(number), "GET", f"/users/{person.id}/photos/{self._size}{suffix}")
            for number, person in enumerate(people)
        ]
        answers = self._graph.batch(requests)
        self._allowed = self._allowed or any(answer.status != 403 for answer in answers.values())
        if not self._allowed:
            raise Forbidden(
                "Graph refuses every photo",
                http=403,
                graph_code=_code(answers["0"]),
                code="photos-forbidden",
                remedy="Grant the app User.Read.All (or ProfilePhoto.Read.All) and admin consent, then check the connection.",
            )
        judge = self._judge_metadata if metadata else self._judge_bytes
        return [judge(person, answers[str(number)]) for number, person in enumerate(people)]

    def _judge_metadata(self, person: Person, answer: BatchAnswer) -> Result:
        body = answer.body if isinstance(answer.body, Mapping) else {}
        if answer.status != 200:
            return _without_photo(person, answer)
        if body.get("id") == PLACEHOLDER:
            return _gone(person)
        etag = _plain(str(body.get("@odata.mediaEtag", "")))
        if etag and etag == person.rejected:
            return Result(person, "skipped", reason="photo-refused-before")
        if etag and person.photo and person.photo["etag"] == etag:
            return Result(person, "unchanged")
        return Result(person, "updated", fetch=True)

    def _judge_bytes(self, person: Person, answer: BatchAnswer) -> Result:
        if answer.status != 200:
            return _without_photo(person, answer)
        etag = _plain(answer.headers.get("ETag", ""))
        try:
            data = base64.b64decode(answer.body, validate=True)
            image = inspect(data, self._work.app.settings.photo_bytes)
        except (BadImage, binascii.Error, TypeError) as bad:
            reason = f"photo-{bad.reason}" if isinstance(bad, BadImage) else "photo-unreadable"
            return Result(person, "failed", columns={"photo_rejected": etag}, reason=reason)
        data = without_exif(data, image)
        content = hashlib.sha256(data).hexdigest()[:32]
        photo = {
            "etag": etag,
            "hash": content,
            "contentType": image.content_type,
            "size": len(data),
            "updatedAt": self._work.now().isoformat(),
        }
        before = person.photo
        if before and before["hash"] == content:
            columns = {"j_photo": {**before, "etag": etag}, "photo_rejected": ""}
            return Result(person, "unchanged", columns=None if before["etag"] == etag else columns)
        self._work.app.blobs.save(blob_name(self._work.connection, person.key, content), data, image.content_type)
        kind: ChangeKind = "updated" if before else "created"
        return Result(person, kind, kind, {"j_photo": photo, "photo_rejected": ""})  # type: ignore[arg-type] # both are outcomes

    def _commit(self, results: Sequence[Result], after: str, waiting: Sequence[Person]) -> None:
        """Write what `results` lead to, in transactions; how far the walk came goes with the last."""
        parts = list(_chunks([result for result in results if result.columns], WRITES)) or [[]]
        quiet = [result for result in results if not result.columns]
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            told = [*part, *quiet] if last else part
            checkpoint = {"after": after, "pending": [person.key for person in waiting]}
            self._commits += 1
            self._work.claim.commit(
                self._work.now(),
                [Write("merge", result.person.key, result.columns or {}) for result in part],
                changes=[Change("photo", result.person.id, result.change) for result in part if result.change],
                log=[_line(result) for result in told if result.reason],
                outcomes=Counter(result.outcome for result in told),
                page=self._work.run.slice * 100_000 + self._commits,
                **({"checkpoint": checkpoint} if last else {}),
            )
            self._forget_old(part)

    def _forget_old(self, results: Sequence[Result]) -> None:
        """Delete the bytes that the committed rows no longer name."""
        for result in results:
            old, new = result.person.photo, (result.columns or {}).get("j_photo", result.person.photo)
            if old and (not new or new["hash"] != old["hash"]):
                self._work.app.blobs.delete(blob_name(self._work.connection, result.person.key, old["hash"]))


def blob_name(connection: str, row_key: str, content: str) -> str:
    """The name of a photo's blob: its content's hash is in it, so a row never names bytes other than its own."""
    return f"{photo_prefix(connection, row_key)}{content}"


def _person(row: Row) -> Person:
    return Person(row["key"], row.get("j_photo"), row.get("photo_rejected", ""))


def _without_photo(person: Person, answer: BatchAnswer) -> Result:
    """An answer that brought no photo: any 404 of a known user means none (Learn: Get profilePhoto)."""
    code = _code(answer)
    if answer.status == 404 and code in NO_USER:
        return Result(person, "skipped", reason="user-not-found")
    if answer.status == 404:
        return _gone(person)
    return Result(person, "failed", reason=f"graph-{answer.status}")


def _gone(person: Person) -> Result:
    if person.photo is None:
        return Result(person, "unchanged")
    return Result(person, "deleted", "deleted", {"j_photo": None, "photo_rejected": ""})


def _code(answer: BatchAnswer) -> str:
    error = answer.body.get("error") if isinstance(answer.body, Mapping) else None
    return str(error.get("code", "")) if isinstance(error, Mapping) else ""


def _plain(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


_REMEDIES = {
    "user-not-found": "Nothing to do: the next users sync notices that the user is gone.",
    "photo-refused-before": "Upload another photo for this user; the one refused earlier has not changed.",
}


def _line(result: Result) -> LogLine:
    level: Literal["info", "warning"] = "warning" if result.outcome == "failed" else "info"
    remedy = _REMEDIES.get(result.reason, "Upload a JPEG or PNG photo of ordinary size for this user.")
    return LogLine(level, "photo", result.person.id, result.outcome, result.reason, remedy)


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
