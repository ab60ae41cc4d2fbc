"""dev.py as a person meets it: what it starts, what it leaves behind, and what it says when something fails."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import requests
from azure.data.tables import TableServiceClient

from local import azurite as emulator
from local import environment, processes
from local.processes import ROOT, Child, Failed
from local.stack import Outside, Stack
from local.verbs import package
from local.verbs.up import write_settings
from sync.settings import Settings
from tests.cloud import Cloud, TestTenant

SECONDS = 120


class Up:
    """A running `dev.py up`; `parts` are the processes that it started."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, str(ROOT / "dev.py"), "up", "--with-parent", *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert told, f"dev.py up ended early, saying: {self.process.communicate(timeout=SECONDS)[1]}"
        self.line = json.loads(told)
        self.parts = psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> tuple[int, str]:
        """Close its stdin, as the end of its parent does: its exit code and what it said to the person."""
        _, said = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, said


@pytest.fixture
def up() -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(Up(*options))
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            each.stop()


def test_up_takes_another_port_where_the_wanted_one_is_in_use_and_answers_there(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = up("--port", str(port))

    api, key = running.line["api"], running.line["key"]
    assert set(running.line) == {"api", "key", "masterKey", "console", "control"}
    assert requests.get(f"{api}/health", timeout=SECONDS).json()["status"] == "ok"
    assert requests.get(running.line["console"], timeout=SECONDS).status_code == 200
    assert requests.get(f"{api}/ready", timeout=SECONDS).status_code == 401
    ready = requests.get(f"{api}/ready", headers={"x-functions-key": key}, timeout=SECONDS)
    assert (ready.status_code, set(ready.json()["checks"].values())) == (200, {"ok"})

    code, said = running.stop()

    assert code == 0
    assert f"Port {port} is in use; taking {api.split(':')[2].split('/')[0]} instead." in said
    assert psutil.wait_procs(running.parts, timeout=SECONDS)[1] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_no_part_outlives_up(up: Callable[..., Up], number: signal.Signals, code: int) -> None:
    running = up("--port", "0")
    assert len(running.parts) == 3

    running.process.send_signal(number)

    assert running.process.wait(SECONDS) == code
    assert psutil.wait_procs(running.parts, timeout=SECONDS)[1] == []
    running.process.communicate()


def test_up_ends_and_names_the_log_when_a_part_dies(up: Callable[..., Up]) -> None:
    running = up("--port", "0")
    host = next(part for part in running.parts if "local.host" in part.cmdline())

    host.kill()
    code = running.process.wait(SECONDS)

    _, said = running.stop()
    assert code == 1
    assert f"local.host ended with exit code -9. Its log is {ROOT / '.dev/logs/host.log'}" in said
    assert psutil.wait_procs(running.parts, timeout=SECONDS)[1] == []


def test_a_connection_to_an_outside_cloud_survives_a_restart_with_data(
    cloud: Cloud, tenant: TestTenant, tmp_path: Path
) -> None:
    def start() -> Stack:
        outside = Outside(cloud.entra, cloud.graph)
        data, logs = tmp_path / "data", tmp_path / "logs"
        return Stack(data=data, outside=outside, ca_bundle=Path(cloud.ca), logs=logs)

    def call(stack: Stack, method: str, path: str, body: object = None) -> requests.Response:
        headers = {"x-functions-key": stack.key}
        return requests.request(method, f"{stack.api}/{path}", json=body, headers=headers, timeout=SECONDS)

    credential = {"type": "clientSecret", "secretValue": tenant.secret, "expiresOn": "2099-01-01"}
    connection = {"name": "primary", "tenantId": tenant.id, "clientId": tenant.client_id, "credential": credential}
    with start() as stack:
        first_key = stack.key
        assert stack.control is None
        assert call(stack, "POST", "connections", connection).status_code == 201
        with pytest.raises(Failed, match=r"is in use by another dev\.py"), start():
            pass

    with start() as stack:
        checked = call(stack, "POST", "connections/primary/check")

    assert stack.key == first_key
    assert checked.json()["tenant"]["id"] == tenant.id
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data/keys.json").stat().st_mode & 0o777 == 0o600


def python(code: str, tmp_path: Path) -> Child[str]:
    return Child(
        "The part",
        [sys.executable, "-c", code],
        environ=os.environ,
        log=tmp_path / "part.log",
        parse=lambda line: line.removeprefix("key ").strip() if line.startswith("key ") else None,
    )


def test_the_line_that_holds_the_key_is_not_logged(tmp_path: Path) -> None:
    child = python("import sys; print('before\\nkey abc\\nafter', flush=True); sys.stdin.read()", tmp_path)

    assert child.wait_ready() == "abc"
    child.stop()

    assert (tmp_path / "part.log").read_text() == "before\nafter\n"


def test_a_part_that_fails_at_its_start_is_shown_with_its_own_words(tmp_path: Path) -> None:
    child = python("import sys; sys.exit('the disk is full')", tmp_path)

    with pytest.raises(Failed) as failure:
        child.wait_ready()

    log = tmp_path / "part.log"
    assert str(failure.value) == f"The part ended with exit code 1. Its log is {log}:\n  the disk is full"
    child.stop()


def test_a_part_that_never_gets_ready_is_given_up_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.5)
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.5)
    # It ignores the end of its stdin as well.
    child = python("import time; print('busy', flush=True); time.sleep(600)", tmp_path)

    with pytest.raises(Failed, match=r"was not ready after 0\.5 seconds"):
        child.wait_ready()
    child.stop()

    assert not psutil.pid_exists(child.pid)


def test_a_step_that_fails_shows_the_commands_own_output_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failed) as failure:
        environment.run("Fetching", [sys.executable, "-c", "print('no route to host'); raise SystemExit(3)"])

    assert "no route to host" in str(failure.value)
    assert "exit code 3" in str(failure.value)
    assert "run dev.py again" in str(failure.value)
    assert capsys.readouterr().err == "Fetching ... failed\n"


def test_a_python_without_venv_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)

    with pytest.raises(Failed, match=r"sudo apt-get install -y python3\.\d+-venv$"):
        environment.install_packages(tmp_path / "venv", ROOT / "requirements.txt")


@pytest.mark.parametrize(
    ("programs", "enough"),
    [
        ({"node": "v20.1.0", "npm": "10"}, True),
        ({"node": "v18.0.0", "npm": "10"}, True),
        ({"node": "v16.20.2", "npm": "8"}, False),
        ({"node": "v20.1.0"}, False),
        ({}, False),
    ],
)
def test_the_machines_node_is_taken_where_it_is_new_enough_and_has_npm(
    programs: Mapping[str, str], enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert environment.machine_has_node() is enough


def test_the_environment_is_not_made_again_while_its_lock_is_the_same(tmp_path: Path) -> None:
    """Nothing is installed: an empty folder counts as current as soon as it is marked with the lock's hash."""
    lock = tmp_path / "lock.txt"
    lock.write_text("one==1")
    environment.mark_current(tmp_path, lock)

    assert environment.install_packages(tmp_path, lock) == tmp_path / "bin/python"
    lock.write_text("one==2")
    assert not environment.is_current(tmp_path, lock)


def test_help_needs_no_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "dev.py"), "--help"], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    for verb in ("demo", "up", "test", "check", "bench", "lock", "package"):
        assert re.search(rf"^    {verb}\s", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "options",
    [
        ["up", "--entra-endpoint", "https://localhost:1"],
        ["up", "--cloud", "real", "--entra-endpoint", "https://localhost:1", "--graph-endpoint", "https://localhost:2"],
        ["check", "--fast"],
        ["deploy"],
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options: list[str]) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "dev.py"), *options], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stdout == ""


def test_the_same_tree_gives_the_same_zip(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in (
        "function_app.py",
        "sync/a.py",
        "sync/__pycache__/a.pyc",
        "tests/t.py",
        ".venv/x",
        "local.settings.json",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / ".funcignore").write_text((ROOT / ".funcignore").read_text())
    files = sorted(package.deployed(tree))
    package.write(tmp_path / "one.zip", tree, files)
    os.utime(tree / "sync/a.py", (0, 0))
    (tree / "sync/a.py").chmod(0o600)
    package.write(tmp_path / "two.zip", tree, files)

    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["function_app.py", "sync/a.py"]
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_only_the_app_is_deployed() -> None:
    assert {path.parts[0] for path in package.deployed(ROOT)} == package.TOP


class Asked(dict[str, str]):
    """An environment that remembers which settings were read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override] # the one overload used
        self.names.add(name)
        return super().get(name, default)


def test_the_example_settings_start_the_app_and_name_every_setting_that_it_reads() -> None:
    example = json.loads((ROOT / "local.settings.json.example").read_text())["Values"]
    environ = Asked(example)

    settings = Settings.read(environ)

    assert settings.slice_seconds == 240
    # In Azure three of them stand for the connection string, and the last says where the app answers.
    azures = {*(f"AzureWebJobsStorage__{kind}ServiceUri" for kind in ("blob", "queue", "table")), "WEBSITE_HOSTNAME"}
    assert environ.names - azures <= set(example)
    assert example["FUNCTIONS_WORKER_RUNTIME"] == "python"


def test_the_written_settings_are_all_that_a_host_needs(tmp_path: Path) -> None:
    """The local host stands in for Core Tools, in an environment that has nothing else in it."""
    file = tmp_path / "local.settings.json"
    example = json.loads((ROOT / "local.settings.json.example").read_text())["Values"]
    with Stack(host=False, logs=tmp_path) as stack:
        write_settings(file, stack.app_settings)
        command = [sys.executable, "-m", "local.host", "--app", ".", "--port", "0", "--settings", str(file)]
        host = Child(
            "The host",
            [*command, "--with-parent"],
            environ={"PATH": os.environ["PATH"]},
            log=tmp_path / "host.log",
            parse=json.loads,
        )
        answers = host.wait_ready()
        ready = requests.get(f"{answers['api']}/ready", headers={"x-functions-key": answers["key"]}, timeout=SECONDS)
        host.stop()

    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(json.loads(file.read_text())["Values"]) == {*example, "SSL_CERT_FILE"}
    assert file.stat().st_mode & 0o777 == 0o600


def test_settings_of_the_developers_own_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text('{"Values": {"SLICE_SECONDS": "30", "KEY_VAULT_URL": "https://old"}, "Host": {"CORS": "*"}}')

    write_settings(file, {"KEY_VAULT_URL": "https://new"})

    assert json.loads(file.read_text()) == {
        "Values": {"SLICE_SECONDS": "30", "KEY_VAULT_URL": "https://new"},
        "Host": {"CORS": "*"},
    }


@pytest.mark.parametrize(
    "lock", ["requirements.txt", "requirements-dev.txt", "local/azurite/node.txt", "local/azurite/package-lock.json"]
)
def test_no_lock_file_names_a_host(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_what_is_tested_is_what_is_deployed() -> None:
    runtime, development = (
        set(re.findall(r"^\S+==\S+(?: ;.*?)?(?= \\$)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-dev.txt")
    )

    assert runtime
    assert runtime <= development


def test_azurite_keeps_its_data_in_a_folder(tmp_path: Path) -> None:
    def start() -> tuple[Child[dict[str, str]], TableServiceClient]:
        child = emulator.start(tmp_path / "azurite.log", data=tmp_path / "data")
        return child, TableServiceClient.from_connection_string(emulator.connection_string(child.wait_ready()))

    child, service = start()
    service.create_table("kept").create_entity({"PartitionKey": "a", "RowKey": "b"})
    child.stop()
    child, service = start()
    rows = list(service.get_table_client("kept").list_entities())
    child.stop()

    assert [row["RowKey"] for row in rows] == ["b"]
