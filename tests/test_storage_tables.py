"""Table Storage on real tables: keys, values, transactions, conditions and ranges."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
from azure.core.exceptions import AzureError, HttpResponseError
from azure.data.tables import TableServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.meter import METER, Meter, MeteredTransport
from storage.tables import (
    KEY_LIMIT,
    PAGE_LIMIT,
    TRANSACTION_LIMIT,
    Conflict,
    Row,
    Table,
    Tables,
    Write,
    decode_key,
    encode_key,
)

NUMBERS = count()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def tables(azurite: str) -> Tables:
    made = Tables(TableServiceClient.from_connection_string(azurite, transport=MeteredTransport()), prefix="storage")
    made.create()
    return made


@pytest.fixture(scope="module")
def table(tables: Tables) -> Table:
    return tables.data


@pytest.fixture
def partition() -> str:
    return f"partition-{next(NUMBERS)}"


@pytest.fixture
def spent() -> Iterator[Callable[[], int]]:
    """How many storage transactions there were since the last call."""
    meter = Meter()
    seen = [0]

    def since() -> int:
        new, seen[0] = meter.transactions - seen[0], meter.transactions
        return new

    token = METER.set(meter)
    yield since
    METER.reset(token)


def insert(table: Table, partition: str, *keys: str, **row: object) -> None:
    for at in range(0, len(keys), TRANSACTION_LIMIT):
        table.commit(partition, [Write("insert", key, row) for key in keys[at : at + TRANSACTION_LIMIT]])


def keys(rows: Iterator[Row] | list[Row]) -> list[str]:
    return [row["key"] for row in rows]


class TestKeys:
    @given(st.text())
    def test_any_text_comes_back(self, text: str) -> None:
        """Encoding loses nothing."""
        assert decode_key(encode_key(text)) == text

    @given(st.text())
    def test_an_encoded_key_is_plain(self, text: str) -> None:
        """No character that Table Storage, a URL or our own separators would trip over is left."""
        assert re.fullmatch(r"[A-Za-z0-9.@_~-]*", encode_key(text))

    @given(st.lists(st.text(), unique=True))
    def test_different_texts_stay_different(self, texts: list[str]) -> None:
        """Two texts never share a key."""
        assert len({encode_key(text) for text in texts}) == len(texts)

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("ab.C@d_e-9", "ab.C@d_e-9"),
            ("a/b\\c#d?e", "a~2fb~5cc~23d~3fe"),
            ("x' or PartitionKey ne '", "x~27~20or~20PartitionKey~20ne~20~27"),
            ("~41", "~7e41"),
            ("é😀", "~c3~a9~f0~9f~98~80"),
            ("", ""),
        ],
    )
    def test_what_a_key_looks_like(self, text: str, key: str) -> None:
        """Letters, digits and .@_- stay as they are, the rest becomes its bytes."""
        assert encode_key(text) == key

    @given(text=st.text(max_size=100))
    @settings(max_examples=40, deadline=None)
    def test_any_text_names_a_row(self, table: Table, text: str) -> None:
        """A row is found again under the key of any text, and under no other."""
        table.commit("any-key", [Write("replace", f"k|{encode_key(text)}", {"j_text": text})])

        found = table.get("any-key", f"k|{encode_key(text)}")

        assert found is not None
        assert found["j_text"] == text
        assert decode_key(found["key"].removeprefix("k|")) == text

    def test_a_key_that_no_row_can_have(self, table: Table, partition: str, spent: Callable[[], int]) -> None:
        """A key beyond the service's limit is absent, and the service is not asked."""
        assert table.get(partition, "x" * (KEY_LIMIT + 1)) is None
        assert spent() == 0
        assert table.get(partition, "x" * KEY_LIMIT) is None
        assert spent() == 1


class TestValues:
    @given(value=JSON)
    @settings(max_examples=60, deadline=None)
    def test_any_json_comes_back(self, table: Table, value: object) -> None:
        """A j_ property holds any JSON value."""
        table.commit("any-value", [Write("replace", "row", {"j_value": value})])

        found = table.get("any-value", "row")

        assert found is not None
        assert found["j_value"] == json.loads(json.dumps(value))

    @pytest.mark.parametrize("character", ["x", "é", "😀", '"', "\0"], ids=["ascii", "latin", "emoji", "quote", "nul"])
    def test_wide_values(self, table: Table, partition: str, character: str) -> None:
        """Two hundred thousand characters fit, whatever their width, beside other properties."""
        wide = {"text": character * 200_000 if character not in '"\0' else character * 30_000}
        table.commit(partition, [Write("insert", "row", {"j_wide": wide, "number": 7})])

        found = table.get(partition, "row")

        assert found is not None
        assert found["j_wide"] == wide
        assert sorted(found) == ["etag", "j_wide", "key", "number"]

    def test_a_value_that_shrinks(self, table: Table, partition: str) -> None:
        """A merge of a short value over a wide one leaves nothing of the wide one to be read."""
        table.commit(partition, [Write("insert", "row", {"j_value": "x" * 50_000})])
        table.commit(partition, [Write("merge", "row", {"j_value": "short"})])

        found = table.get(partition, "row")

        assert found is not None
        assert found["j_value"] == "short"

    def test_plain_properties(self, table: Table, partition: str) -> None:
        """Text, numbers, booleans and times come back as they are; key and etag of a read row are not stored again."""
        at = datetime(2026, 11, 22, 6, tzinfo=UTC)
        row = {"text": "t", "number": 3, "yes": True, "at": at}
        table.commit(partition, [Write("insert", "first", {**row, "key": "other", "etag": "other"})])

        found = table.get(partition, "first")

        assert found is not None
        assert {name: found[name] for name in row} == row
        assert (found["key"], found["etag"] != "other") == ("first", True)

    def test_a_merge_keeps_what_it_does_not_name(self, table: Table, partition: str) -> None:
        """Merging changes the named properties alone, replacing drops the others."""
        table.commit(partition, [Write("insert", "row", {"a": 1, "b": 1})])
        table.commit(partition, [Write("merge", "row", {"b": 2})])
        merged = table.get(partition, "row")
        table.commit(partition, [Write("replace", "row", {"c": 3})])
        replaced = table.get(partition, "row")

        assert merged is not None
        assert replaced is not None
        assert (merged["a"], merged["b"]) == (1, 2)
        assert sorted(replaced) == ["c", "etag", "key"]


class TestConditions:
    """The same rule alone (one request) and in a transaction (with another row beside it)."""

    @pytest.fixture(params=["alone", "in a transaction"])
    def commit(self, request: pytest.FixtureRequest, table: Table, partition: str) -> Callable[[Write], str]:
        beside = [] if request.param == "alone" else [Write("replace", "beside", {"note": "written"})]
        return lambda write: table.commit(partition, [write, *beside])[0]

    @pytest.mark.parametrize("kind", ["merge", "replace"])
    def test_a_write_over_the_version_it_read(
        self, table: Table, partition: str, commit: Callable[[Write], str], kind: str
    ) -> None:
        """A write with the row's etag succeeds and answers the new etag; a merge keeps what it does not name."""
        first = commit(Write("insert", "row", {"a": 1, "b": 1}))
        second = commit(Write(kind, "row", {"a": 2}, first))  # type: ignore[arg-type] # a literal in a table of cases

        found = table.get(partition, "row")

        assert found is not None
        assert (found["a"], found.get("b"), found["etag"]) == (2, 1 if kind == "merge" else None, second)
        assert first != second

    def test_a_delete_of_the_version_it_read(
        self, table: Table, partition: str, commit: Callable[[Write], str]
    ) -> None:
        """A delete with the row's etag removes it; one without removes whatever is there."""
        commit(Write("delete", "row", etag=commit(Write("insert", "row"))))
        gone = table.get(partition, "row")
        commit(Write("insert", "row"))
        commit(Write("delete", "row"))

        assert (gone, table.get(partition, "row")) == (None, None)

    @pytest.mark.parametrize("kind", ["merge", "replace"])
    def test_writes_without_a_condition(
        self, table: Table, partition: str, commit: Callable[[Write], str], kind: str
    ) -> None:
        """Without an etag a merge or replace makes the row or writes over it, whatever it holds."""
        for number in (1, 2):
            commit(Write(kind, "row", {"a": number}))  # type: ignore[arg-type] # a literal in a table of cases

        found = table.get(partition, "row")

        assert found is not None
        assert found["a"] == 2

    @pytest.mark.parametrize("kind", ["merge", "replace", "delete"])
    def test_a_row_that_changed_meanwhile(
        self, table: Table, partition: str, commit: Callable[[Write], str], kind: str
    ) -> None:
        """A write with an old etag is a Conflict and changes nothing (412)."""
        old = commit(Write("insert", "row", {"a": 1}))
        commit(Write("replace", "row", {"a": 2}))

        with pytest.raises(Conflict):
            commit(Write(kind, "row", {"a": 3}, old))  # type: ignore[arg-type] # a literal in a table of cases

        found = table.get(partition, "row")
        assert found is not None
        assert found["a"] == 2

    @pytest.mark.parametrize("kind", ["merge", "replace"])
    def test_a_row_that_is_gone(self, table: Table, partition: str, commit: Callable[[Write], str], kind: str) -> None:
        """A write with an etag of a row that was deleted is a Conflict and does not bring it back (404)."""
        old = commit(Write("insert", "row", {"a": 1}))
        commit(Write("delete", "row"))

        with pytest.raises(Conflict):
            commit(Write(kind, "row", {"a": 2}, old))  # type: ignore[arg-type] # a literal in a table of cases

        assert table.get(partition, "row") is None

    def test_an_update(self, table: Table, partition: str, commit: Callable[[Write], str]) -> None:
        """An update merges into a row that is there, whatever its version, and is a Conflict where there is none."""
        with pytest.raises(Conflict):
            commit(Write("update", "row", {"a": 1}))
        assert table.get(partition, "row") is None
        commit(Write("insert", "row", {"a": 1, "b": 1}))

        etag = commit(Write("update", "row", {"a": 2}))

        found = table.get(partition, "row")
        assert found is not None
        assert (found["a"], found["b"], found["etag"]) == (2, 1, etag)

    def test_a_row_that_is_there_already(self, table: Table, partition: str, commit: Callable[[Write], str]) -> None:
        """An insert over a row is a Conflict and leaves it alone (409)."""
        commit(Write("insert", "row", {"a": 1}))

        with pytest.raises(Conflict):
            commit(Write("insert", "row", {"a": 2}))

        found = table.get(partition, "row")
        assert found is not None
        assert found["a"] == 1

    def test_deleting_what_is_not_there(self, table: Table, partition: str) -> None:
        """A lone delete of a missing row is fine; in a transaction it is a Conflict."""
        assert table.commit(partition, [Write("delete", "nothing")]) == [""]

        with pytest.raises(Conflict):
            table.commit(partition, [Write("delete", "nothing"), Write("insert", "row")])


class TestTransactions:
    @pytest.mark.parametrize("bad", [0, 49, 99])
    def test_all_or_nothing(self, table: Table, partition: str, bad: int) -> None:
        """One write that fails, wherever it stands among a hundred, undoes them all."""
        insert(table, partition, "taken")
        writes = [Write("insert", f"row{number:03}") for number in range(99)]
        writes.insert(bad, Write("insert", "taken"))

        with pytest.raises(Conflict):
            table.commit(partition, writes)

        assert keys(table.scan(partition)) == ["taken"]

    def test_a_hundred_at_once(self, table: Table, partition: str, spent: Callable[[], int]) -> None:
        """A full transaction is one request and answers the etag of every row, in order."""
        etags = table.commit(partition, [Write("insert", f"row{number:03}") for number in range(TRANSACTION_LIMIT)])

        assert spent() == 1
        assert etags == [row["etag"] for row in table.scan(partition)]

    @pytest.mark.parametrize("beside", [[], [Write("insert", "beside")]], ids=["alone", "in a transaction"])
    def test_a_row_that_cannot_be(self, table: Table, partition: str, beside: list[Write]) -> None:
        """A fault that no repetition heals (a key with a line break) is the SDK's own error, not a Conflict."""
        with pytest.raises(HttpResponseError):
            table.commit(partition, [*beside, Write("insert", "line\nbreak")])

        assert keys(table.scan(partition)) == []

    def test_a_race_has_one_winner(self, table: Table, partition: str) -> None:
        """Of two writers that read the same version, the second is refused whatever else it writes."""
        table.commit(partition, [Write("insert", "row", {"by": "nobody"})])
        seen = table.get(partition, "row")
        assert seen is not None

        table.commit(partition, [Write("replace", "row", {"by": "first"}, seen["etag"]), Write("insert", "first")])
        with pytest.raises(Conflict):
            table.commit(
                partition, [Write("insert", "second"), Write("replace", "row", {"by": "second"}, seen["etag"])]
            )

        assert keys(table.scan(partition)) == ["first", "row"]


@pytest.fixture(scope="module")
def rows(table: Table) -> str:
    insert(table, "ranges", "a", "a|1", "a|2", "a|3", "b|1", "b|2", "c")
    insert(table, "elsewhere", "a|1", "b|9")
    return "ranges"


class TestRanges:
    @pytest.mark.parametrize(
        ("prefix", "options", "expected"),
        [
            ("", {}, ["a", "a|1", "a|2", "a|3", "b|1", "b|2", "c"]),
            ("a|", {}, ["a|1", "a|2", "a|3"]),
            ("b", {}, ["b|1", "b|2"]),
            ("d", {}, []),
            ("a|", {"after": "a|1"}, ["a|2", "a|3"]),
            ("a|", {"after": "a|3"}, []),
            ("", {"after": "a|3"}, ["b|1", "b|2", "c"]),
            ("a|", {"start": "a|2"}, ["a|2", "a|3"]),
            ("a|", {"start": "a"}, ["a|1", "a|2", "a|3"]),
            ("", {"until": "b|1"}, ["a", "a|1", "a|2", "a|3"]),
            ("a|", {"until": "a|2"}, ["a|1"]),
            ("", {"start": "a|3", "until": "b|2"}, ["a|3", "b|1"]),
            ("", {"after": "a|1", "start": "a|1", "until": "a|3"}, ["a|2"]),
        ],
    )
    def test_the_bounds_of_a_scan(
        self, table: Table, rows: str, prefix: str, options: dict[str, str], expected: list[str]
    ) -> None:
        """`prefix`, `after` (exclusive), `start` (inclusive) and `until` (exclusive) bound one partition's keys."""
        assert keys(table.scan(rows, prefix, **options)) == expected  # type: ignore[arg-type] # a table of options

    @pytest.mark.parametrize("last", ["z", "Z", "9", "{", "|", "}"])
    def test_the_end_of_a_prefix(self, table: Table, partition: str, last: str) -> None:
        """Whatever a prefix ends in, its range takes all rows that begin with it and no other."""
        prefix = f"p{last}"
        insert(table, partition, "p", prefix, f"{prefix}~~~", f"p{chr(ord(last) + 1)}")

        assert keys(table.scan(partition, prefix)) == [prefix, f"{prefix}~~~"]

    def test_a_filter_with_values(self, table: Table, partition: str) -> None:
        """`where` is bound by `values`, so that no text of a value becomes part of the filter."""
        hostile = "x' or PartitionKey ne '"
        insert(table, partition, "1", "2", state="active", name=hostile)
        insert(table, partition, "3", state="deleted", name=hostile)
        insert(table, partition, "4", state="active", name="x")

        wanted = {"state": "active", "name": hostile}
        found = table.scan(partition, where="state eq @state and name eq @name", values=wanted)

        assert keys(found) == ["1", "2"]

    def test_an_alternative_in_a_filter_stays_in_the_range(self, table: Table, partition: str) -> None:
        """An `or` in `where` widens neither the partition nor the range of keys."""
        insert(table, partition, "a|1", "b|1", state="active")
        insert(table, f"{partition}-other", "a|2", state="deleted")

        found = table.scan(partition, "a|", where="state eq 'deleted' or state eq 'active'")

        assert keys(found) == ["a|1"]

    def test_some_columns(self, table: Table, partition: str) -> None:
        """`columns` limits what is read; the key always comes along."""
        insert(table, partition, "row", a=1, b=2)

        assert [sorted(row) for row in table.scan(partition, columns=["b"])] == [["b", "etag", "key"]]
        assert [sorted(row) for row in table.scan(partition, columns=())] == [["etag", "key"]]

    def test_a_thousand_rows_a_request(self, table: Table, partition: str, spent: Callable[[], int]) -> None:
        """A scan of 2,100 rows is three requests, a page of any size up to 1,000 one."""
        wanted = [f"row{number:04}" for number in range(2 * PAGE_LIMIT + 100)]
        insert(table, partition, *wanted)
        spent()

        assert keys(table.scan(partition)) == wanted
        assert spent() == 3
        for top in (1, 7, PAGE_LIMIT):
            assert keys(table.page(partition, "", top=top)) == wanted[:top]
            assert spent() == 1
        assert keys(table.page(partition, "row", top=1500, after="row0009")) == wanted[10:1510]
        assert spent() == 2
        assert keys(table.scan(partition, size=700)) == wanted
        assert spent() == 3

    def test_pages_join_up(self, table: Table, partition: str) -> None:
        """Pages read one after the other, each after the last key of the one before, give every row once."""
        wanted = [f"row{number}" for number in range(10)]
        insert(table, partition, *wanted)

        found: list[str] = []
        while page := keys(table.page(partition, "row", top=3, after=found[-1] if found else "")):
            found += page

        assert found == wanted


def test_making_the_tables_again_is_fine(tables: Tables) -> None:
    """`create` leaves tables that exist, and what is in them, alone."""
    tables.due.commit("kept", [Write("replace", "row")])

    tables.create()

    assert tables.due.get("kept", "row") is not None
    tables.ping()


def test_a_table_that_does_not_answer() -> None:
    """The ping of tables that cannot be reached raises the SDK's error."""
    nowhere = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"
    service = TableServiceClient.from_connection_string(nowhere, retry_total=0)

    with pytest.raises(AzureError):
        Tables(service).ping()
