"""Graph's answers, understood without a network: tests/samples/graph holds them as they are on the wire."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import Changed, CursorExpired, Forbidden, GraphError, NotFound
from sync.graph.protocol import (
    NO_ANSWER,
    Answer,
    BatchRequest,
    Fold,
    Headers,
    Page,
    Toll,
    decode,
    fold_batch,
    is_transient,
    measure,
    parse_error,
    parse_page,
    path_template,
    retry_after,
    retry_delay,
    same_origin,
    throttle_percentage,
    whole_text,
)

SAMPLES = Path(__file__).parent / "samples" / "graph"
NOW = datetime(2026, 4, 11, 19, 2, 2, tzinfo=UTC)
GRAPH = "https://graph.microsoft.com"

headers = st.dictionaries(st.sampled_from(["Retry-After", "retry-after", "Date", "ETag"]), st.text())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def sample(name: str) -> Answer:
    raw = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return decode(raw["status"], raw["headers"], json.dumps(raw["body"]).encode(), wanted=None)


def requests(*ids: str) -> list[BatchRequest]:
    return [BatchRequest(id_, "GET", f"/users/{id_}/photo") for id_ in ids]


class TestHeaders:
    def test_names_match_in_any_letter_case(self):
        fields = Headers({"Retry-After": "10", "x-ms-resource-unit": 1})

        assert fields["RETRY-AFTER"] == "10"
        assert fields.get("X-MS-Resource-Unit") == "1"
        assert sorted(fields) == ["retry-after", "x-ms-resource-unit"]
        assert len(fields) == 2


class TestDecode:
    def test_a_json_object_is_the_body(self):
        answer = decode(200, {"request-id": "r"}, b'{"value": []}', wanted="value")

        assert (answer.status, answer.headers["request-id"], answer.body) == (200, "r", {"value": []})

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b'{"value": [{"id": "1"}, {"i',  # cut off
            b"<html><body>Sign in to the proxy</body></html>",
            b"[]",  # JSON, but no object
            b'{"error": {}}',  # an object, but no page
            b'{"value": {}}',
            b'{"value": ["text"]}',
            b"\xff\xfe\xfa",
            b'{"value": ' + b"[" * 100_000,
        ],
    )
    def test_a_success_that_cannot_be_read_is_no_answer_and_never_an_empty_page(self, content):
        assert decode(200, {}, content, wanted="value").status == NO_ANSWER

    def test_a_refusal_keeps_its_status_whatever_its_body(self):
        answer = decode(502, {"Retry-After": "1"}, b"<html>Bad gateway</html>", wanted="value")

        assert (answer.status, answer.headers["retry-after"], answer.body) == (502, "1", {})

    @pytest.mark.parametrize(
        ("status", "kind", "body"),
        [
            (200, "image/jpeg", "/9j/"),
            (200, "Image/PNG", "/9j/"),
            (200, "application/json", None),
            (404, "image/png", {}),
        ],
    )
    def test_a_picture_is_base64_text_as_in_a_batch(self, status, kind, body):
        answer = decode(status, {"content-type": kind}, b"\xff\xd8\xff", wanted=None, may_be_binary=True)

        assert answer.body == body if body is not None else answer.status == NO_ANSWER
        assert decode(200, {"Content-Type": kind}, b"\xff\xd8\xff", wanted=None).status == NO_ANSWER

    @given(
        status=st.sampled_from([200, 204, 302, 400, 404, 429, 503]),
        content=st.binary() | json_values.map(json.dumps).map(str.encode),
    )
    def test_a_page_is_a_page_or_no_answer(self, status, content):
        answer = decode(status, {}, content, wanted="value")

        assert isinstance(answer.body, dict)
        if answer.status != NO_ANSWER and status < 300:
            assert isinstance(parse_page(answer.body).items, list)


class TestPages:
    def test_a_page_leads_to_the_next_one(self):
        page = parse_page(sample("users-page").body)

        assert [user["displayName"] for user in page.items] == ["Ann Lee", "Bo Öz"]
        assert page.next_link == f"{GRAPH}/v1.0/users?$select=id,displayName&$top=2&$skiptoken=RFNwdAIAAQAAAB8"
        assert page.delta_link is None

    def test_an_empty_page_is_not_the_end(self):
        page = parse_page(sample("users-page-empty").body)

        assert Page([], f"{GRAPH}/v1.0/users?$skiptoken=RFNwdAIAAQAAAB9", None) == page

    def test_the_last_page_of_a_delta_round_has_the_delta_link(self):
        page = parse_page(sample("users-delta-last").body)

        assert page.next_link is None
        assert page.delta_link == f"{GRAPH}/v1.0/users/delta?$deltatoken=oEcOySpF_hWYmTIUZBOIfPzcwisr"
        assert page.items[1]["@removed"] == {"reason": "changed"}


class TestLinks:
    @pytest.mark.parametrize(
        "link",
        [
            f"{GRAPH}/v1.0/users?$skiptoken=x",
            f"{GRAPH}:443/v1.0/users",
            "HTTPS://GRAPH.MICROSOFT.COM/v1.0/users",
        ],
    )
    def test_graphs_own(self, link):
        assert same_origin(link, GRAPH)

    @pytest.mark.parametrize(
        "link",
        [
            "https://evil.example/v1.0/users",
            "http://graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.com:8443/v1.0/users",
            "https://graph.microsoft.com.evil.example/v1.0/users",
            "https://graph.microsoft.com@evil.example/v1.0/users",
            "https://user@graph.microsoft.com/v1.0/users",
            # urllib would read graph.microsoft.com as the host here, the HTTP client reads evil.example
            "https://evil.example\\@graph.microsoft.com/v1.0/users",
            "//evil.example/v1.0/users",
            "https://[::1/v1.0/users",
            "javascript:alert(1)",
            "",
        ],
    )
    def test_foreign(self, link):
        assert not same_origin(link, GRAPH)

    def test_an_endpoint_with_a_port_of_its_own(self):
        assert same_origin("https://localhost:8443/v1.0/users", "https://localhost:8443")
        assert not same_origin("https://localhost/v1.0/users", "https://localhost:8443")

    @pytest.mark.parametrize(
        ("url", "template"),
        [
            (f"{GRAPH}/v1.0/users/delta?$deltatoken=secret", "/v1.0/users/delta"),
            (
                f"{GRAPH}/v1.0/users/6ea91a8d-e32e-41a1-b7bd-d2d185eed0e0/photos/240x240/$value",
                "/v1.0/users/{id}/photos/{id}/$value",
            ),
            (f"{GRAPH}/v1.0/users/ann.lee@contoso.com/photo", "/v1.0/users/{id}/photo"),
            (f"{GRAPH}/v1.0/users/ann%40contoso.com", "/v1.0/users/{id}"),
            (f"{GRAPH}/v1.0/places/microsoft.graph.room", "/v1.0/places/microsoft.graph.room"),
        ],
    )
    def test_the_log_gets_a_path_without_ids_and_query(self, url, template):
        assert template == path_template(url)


class TestRetry:
    @pytest.mark.parametrize("status", [NO_ANSWER, 429, 500, 502, 503, 504, 509])
    def test_worth_another_try(self, status):
        assert is_transient(status)

    @pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 409, 410, 412, 501, 505])
    def test_an_answer_for_good(self, status):
        assert not is_transient(status)

    @pytest.mark.parametrize(
        ("fields", "seconds"),
        [
            ({"Retry-After": "10"}, 10.0),
            ({"Retry-After": "2.128"}, 2.128),
            ({"retry-after": " 3 "}, 3.0),
            ({"Retry-After": "0"}, 0.0),
            ({"Retry-After": "-5"}, 0.0),
            ({"Retry-After": "Sat, 11 Apr 2026 19:02:32 GMT"}, 30.0),
            ({"Retry-After": "Sat, 11 Apr 2026 19:02:32 -0000"}, 30.0),
            ({"Retry-After": "Sat, 11 Apr 2026 19:01:00 GMT"}, 0.0),  # in the past
            # the server's clock is ten minutes ahead of ours
            ({"Retry-After": "Sat, 11 Apr 2026 19:12:32 GMT", "Date": "Sat, 11 Apr 2026 19:12:02 GMT"}, 30.0),
            ({}, None),
            ({"Retry-After": ""}, None),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "nan"}, None),
            ({"Retry-After": "inf"}, None),
        ],
    )
    def test_what_retry_after_asks_for(self, fields, seconds):
        assert seconds == retry_after(Headers(fields), NOW)

    def test_retry_after_is_kept_to_the_letter(self):
        assert retry_delay(Headers({"Retry-After": "600"}), 0, NOW, 0.5) == 600

    def test_without_it_the_wait_is_drawn_from_a_growing_span(self):
        assert [retry_delay(Headers({}), n, NOW, 0.5) for n in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
        assert retry_delay(Headers({}), 5, NOW, 0.0) == 0

    @given(fields=headers, attempt=st.integers(0, 10_000), random=st.floats(0, 1, exclude_max=True))
    def test_every_wait_is_a_time(self, fields, attempt, random):
        assert 0 <= retry_delay(Headers(fields), attempt, NOW, random) < float("inf")

    @given(seconds=st.integers(0, 10**6))
    def test_seconds_and_dates_mean_the_same(self, seconds):
        date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

        assert retry_after(Headers({"Retry-After": str(seconds)}), NOW) == retry_after(
            Headers({"Retry-After": date}), NOW
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "kind", "http", "graph_code"),
        [
            ("forbidden", Forbidden, 403, "Authorization_RequestDenied"),
            ("mailbox-not-found", NotFound, 404, "ErrorInvalidUser"),
            ("unsupported-query", GraphError, 400, "Request_UnsupportedQuery"),
            ("delta-gone", CursorExpired, 410, "resyncRequired"),
            ("sync-state-not-found", CursorExpired, 400, "BadRequest"),
            ("page-token-expired", CursorExpired, 400, "Directory_ExpiredPageToken"),
            ("page-token-not-found", CursorExpired, 404, "DirectoryPageTokenNotFoundException"),
        ],
    )
    def test_each_refusal_has_its_type(self, name, kind, http, graph_code):
        answer = sample(name)

        error = parse_error(answer)

        assert type(error) is kind
        assert (http, graph_code) == (error.http, error.graph_code)
        assert f"Graph answered {http} {graph_code} (request {answer.headers['request-id']})." == error.detail

    @pytest.mark.parametrize("name", ["forbidden", "mailbox-not-found", "unsupported-query"])
    def test_graphs_own_words_stay_out(self, name):
        answer = sample(name)

        assert answer.body["error"]["message"] not in str(parse_error(answer))

    @pytest.mark.parametrize("code", ["syncStateNotFound", "SyncStateNotFound", "resyncRequired", "syncStateInvalid"])
    def test_a_sync_state_code_ends_the_cursor_at_any_4xx(self, code):
        for status in (400, 404, 409, 410):
            assert type(parse_error(Answer(status, Headers({}), {"error": {"code": code}}))) is CursorExpired

    @pytest.mark.parametrize("status", [409, 412])
    def test_a_conflict_that_exchange_cannot_resolve_is_a_change(self, status):
        error = {"code": "ErrorIrresolvableConflict"}
        assert type(parse_error(Answer(status, Headers({}), {"error": error}))) is Changed
        wrapped = {"code": "Conflict", "innerError": error}
        assert type(parse_error(Answer(status, Headers({}), {"error": wrapped}))) is Changed
        assert type(parse_error(Answer(409, Headers({}), {"error": {"code": "Conflict"}}))) is GraphError

    def test_a_sync_state_code_of_a_server_fault_does_not(self):
        assert type(parse_error(Answer(501, Headers({}), {"error": {"code": "resyncRequired"}}))) is GraphError

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"error": "text"},
            {"error": {}},
            {"error": {"code": "Ann Lee <ann@contoso.com>"}},
            {"error": {"code": 5}},
        ],
    )
    def test_a_code_that_is_none_is_unknown(self, body):
        error = parse_error(Answer(400, Headers({"request-id": "ann@contoso.com"}), body))

        assert error.detail == "Graph answered 400 unknown (request unknown)."

    @given(status=st.integers(300, 599), body=st.dictionaries(st.sampled_from(["error", "x"]), json_values))
    def test_any_body_gives_a_graph_error(self, status, body):
        assert parse_error(Answer(status, Headers({}), body)).http == status


class TestBatch:
    def test_done_and_to_be_sent_again_are_told_apart(self):
        fold = fold_batch(requests("a", "b", "c", "d", "e"), sample("batch").body, 0, NOW, 0.5)

        assert {id_: answer.status for id_, answer in fold.done.items()} == {"a": 200, "c": 404}
        assert fold.done["a"].headers["etag"] == '"1E8FD63F"'
        assert fold.done["a"].body == "/9j/4AAQ"
        assert [request.id for request in fold.retry] == ["b", "d", "e"]

    def test_the_largest_retry_after_counts(self):
        fold = fold_batch(requests("a", "b", "c", "d", "e"), sample("batch").body, 0, NOW, 0.5)

        assert (fold.delay, fold.throttled) == (10.0, True)

    def test_an_item_without_an_answer_is_sent_again(self):
        fold = fold_batch(requests("a", "b"), {"responses": [{"id": "a", "status": 200}, {}]}, 1, NOW, 0.5)

        assert list(fold.done) == ["a"]
        assert Fold(fold.done, requests("b"), 1.0, throttled=False, unserved=fold.unserved) == fold
        assert {id_: answer.status for id_, answer in fold.unserved.items()} == {"b": NO_ANSWER}

    def test_nothing_to_send_again(self):
        fold = fold_batch(requests("a"), {"responses": [{"id": "a", "status": 204, "headers": None}]}, 0, NOW, 0.5)

        assert (fold.retry, fold.delay, fold.throttled) == ([], 0.0, False)

    @given(
        statuses=st.lists(st.sampled_from([200, 404, 429, 503, None, "200", 0]), max_size=20),
        shuffled=st.randoms(use_true_random=False),
        retries=headers,
    )
    def test_every_item_is_either_done_or_sent_again(self, statuses, shuffled, retries):
        sent = requests(*(f"Id{n}" for n in range(len(statuses))))
        raws = [
            {"id": request.id.upper(), "status": status, "headers": retries}
            for request, status in zip(sent, statuses, strict=True)
            if status != 0
        ]
        shuffled.shuffle(raws)

        fold = fold_batch(sent, {"responses": raws}, 0, NOW, 0.5)

        assert {request.id for request in sent} == {*fold.done, *(request.id for request in fold.retry)}
        assert len(sent) == len(fold.done) + len(fold.retry)
        assert all(answer.status in {200, 404} for answer in fold.done.values())


class TestToll:
    @pytest.mark.parametrize(
        ("answer", "units", "toll"),
        [
            (Answer(200, Headers({}), {"value": []}), 1, Toll(1, 0, None, 0.0)),
            (Answer(200, Headers({"x-ms-throttle-limit-percentage": "0.85"}), {}), 1, Toll(1, 0, None, 0.85)),
            (Answer(404, Headers({}), {}), 1, Toll(1, 0, None, 0.0)),  # it was served
            (Answer(404, Headers({"Retry-After": "9"}), {}), 1, Toll(1, 0, None, 0.0)),
            (Answer(429, Headers({"Retry-After": "9"}), {}), 20, Toll(0, 20, 9.0, 0.0)),
            (Answer(429, Headers({}), {}), 1, Toll(0, 1, 0.0, 0.0)),
            (Answer(503, Headers({"Retry-After": "9"}), {}), 20, Toll(0, 0, 9.0, 0.0)),
            (Answer(503, Headers({}), {}), 20, Toll(0, 0, None, 0.0)),
            (Answer(NO_ANSWER, Headers({}), {}), 20, Toll(0, 0, None, 0.0)),
            # one mailbox that has had enough says nothing about the others
            (
                Answer(429, Headers({"Retry-After": "9"}), {"error": {"code": "ApplicationThrottled"}}),
                1,
                Toll(0, 1, None, 0.0),
            ),
            # item by item: one done, one not found, two throttled, one unwell
            (sample("batch"), 5, Toll(2, 2, 10.0, 0.0)),
        ],
    )
    def test_what_an_answer_says_about_the_budget(self, answer, units, toll):
        assert toll == measure(answer, units, NOW)

    def test_the_warning_of_an_item_counts_too(self):
        item = {"id": "a", "status": 200, "headers": {"X-MS-Throttle-Limit-Percentage": "1.2"}}

        assert measure(Answer(200, Headers({}), {"responses": [item]}), 1, NOW).used == 1.2

    @pytest.mark.parametrize("text", ["", "much", "nan", "inf"])
    def test_an_unreadable_percentage_is_none(self, text):
        assert throttle_percentage(Headers({"x-ms-throttle-limit-percentage": text})) == 0


@given(st.text(st.characters()))
def test_whole_text(value: str) -> None:
    """Whatever JSON can hold comes out as something that UTF-8 can, and is the same where it could already."""
    whole = whole_text(value)

    assert whole.encode().decode() == whole
    assert whole == value or any("\ud800" <= character <= "\udfff" for character in value)


def test_half_an_emoji_is_a_replacement_character() -> None:
    assert whole_text("Ann \ud83d") == "Ann \ufffd"
