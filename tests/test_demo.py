"""The demo as a person meets it: dev.py demo, its words, its exit code and the photo that it leaves."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from PIL import Image

from local.processes import ROOT

SECONDS = 280
DEMO = [sys.executable, str(ROOT / "dev.py"), "demo"]


def figures(output: str, name: str) -> list[int]:
    """The whole numbers in the summary's line of that name."""
    line = re.search(rf"^ +{name} .*$", output, re.MULTILINE)
    assert line, output
    return [int(number) for number in re.findall(r"(?<=\s)\d+(?=\s)", line[0])]


def side_by_side(output: str) -> list[tuple[str, ...]]:
    """The rows of the two sides: in UTC from-to, in New York from-to and its zone, the portal's and the room's title."""
    row = r"^   \w{3} \d\d \w{3} ([\d:-]{11})  ([\d:-]{11}) (E[SD]T)  (\S.*?)  +(\S.*)$"
    return re.findall(row, output, re.MULTILINE)


def test_the_demo_shows_the_main_job_and_leaves_a_photo_that_decodes(tmp_path: Path) -> None:
    """Contoso has 10 members, 8 of them with photos; then one comes, one goes, one is renamed, two photos change. Its 6
    devices come after a dry run, its contacts from a group, and two of them go when that is approved."""
    done = subprocess.run(
        [*DEMO, "--photos", str(tmp_path)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    said = done.stdout

    assert (done.returncode, done.stderr) == (0, "")
    read, written, requests, batched, _ = figures(said, "first users")
    assert (read, written, requests, batched) == (12, 10, 2, 0)
    read, written, requests, batched, _ = figures(said, "first photos")
    assert (read, written) == (10, 8)
    assert requests <= 3
    read, written, requests, batched, _ = figures(said, "again users")
    assert (read, written, requests, batched) == (3, 3, 1, 0)
    read, written, requests, batched, _ = figures(said, "again photos")
    assert (read, written, requests) == (10, 3, 2)
    assert figures(said, "first devices")[:4] == [6, 6, 2, 0]
    assert figures(said, "first contacts")[:3] == [9, 6, 3]
    assert figures(said, "again contacts")[:2] == [9, 2]
    assert figures(said, "approved contacts")[:2] == [9, 4]
    assert re.search(
        r"^   ADELE-LAPTOP +Workplace +Adele Vance +2024-01-15 +stale, registered twice$", said, re.MULTILINE
    )
    for told in (
        "Status: Confirmed",
        "The client secret is wrong.",
        "Nadia Okafor is new",
        "Isaiah Langer has left",
        "Grace O'Brien is now Grace Novak",
        "Alex Wilber has another photo",
        "Diego Siciliani has no photo any more",
        "agree on 10 people, 8 photos, 6 devices and 4 contacts",
        "its plan would create 6 devices; in the portal there are 0",
        "in-top-group-and-member-group",
        "waits: delete Henrietta Müller (left)",
        "found as azureState deleted: Diego Siciliani, Henrietta Müller",
        "Board room: pending",
        "in the portal after",
        "2 writes to the room's calendar",
    ):
        assert told in said
    active = re.search(r"Board room: active after [\d.]+ s, by webhook", said)
    brought = re.search(r"(\d+) notifications, one run, (\d+) Graph requests?; in the portal after ([\d.]+) s", said)
    assert active
    assert brought
    assert int(brought[1]) >= 1
    assert 1 <= int(brought[2]) <= 3
    (meeting, single, *series) = side_by_side(said)
    assert meeting[3:] == ("Budget review", "Adele Vance")
    assert single[3:] == ("Visit of the architects",) * 2
    assert {row[3:] for row in series} == {("Weekly planning",) * 2}
    assert [row[1] for row in series] == ["09:00-09:30", "09:00-09:30", "11:00-11:30", "09:00-09:30"]
    assert [row[2] for row in series] in (["EST"] * 2 + ["EDT"] * 2, ["EDT"] * 2 + ["EST"] * 2)
    assert series[0][0] == series[1][0] != series[3][0]
    assert max(map(len, said.splitlines())) <= 100 + len(str(tmp_path))
    (photo,) = tmp_path.iterdir()
    assert f"The photo is {photo}" in said
    with Image.open(photo) as picture:
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", (240, 240))
    assert "sim8Q~" not in said


def test_ctrl_c_ends_the_demo_and_every_part_of_it(tmp_path: Path) -> None:
    command = [*DEMO, "--photos", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("Tenantsync")
        parts = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=SECONDS)

    assert len(parts) == 3
    assert (demo.returncode, said) == (130, "")
    assert psutil.wait_procs(parts, timeout=SECONDS)[1] == []
    assert list(tmp_path.iterdir()) == []
