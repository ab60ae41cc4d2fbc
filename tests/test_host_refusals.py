"""Apps that the local host refuses to start, as the real one does."""

import socket
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from local import functions, host
from tests.hosts import GET, HEAD, KEY, MASTER, QUEUE


class TestRefusals:
    """What the real host refuses at start, this one refuses too."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "it has 0"),
            (HEAD + "other = app\n", "More than one FunctionApp"),
            (HEAD + "other = func.FunctionApp()\n", "More than one FunctionApp"),
            (HEAD + GET.format("admin/x", "a"), "built in routes"),
            (HEAD + GET.format("Runtime/x", "a"), "built in routes"),
            (HEAD + GET.format("/x", "a"), "begins with a slash"),
            (HEAD + GET.format("x/{id:odd}", "a"), "constraint 'odd'"),
            (HEAD + GET.format("x", "a") + GET.format("X", "b"), "a and b have the same route"),
            (HEAD + GET.format("x", "a") + '@app.route(route="x")\ndef b(req: func.HttpRequest): ...\n', "same route"),
            (HEAD + GET.format("x", "host"), "not a valid function name"),
            (HEAD + GET.format("x", "_a"), "not a valid function name"),
            (HEAD + GET.format("x", "a") + '@app.function_name("A")\n' + GET.format("y", "b"), "used twice"),
            (HEAD + GET.format("x", "a") + '@app.function_name("a")\n' + GET.format("y", "b"), "unique"),
            (HEAD + '@app.route(route="x")\ndef a(other: func.HttpRequest): ...\n', "no parameter: req"),
            (HEAD + '@app.route(route="x")\ndef a(req: func.HttpRequest, other): ...\n', "no binding: other"),
            (HEAD + '@app.route(route="x")\ndef a(req: func.TimerRequest): ...\n', "annotation of 'req'"),
            (HEAD + '@app.route(route="x")\ndef a(req: List[str]): ...\n', "annotation of 'req'"),
            (HEAD + '@app.route(route="x", trigger_arg_name="a__b")\ndef a(a__b): ...\n', "valid binding name"),
            (HEAD + '@app.route(route="x")\nasync def a(req: func.HttpRequest): ...\n', "async functions"),
            (HEAD + '@app.timer_trigger(schedule="0 0 0 30 2 *", arg_name="t")\ndef a(t): ...\n', "no day ever"),
            (HEAD + '@app.timer_trigger(schedule="%ABSENT%", arg_name="t")\ndef a(t): ...\n', "setting 'ABSENT'"),
            (HEAD + QUEUE.format("a_b", "STORE", "def a(msg): ..."), "not a valid queue name"),
            (HEAD + QUEUE.format("jobs", "ABSENT", "def a(msg): ..."), "setting 'ABSENT'"),
            (HEAD + QUEUE.format("jobs", "STORE", "def a(msg: str): ..."), "annotation of 'msg'"),
            (
                HEAD + '@app.queue_output(arg_name="out", queue_name="q", connection="STORE")\n'
                '@app.route(route="x")\ndef a(req, out): ...\n',
                "without further bindings",
            ),
            (
                HEAD + '@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:10")\n'
                + GET.format("x", "a"),
                "retry policies",
            ),
            (HEAD + '@app.blob_trigger(arg_name="b", path="x", connection="STORE")\ndef a(b): ...\n', "only HTTP"),
        ],
    )  # fmt: skip
    def test_the_app(self, tmp_path, monkeypatch, text, expected):
        (tmp_path / "function_app.py").write_text(dedent(text))
        (tmp_path / "host.json").write_text('{"version": "2.0"}')
        with pytest.raises(functions.Refused, match=expected):
            self.build(tmp_path, monkeypatch)

    @pytest.mark.parametrize(
        ("host_json", "expected"),
        [
            (None, "host.json cannot be read"),
            ("{", "host.json cannot be read"),
            ('{"extensions": {"queues": {"batchSize": 33}}}', "batchSize"),
        ],
    )
    def test_host_json(self, tmp_path, monkeypatch, host_json, expected):
        (tmp_path / "function_app.py").write_text(HEAD + GET.format("x", "a"))
        if host_json is not None:
            (tmp_path / "host.json").write_text(host_json)
        with pytest.raises(functions.Refused, match=expected):
            self.build(tmp_path, monkeypatch)

    def test_a_folder_without_functions(self, tmp_path, monkeypatch):
        (tmp_path / "host.json").write_text("{}")
        with pytest.raises(functions.Refused, match=r"no function_app\.py"):
            self.build(tmp_path, monkeypatch)

    def test_different_methods_may_share_a_route(self, tmp_path, monkeypatch):
        post = GET.format("x", "b").replace('"GET"', '"POST"')
        (tmp_path / "function_app.py").write_text(HEAD + GET.format("x", "a") + post)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setitem(sys.modules, "function_app", threading)
        first, second = (host.Route.of(each, "api") for each in functions.load(tmp_path))

        assert not first.clashes(second)

    @staticmethod
    def build(folder: Path, monkeypatch) -> None:
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setitem(sys.modules, "function_app", threading)
        monkeypatch.setenv("STORE", "UseDevelopmentStorage=true")
        with socket.socket() as listening:
            host.Host(folder, listening, host.Keys(KEY, MASTER), threads=1, timers=True)
