"""Profile photos: the bytes of everyone's photo once, later only those whose etag changed.

Users are walked in the order of their rows. Where a first pass has not been completed at the wished size, each
batch of 20 asks for bytes; afterwards each asks for metadata, and only changed photos are fetched, 20 at a time.
Graph's delta does not tell of photos (Learn: Use delta query to track changes), so the walk is the safe way.

Graph has no rendition larger than the upload (Learn: Get profilePhoto), so a 404 at the wished size may hide a
smaller photo, which is then taken whole: found through the metadata of `/photo`, which costs a first pass a few
questions more and later passes none.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypeVar

from storage.tables import PAGE_LIMIT, Row, Write, decode_key
from sync.albums import GONE, PHOTOS, Albums, blob_name, forget
from sync.collection import read_collection
from sync.deletions import At
from sync.errors import Deferred, Forbidden, TenantsyncError
from sync.feed import Change, ChangeKind
from sync.graph.client import BatchAnswer, BatchRequest
from sync.images import BadImage, inspect, without_exif
from sync.jobs import Finish, Work, load_settings, start
from sync.mirror import PAUSE, WRITES, Mirror
from sync.people import USER, USERS, people_for_photos
from sync.plan import planned
from sync.runs import LogLine, Outcome, PlanLine, load_run
from sync.sync_settings import PhotosSettings, UsersSettings

_T = TypeVar("_T")
BATCH = 20  # requests (Learn: Combine multiple HTTP requests using JSON batching)
COMMIT_WRITES = 60  # rows of a transaction, with room for one more round of batches
COMMIT_RESULTS = 400
GUESSES = 100  # people without a photo at the wished size that a first pass asks about once more: 10 batches at most
NO_USER = frozenset({"ErrorInvalidUser", "Request_ResourceNotFound"})
PLACEHOLDER = "1x1"  # the id under which a missing photo's metadata may come


@dataclass(frozen=True)
class Person:
    """A user as the walk sees it: `photo` is what is stored, `rejected` the etag of one that was refused.

    `gone` is one whose photo a former look did not find, and whose deletion waits.
    """

    key: str
    photo: Mapping[str, Any] | None
    rejected: str
    gone: bool = False

    @property
    def id(self) -> str:
        return decode_key(self.key[len(USER) :])


@dataclass(frozen=True)
class Ask:
    """One question about one person's photo: its metadata or its bytes, at the wished size or `whole`.

    `etag` is what the metadata said, "" where the bytes are asked for without it.
    """

    person: Person
    kind: Literal["metadata", "bytes"]
    whole: bool = False
    etag: str = ""

    def url(self, size: str) -> str:
        rendition = "photo" if self.whole else f"photos/{size}"
        return f"/users/{self.person.id}/{rendition}" + ("/$value" if self.kind == "bytes" else "")


@dataclass(frozen=True)
class Result:
    """What became of one person's photo, and what to store for it (None: nothing)."""

    person: Person
    outcome: Outcome
    change: ChangeKind | None = None
    columns: Mapping[str, Any] | None = None
    reason: str = ""

    @property
    def settled(self) -> bool:
        """Whether it is known what becomes of the photo: one that is gone waits for all to be known."""
        return self.outcome != "deleted"


def run_photos(work: Work) -> Finish | None:
    """One slice of the photo sync."""
    at: At = dict(work.run.checkpoint)
    forget(work, at.get("unnamed", ()))
    if "stage" not in at:
        if not _walk_on(work, at):
            return None
        at = {"stage": "deletions", "page": 1}
    settings = work.settings
    assert isinstance(settings, PhotosSettings)
    albums, guard = Albums(work), settings.deletion_guard
    if work.run.dry_run:
        albums.forewarn(guard)
        return Finish({})
    at = albums.approved(at) if at["stage"] == "approved" else albums.settle(at, guard)
    if at["stage"] != "purge":
        return None
    return Finish({"complete": settings.size}, held=at.get("held", 0), of=at.get("of", 0))


def _walk_on(work: Work, at: At) -> bool:
    """Look at everybody's photo, from `at` on; False when the slice's time is up before the end."""
    if "after" not in at and not _people(work, at.get("people", {})):
        return False
    settings = work.settings
    assert isinstance(settings, PhotosSettings)
    complete = work.state().get("complete") == settings.size and work.run.mode == "delta"
    if work.run.total is None:
        people = work.app.tables.data.scan(work.connection, USER, columns=(), where="state eq 'active'")
        work.claim.commit(work.now(), total=sum(1 for _ in people), unit="people")
    walk = _Walk(
        work,
        settings.size,
        first_pass=not complete,
        guesses=at.get("guesses", GUESSES),
        counted=frozenset(at.get("counted", ())),
    )
    return walk.go(at.get("after", ""), at.get("pending", []))


def _people(work: Work, checkpoint: Mapping[str, Any]) -> bool:
    """Have a list of people: that of the users sync where it is on, else one read here with few fields."""
    settings, _ = load_settings(work.app, work.connection, "users")
    assert isinstance(settings, UsersSettings)
    state = work.state("users")
    if work.run.dry_run:
        if not state.get("j_cursor"):
            raise _users_needed("A dry run writes no people, and none have been synced yet")
        return True
    if settings.enabled:
        if not state.get("j_cursor"):
            _wait_for_users(work, state.get("last_run"))
        return True
    mirror = Mirror(work, USERS, counted=False, nest=lambda inner: {"people": inner})
    return read_collection(mirror, people_for_photos(settings, state.get("j_cursor")), dict(checkpoint)) is not None


def _wait_for_users(work: Work, last_run: str | None) -> NoReturn:
    """The users sync has never finished: have it run first, unless it has just failed."""
    last = load_run(work.app.tables.data, work.connection, last_run) if last_run else None
    if last and last[0].finished_at and last[0].finished_at > work.run.queued_at:
        raise _users_needed("The users sync, whose list of people is needed, did not succeed")
    start(work.app, work.connection, "users", trigger=work.run.trigger)
    raise Deferred("Waiting for the first users sync", until=work.now() + PAUSE, throttled=True)


def _users_needed(detail: str) -> TenantsyncError:
    remedy = "Run the users sync, and see to its error if it has one; then start the photo sync again."
    return TenantsyncError(detail, code="users-sync-needed", remedy=remedy)


class _Walk:
    """The walk over all users, in slices; it commits what it did together with how far it came.

    Where that takes several transactions, `counted` names those whom the earlier ones hold: a worker that comes by again
    because the last one never came about does not count them twice.
    """

    def __init__(self, work: Work, size: str, *, first_pass: bool, guesses: int, counted: frozenset[str]) -> None:
        self._work = work
        self._size = size
        self._first_pass = first_pass
        self._guesses = guesses
        self._counted = counted
        self._graph = work.graph
        self._albums = Albums(work)
        self._batches = work.app.settings.photo_batches
        self._allowed = False

    def go(self, after: str, pending: Sequence[Sequence[Any]]) -> bool:
        """Walk on behind the row `after`; `pending` are the questions that the last slice left open."""
        waiting = [Ask(self._person(key), *rest) for key, *rest in pending]
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
                        if after != self._work.run.checkpoint.get("after"):  # else a fault would pass for progress
                            self._commit(held, after, waiting)
                        raise
                    held += results
                    after = group[-1].key
                    if len(held) >= COMMIT_RESULTS or sum(bool(result.columns) for result in held) >= COMMIT_WRITES:
                        self._commit(held, after, waiting)
                        held = []
                if len(people) < PAGE_LIMIT:
                    break
            while waiting:
                results, waiting = _sorted_out(self._ask(pool, waiting))
                held += results
            self._commit(held, after, [])
        return True

    def _deal(
        self, pool: ThreadPoolExecutor, group: Sequence[Person], waiting: Sequence[Ask]
    ) -> tuple[list[Result], list[Ask]]:
        """The results for `group` and for those waiting questions that fill whole batches; and what waits then."""
        results, more = _sorted_out(self._ask(pool, [self._first(person) for person in group]))
        asks = [*waiting, *more]
        full = len(asks) - len(asks) % BATCH
        others, more = _sorted_out(self._ask(pool, asks[:full]))
        return [*results, *others], [*asks[full:], *more]

    def _first(self, person: Person) -> Ask:
        if self._first_pass:
            return Ask(person, "bytes")
        return Ask(person, "metadata", whole=person.photo is None or person.photo.get("whole", False))

    def _next(self, after: str) -> list[Person]:
        columns = ("j_photo", "photo_rejected", "photo_gone")
        rows = self._work.app.tables.data.page(
            self._work.connection, USER, top=PAGE_LIMIT, after=after, columns=columns, where="state eq 'active'"
        )
        return [_person(row) for row in rows]

    def _person(self, key: str) -> Person:
        row = self._work.app.tables.data.get(self._work.connection, key)
        return _person(row or {"key": key})

    def _ask(self, pool: ThreadPoolExecutor, asks: Sequence[Ask]) -> list[Result | Ask]:
        """A result or a further question for each of `asks`, in batches of 20, several at once."""
        groups = list(_chunks(asks, BATCH))
        contexts = [copy_context() for _ in groups]
        answers = pool.map(lambda group, context: context.run(self._batch, group), groups, contexts)
        return [result for part in answers for result in part]

    def _batch(self, asks: Sequence[Ask]) -> list[Result | Ask]:
        requests = [BatchRequest(str(number), "GET", ask.url(self._size)) for number, ask in enumerate(asks)]
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
        return [self._judge(ask, answers[str(number)]) for number, ask in enumerate(asks)]

    def _judge(self, ask: Ask, answer: BatchAnswer) -> Result | Ask:
        if answer.status == 404 and _code(answer) in NO_USER:
            return Result(ask.person, "skipped", reason="user-not-found")
        if answer.status == 404:
            return self._judge_missing(ask)
        if answer.status != 200:
            return Result(ask.person, "failed", reason=f"graph-{answer.status}")
        found = self._judge_metadata(ask, answer) if ask.kind == "metadata" else self._judge_bytes(ask, answer)
        return _free(found) if isinstance(found, Result) else found

    def _judge_missing(self, ask: Ask) -> Result | Ask:
        """Any 404 of a known user means no photo there (Learn: Get profilePhoto); at a size, a smaller one may be."""
        person = ask.person
        if ask.whole:
            return _gone(person)
        if ask.etag:  # the metadata of the whole photo has just shown one
            return Ask(person, "bytes", whole=True, etag=ask.etag)
        if person.photo is None and self._guesses <= 0:
            return _gone(person)
        if person.photo is None:
            self._guesses -= 1
        return Ask(person, "metadata", whole=True)

    def _judge_metadata(self, ask: Ask, answer: BatchAnswer) -> Result | Ask:
        person = ask.person
        body = answer.body if isinstance(answer.body, Mapping) else {}
        etag = _plain(str(body.get("@odata.mediaEtag", "")))
        if body.get("id") == PLACEHOLDER:
            return _gone(person)
        if etag and etag == person.rejected:
            return Result(person, "skipped", reason="photo-refused-before")
        if etag and person.photo and person.photo["etag"] == etag:
            return Result(person, "unchanged")
        width = body.get("width")
        small = ask.whole and isinstance(width, int) and width < int(self._size.partition("x")[0])
        return Ask(person, "bytes", whole=small, etag=etag)

    def _judge_bytes(self, ask: Ask, answer: BatchAnswer) -> Result:
        person = ask.person
        etag = ask.etag or _plain(answer.headers.get("ETag", ""))
        try:
            data = base64.b64decode(answer.body, validate=True)
            image = inspect(data, self._work.app.settings.photo_bytes)
        except (ValueError, TypeError) as bad:
            reason = f"photo-{bad.reason}" if isinstance(bad, BadImage) else "photo-unreadable"
            return Result(person, "failed", columns={"photo_rejected": etag}, reason=reason)
        data = without_exif(data, image)
        content = hashlib.sha256(data).hexdigest()[:32]
        photo = {
            "etag": etag,
            "hash": content,
            "contentType": image.content_type,
            "whole": ask.whole,
            "updatedAt": self._work.now().isoformat(),
        }
        before = person.photo
        if before and before["hash"] == content:
            same = {**photo, "updatedAt": before["updatedAt"]}
            return Result(
                person, "unchanged", columns=None if before == same else {"j_photo": same, "photo_rejected": ""}
            )
        if not self._work.run.dry_run:
            self._work.app.blobs.save(blob_name(self._work.connection, person.key, content), data, image.content_type)
        kind: Literal["created", "updated"] = "updated" if before else "created"
        return Result(person, kind, kind, {"j_photo": photo, "photo_rejected": ""})

    def _commit(self, results: Sequence[Result], after: str, waiting: Sequence[Ask]) -> None:
        """Write what `results` lead to, in transactions; how far the walk came goes with the last."""
        if self._work.run.dry_run:
            self._plan(results, after, waiting)
            return
        parts = _by_rows([result for result in results if result.columns]) or [[]]
        quiet = [result for result in results if not result.columns]
        for part in parts[:-1]:
            keys = {result.person.key for result in part}
            self._write(part, part, {**self._work.run.checkpoint, "counted": sorted(self._counted | keys)})
            self._counted |= keys
        left = self._counted - {result.person.key for result in results}
        checkpoint = {**self._checkpoint(after, waiting), "counted": sorted(left)}
        self._write(parts[-1], [*parts[-1], *quiet], checkpoint)
        self._counted = left

    def _write(self, part: Sequence[Result], told: Sequence[Result], checkpoint: Mapping[str, Any]) -> None:
        """One transaction with the rows of `part`, the counts and log lines of `told`, and `checkpoint`."""
        new = [result for result in told if result.person.key not in self._counted]
        unnamed = list(self._unnamed(part))
        self._work.claim.commit(
            self._work.now(),
            [write for result in part for write in self._writes(result)],
            changes=[Change("photo", result.person.id, result.change) for result in part if result.change],
            log=[_line(result) for result in new if result.reason and result.settled],
            outcomes=Counter(result.outcome for result in new if result.settled),
            checkpoint={**checkpoint, "unnamed": unnamed},
        )
        forget(self._work, unnamed)

    def _writes(self, result: Result) -> Iterator[Write]:
        key, columns = result.person.key, result.columns or {}
        yield Write("update", key, columns)
        if columns.get("photo_gone"):
            yield self._albums.note(key, result.reason)
        elif "photo_gone" in columns:
            yield self._albums.free(key)

    def _plan(self, results: Sequence[Result], after: str, waiting: Sequence[Ask]) -> None:
        """What a dry run leaves behind."""
        self._work.claim.commit(
            self._work.now(),
            plan=[PlanLine("photo", one.person.id, *planned(one.outcome, one.reason)) for one in results],
            log=[_line(result) for result in results if result.reason],
            outcomes=Counter(result.outcome for result in results),
            checkpoint=self._checkpoint(after, waiting),
        )

    def _checkpoint(self, after: str, waiting: Sequence[Ask]) -> dict[str, Any]:
        pending = [[ask.person.key, ask.kind, ask.whole, ask.etag] for ask in waiting]
        return {"after": after, "pending": pending, "guesses": self._guesses}

    def _unnamed(self, results: Sequence[Result]) -> Iterator[str]:
        """The blobs that rows do not name any more once `results` are committed."""
        for result in results:
            old, new = result.person.photo, (result.columns or {}).get("j_photo", result.person.photo)
            if old and (not new or new["hash"] != old["hash"]):
                yield blob_name(self._work.connection, result.person.key, old["hash"])


def _person(row: Row) -> Person:
    return Person(row["key"], row.get("j_photo"), row.get("photo_rejected", ""), row.get("photo_gone", False))


def _sorted_out(answers: Sequence[Result | Ask]) -> tuple[list[Result], list[Ask]]:
    results = [answer for answer in answers if isinstance(answer, Result)]
    return results, [answer for answer in answers if isinstance(answer, Ask)]


def _gone(person: Person) -> Result:
    if person.photo is None:
        return _free(Result(person, "unchanged"))
    return Result(person, "deleted", columns=None if person.gone else {"photo_gone": True}, reason=GONE)


def _free(result: Result) -> Result:
    """The result of somebody who turns out to have the photo, or has none to lose: a note of its loss goes."""
    if not result.person.gone:
        return result
    return replace(result, columns={**(result.columns or {}), "photo_gone": False})


def _by_rows(results: Sequence[Result]) -> list[list[Result]]:
    """`results` in parts that fit into a transaction; one that touches a note takes two rows."""
    parts: list[list[Result]] = [[]]
    rows = 0
    for result in results:
        needed = 2 if "photo_gone" in (result.columns or {}) else 1
        if rows + needed > WRITES:
            parts.append([])
            rows = 0
        parts[-1].append(result)
        rows += needed
    return parts


def _code(answer: BatchAnswer) -> str:
    error = answer.body.get("error") if isinstance(answer.body, Mapping) else None
    return str(error.get("code", "")) if isinstance(error, Mapping) else ""


def _plain(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _line(result: Result) -> LogLine:
    level: Literal["info", "warning"] = "warning" if result.outcome == "failed" else "info"
    remedy = PHOTOS.remedies.get(result.reason, "Upload a JPEG or PNG photo of ordinary size for this user.")
    return LogLine(level, "photo", result.person.id, result.outcome, result.reason, remedy)


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
