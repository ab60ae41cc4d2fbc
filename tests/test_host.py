"""The local host as a process: real sockets, the sample app, storage queues."""

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import requests
from azure.storage.queue import QueueClient, TextBase64EncodePolicy

from local import host
from local.timers import Monitor
from tests.hosts import KEY, MASTER, SECONDS, Running, eventually, running


@pytest.fixture(scope="module")
def served(tmp_path_factory, azurite) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("host"), azurite, "--port", "0") as made:
        yield made


def raw(host_url: str, request: bytes) -> bytes:
    """The answer to bytes that no client library would send."""
    address, port = host_url.removeprefix("http://").split("/")[0].split(":")
    with socket.create_connection((address, int(port)), timeout=SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


class TestHttp:
    def test_it_tells_where_it_answers_in_one_line_of_json(self, served):
        assert served.told == {"api": served.told["api"], "key": KEY, "masterKey": MASTER}
        assert served.call("/health", key=None).text == "fine"

    def test_a_function_gets_the_whole_request(self, served):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        answer = served.call("/echo/%C3%BC%20b/7?x=%26", "POST", data="täxt".encode(), headers={"traceparent": trace})
        told = answer.json()

        assert (told["method"], told["route"], told["body"]) == ("POST", {"name": "ü b", "id": "7"}, "täxt")
        assert (told["url"], told["params"]) == (served.told["api"] + "/echo/%C3%BC%20b/7?x=%26", {"x": "&"})
        assert (told["function"], told["trace"]) == ("echo", trace)
        assert told["headers"]["content-length"] == "5"
        assert UUID(told["invocation"])
        assert answer.headers["Content-Type"] == "application/json"

    def test_empty_query_values_are_dropped_and_repeated_ones_joined(self, served):
        assert served.call("/echo/a?x=1&y=&x=2&z&x=3").json()["params"] == {"x": "1,2,3"}

    def test_an_escaped_slash_splits_segments_before_routing(self, served):
        assert served.call("/echo/a%2F7").json()["route"] == {"name": "a", "id": "7"}
        assert served.call("/echo/a%2Fb").status_code == 404
        assert served.call("/files/a%2Fb/c").json() == {"path": "a/b/c"}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", "/echo/a"),
            ("POST", "/health"),
            ("HEAD", "/health"),
            ("OPTIONS", "/health"),
            ("GET", "/echo"),
            ("GET", "/echo/a/x"),
            ("GET", "/echo/a/7/8"),
            ("GET", "/unknown"),
            ("GET", "/../health"),
        ],
    )
    def test_a_wrong_method_or_path_is_an_empty_404(self, served, method, path):
        answer = served.call(path, method)

        assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (404, b"", "0")

    def test_the_first_match_in_order_of_function_names_answers(self, served):
        """ "anything" stands before "echo", but serves DELETE only; for GET its literal has no priority."""
        assert served.call("/echo/a/special", "DELETE").status_code == 202
        assert served.call("/echo/a/special").status_code == 404

    def test_omitted_methods_mean_all(self, served):
        assert [served.call("/files/a", method).status_code for method in ("GET", "PUT", "PATCH")] == [200] * 3

    def test_head_is_answered_where_it_is_listed(self, served):
        answer = served.call("/echo/a", "HEAD")

        assert (answer.status_code, answer.content) == (200, b"")

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/echo/a", {}, 401),
            ("/echo/a", {"x-functions-key": KEY}, 200),
            ("/echo/a", {"x-functions-key": MASTER}, 200),
            ("/echo/a", {"x-functions-key": KEY + "x"}, 401),
            ("/echo/a", {"x-functions-key": "schlüssel".encode()}, 401),
            (f"/echo/a?code={KEY}", {}, 200),
            ("/echo/a?code=wrong", {}, 401),
            (f"/echo/a?code={KEY}", {"x-functions-key": "wrong"}, 401),
            ("/echo/a?code=wrong", {"x-functions-key": KEY}, 200),
            ("/secret", {"x-functions-key": KEY}, 401),
            (f"/secret?code={MASTER}", {}, 200),
            ("/health", {"x-functions-key": "wrong"}, 200),
            ("/unknown", {}, 404),
        ],
    )
    def test_keys(self, served, path, headers, status):
        answer = served.call(path, key=None, headers=headers)

        assert answer.status_code == status
        assert answer.status_code == 200 or answer.content == b""

    def test_status_headers_and_bytes_of_the_answer_arrive(self, served):
        answer = served.call("/cookies")

        assert (answer.status_code, answer.content, answer.headers["X-Own"]) == (404, b"\x00\xff", "yes")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]

    def test_text_is_sent_with_its_charset(self, served):
        assert served.call("/health").headers["Content-Type"] == "text/plain; charset=utf-8"

    def test_an_exception_is_an_empty_500_and_one_line_in_the_log(self, served):
        answer = served.call("/broken")

        assert (answer.status_code, answer.content) == (500, b"")
        eventually(lambda: "a text that no caller may see" in served.log())
        (line, *_) = [each for each in served.log().splitlines() if "a text that no caller may see" in each]
        _, level, function, invocation, *_ = line.split()
        assert (level, function, bool(UUID(invocation))) == ("ERROR", "broken", True)
        assert "Traceback" in line

    def test_a_log_record_is_one_line_whatever_it_holds(self, served):
        served.call("/broken")

        eventually(lambda: "two\\nlines \\x1b[31m" in served.log())
        (line, *_) = [each for each in served.log().splitlines() if "two" in each]
        assert (line.split()[1:3], line.isprintable()) == (["INFO", "broken"], True)

    def test_a_function_that_answers_nothing_is_a_500(self, served):
        assert served.call("/nothing").status_code == 500

    def test_keys_and_queries_stay_out_of_the_log(self, served):
        served.call(f"/echo/a?code={KEY}&private=1")

        assert not [word for word in (KEY, MASTER, "private") if word in served.log()]

    def test_a_chunked_body_arrives_empty(self, served):
        told = served.call("/echo/a", "POST", data=iter([b"a", b"b"])).json()

        assert (told["headers"]["transfer-encoding"], told["body"]) == ("chunked", "")

    def test_a_body_over_the_limit_is_refused_before_it_is_read(self, served):
        request = f"POST /api/health HTTP/1.1\r\nHost: x\r\nContent-Length: {host.BODY_BYTES + 1}\r\n\r\n"

        assert raw(served.told["api"], request.encode()).startswith(b"HTTP/1.1 413 ")

    def test_a_url_over_the_limit_is_refused(self, served):
        assert served.call("/health?x=" + "x" * host.URL_BYTES).status_code == 414

    def test_requests_are_served_side_by_side(self, served):
        """Each of the eight is answered when all of them are there."""
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: served.call("/meet"), range(8)))

        assert [answer.status_code for answer in answers] == [200] * 8


class TestAdmin:
    def test_a_timer_runs_by_hand(self, served):
        before = len(served.journal("tick"))
        answer = served.admin("/functions/tick", json={})

        assert (answer.status_code, answer.content) == (202, b"")
        eventually(lambda: len(served.journal("tick")) == before + 1)
        assert served.journal("tick")[-1]["past_due"] is False

    def test_a_queue_function_runs_by_hand_with_its_input(self, served):
        answer = served.admin("/functions/Work", json={"input": json.dumps({"hand": 1})})

        assert answer.status_code == 202
        eventually(lambda: {"hand": 1} in [row["job"] for row in served.journal("work")])

    @pytest.mark.parametrize(
        ("path", "method", "key", "data", "status"),
        [
            ("/functions/tick", "POST", KEY, "{}", 401),
            ("/functions/tick", "POST", None, "{}", 401),
            ("/functions/unknown", "POST", MASTER, "{}", 404),
            ("/functions/health", "POST", MASTER, "{}", 404),
            ("/functions/tick", "GET", MASTER, None, 404),
            ("/functions/tick", "POST", MASTER, "{", 400),
            ("/functions/tick", "POST", MASTER, "[]", 400),
            ("/host/status", "GET", KEY, None, 401),
            ("/host/unknown", "GET", MASTER, None, 404),
        ],
    )
    def test_what_is_refused(self, served, path, method, key, data, status):
        answer = served.admin(path, method, key=key, data=data)

        assert (answer.status_code, answer.content) == (status, b"")

    def test_the_status_of_the_host(self, served):
        assert served.admin("/host/status", "GET").json()["state"] == "Running"


class TestQueues:
    def test_a_message_reaches_its_function_and_a_bad_one_the_poison_function(self, served, azurite):
        with QueueClient.from_connection_string(
            azurite, served.queue, message_encode_policy=TextBase64EncodePolicy()
        ) as queue:
            queue.send_message(json.dumps({"name": "good", "failures": 1}))
            queue.send_message(json.dumps({"name": "bad", "failures": 99}))

        eventually(lambda: len(served.journal("poison")) == 1)
        assert json.loads(served.journal("poison")[0]["body"])["name"] == "bad"
        eventually(
            lambda: [row["job"]["name"] for row in served.journal("work") if "done" in row and "name" in row["job"]]
        )
        attempts = [(row["job"]["name"], row["attempt"]) for row in served.journal("work") if row.get("id")]
        assert sorted(attempts) == [("bad", 1), ("bad", 2), ("bad", 3), ("good", 1), ("good", 2)]


class TestLife:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_lets_running_functions_finish(self, tmp_path, azurite, number):
        with running(tmp_path, azurite, "--port", "0") as made, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(made.call, "/slow")
            eventually(lambda: made.journal("slow"))
            made.process.send_signal(number)

            assert answer.result().json() == "done"
            assert made.wait() == 0
        with pytest.raises(requests.ConnectionError):
            made.call("/health")

    def test_it_ends_with_its_parent_when_asked(self, tmp_path, azurite):
        with running(tmp_path, azurite, "--port", "0", "--with-parent") as made:
            assert made.call("/health").status_code == 200
            assert made.process.stdin is not None
            made.process.stdin.close()

            assert made.process.wait(SECONDS) == 0
            assert made.process.stdout is not None
            made.process.stdout.close()

    def test_nothing_but_the_line_goes_to_standard_output(self, tmp_path, azurite):
        with running(tmp_path, azurite, "--port", "0") as made:
            made.call("/broken")
            made.process.terminate()

            assert made.process.stdout is not None
            assert made.process.stdout.read() == ""

    def test_timers_tick_unless_they_are_switched_off(self, tmp_path, azurite):
        (tmp_path / "off").mkdir()
        with (
            running(tmp_path / "off", azurite, "--port", "0", "--no-timers", schedule="* * * * * *") as off,
            running(tmp_path, azurite, "--port", "0", schedule="* * * * * *") as on,
        ):
            eventually(lambda: len(on.journal("tick")) > 1)

            assert off.journal("tick") == []

    def test_a_timer_that_was_due_while_the_host_was_down_runs_once_past_due(self, tmp_path, empty_storage):
        with running(tmp_path, empty_storage, "--port", "0"):
            assert Monitor(empty_storage, "tick").load() is not None
        Monitor(empty_storage, "tick").save(datetime.now(UTC) - timedelta(days=3 * 366))
        for _ in range(2):
            with running(tmp_path, empty_storage, "--port", "0") as made:
                eventually(lambda: made.journal("tick"))

        assert [row["past_due"] for row in made.journal("tick")] == [True]

    def test_an_explicit_port_in_use_is_exit_2(self, tmp_path, azurite, served):
        port = served.told["api"].split(":")[2].removesuffix("/api")
        with running(tmp_path, azurite, "--port", port) as made:
            assert made.wait() == 2

        assert made.line == ""
        assert made.log() == f"The host cannot start: port {port} is in use\n"

    def test_the_default_port_in_use_means_the_next_free_one(self, tmp_path, azurite):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", host.DEFAULT_PORT))
                taken.listen()
            except OSError:
                """Somebody else has it: as good."""
            with running(tmp_path, azurite) as made:
                assert made.call("/health").status_code == 200
                assert f"Port {host.DEFAULT_PORT} is in use; listening on " in made.log()
                assert f":{host.DEFAULT_PORT}/" not in made.told["api"]

    def test_without_keys_of_the_caller_they_are_random(self, tmp_path, azurite):
        made = Running(tmp_path, azurite, "--port", "0")
        try:
            assert made.call("/echo/a", key=made.told["key"]).status_code == 200
            assert made.call("/echo/a").status_code == 401
            assert made.told["key"] != made.told["masterKey"]
        finally:
            made.end()

    def test_local_settings_fill_the_environment_but_replace_nothing(self, tmp_path, azurite):
        settings = tmp_path / "other.settings.json"
        settings.write_text(json.dumps({"Values": {"SAMPLE_QUEUE": "from-the-file", "OTHER": "x"}}))
        with running(tmp_path, azurite, "--port", "0", "--settings", str(settings)) as made:
            assert made.call("/health").status_code == 200
            with QueueClient.from_connection_string(azurite, made.queue) as queue:
                assert queue.get_queue_properties().name == made.queue

    def test_missing_settings_are_exit_2(self, tmp_path, azurite):
        with running(tmp_path, azurite, "--port", "0", "--settings", str(tmp_path / "none.json")) as made:
            assert made.wait() == 2

        assert made.log().startswith("The host cannot start: none.json cannot be read")
