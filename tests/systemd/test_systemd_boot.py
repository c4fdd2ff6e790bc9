"""The units under a real systemd, which is booted in a container: start, kill, hang, reload, stop."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from booted import PROGRAM, Machine, why_not
from tiny_bundle import HEIGHT, WIDTH, make_bundle

UNIT, STATION, PLC = "edge-ad@line1", "edge-ad-station@line1", "edge-ad-plc@line1"
ROUNDS = int(os.environ.get("EDGE_AD_ROUNDS", "1"))
CALIBRATE = "edge-ad-calibrate@line1"
LINE = "/etc/edge-ad/line1/line.toml"
CAMERA = f"synthetic://?seed=1&width={WIDTH}&height={HEIGHT}&fps=20"
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/test.conf"
# From the start of the process to READY=1, without systemd.
BARE = f"""
import os, socket, subprocess, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
    told.settimeout(60)
    told.bind("/tmp/bare")
    began = time.monotonic()
    process = subprocess.Popen(
        ["{PROGRAM}", "run", "-c", "{LINE}"], env={{**os.environ, "NOTIFY_SOCKET": "/tmp/bare"}},
        stderr=subprocess.DEVNULL,
    )
    while b"READY=1" not in told.recv(4096):
        pass
    print(time.monotonic() - began)
    process.terminate()
    process.wait()
os.unlink("/tmp/bare")
"""

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With edge-ad@line1 set up as systemd/README.md says, its camera rendered and its bundle tiny."""
    base = tmp_path_factory.mktemp("machine")
    make_bundle(base / "state")
    with Machine(base / "over") as one:
        one.run(PROGRAM, "init", "--service", "line1")
        state = "/var/lib/edge-ad/line1"
        shutil.copytree(base / "state", one.path(state), symlinks=True, dirs_exist_ok=True)
        one.run("chown", "-R", "edge-ad:edge-ad", state)
        change(one, '\nuri = "v4l2:///dev/video0"', f'\nuri = "{CAMERA}"')
        change(one, "\n#min_free = 0.05", "\nmin_free = 0.0")
        change(one, "\n#threads = 0", "\nthreads = 1")
        change(one, "\n#consumers = []", '\nconsumers = ["gate", "plc"]')
        one.run("runuser", "-u", "edge-ad", "--", PROGRAM, "check", "-c", LINE)
        one.run("systemctl", "enable", "--now", UNIT)
        yield one


def change(machine: Machine, old: str, new: str) -> None:
    file = machine.path(LINE)
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new, 1))


@pytest.fixture
def drop_in(machine: Machine) -> Iterator[Callable[[str], None]]:
    """Other settings of the unit, which is started with them; without them when the test is over."""

    def use(text: str) -> None:
        file = machine.path(DROP_IN)
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"[Service]\n{text}\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", UNIT)

    yield use
    machine.path(DROP_IN).unlink(missing_ok=True)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)


def since_boot_s(machine: Machine, what: str) -> float:
    """When it happened to the unit, on the monotonic clock, which is this machine's too."""
    return int(machine.show(UNIT, f"{what}TimestampMonotonic")) / 1e6


def up_again(machine: Machine, pid: str, unit: str = UNIT) -> None:
    """Wait until another process than `pid` is ready."""
    machine.wait(lambda: machine.show(unit, "MainPID") not in (pid, "0"))
    machine.wait(lambda: machine.show(unit, "ActiveState") == "active")


def status(machine: Machine) -> dict[str, object]:
    answer = json.loads(machine.run(PROGRAM, "status", "-c", LINE, "--json"))
    assert isinstance(answer, dict)
    return answer


def test_it_is_ready_runs_as_its_own_user_and_can_do_no_more_than_it_has_to(machine: Machine) -> None:
    assert machine.show(UNIT, "ActiveState") == "active"
    assert machine.show(UNIT, "StatusText") == "RUNNING"
    machine.wait(lambda: int(str(status(machine)["parts"])) > 5)
    text = machine.run("cat", f"/proc/{machine.show(UNIT, 'MainPID')}/status")
    facts = {key: value.split() for key, _, value in (line.partition(":") for line in text.splitlines())}
    assert facts["CapEff"] == facts["CapBnd"] == ["0" * 16]
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == (["1"], ["2"])
    assert facts["Uid"][0] == machine.run("id", "-u", "edge-ad") != "0"
    assert {"edge-ad", "video", "render"} <= set(machine.run("id", "-Gn", "edge-ad").split())
    places = machine.run(
        "stat", "-c", "%n %a %U:%G", "/var/lib/edge-ad/line1", "/run/edge-ad/line1",
        "/run/edge-ad/line1/control.sock",
    )  # fmt: skip
    assert places.splitlines() == [
        "/var/lib/edge-ad/line1 750 edge-ad:edge-ad",
        "/run/edge-ad/line1 750 edge-ad:edge-ad",
        "/run/edge-ad/line1/control.sock 770 edge-ad:edge-ad",
    ]


def test_who_is_in_the_group_may_ask_it_and_nobody_else(machine: Machine) -> None:
    machine.run("useradd", "-G", "edge-ad", "operator1")
    machine.run("useradd", "stranger1")
    asks = (PROGRAM, "status", "-c", LINE)
    assert machine.run("runuser", "-u", "operator1", "--", *asks).startswith("line1: RUNNING, pid ")
    said = machine.run("runuser", "-u", "stranger1", "--", *asks, check=False)
    assert "Permission denied" in said
    # One who knows what is in the file does not reach the socket either.
    machine.run("install", "-m", "644", LINE, "/tmp/line.toml")
    asks = (PROGRAM, "status", "-c", "/tmp/line.toml")
    said = machine.run("runuser", "-u", "stranger1", "--", *asks, check=False)
    assert "no answer to 'status'" in said


def test_its_lines_have_the_priority_that_they_are_due(machine: Machine) -> None:
    lines = machine.journal("-u", UNIT, "-o", "json", "--output-fields=PRIORITY,MESSAGE").splitlines()
    entries = [json.loads(line) for line in lines]
    state = next(e for e in entries if e["MESSAGE"] == "line1: RUNNING")  # without a time of its own
    assert state["PRIORITY"] == "6"


def test_it_comes_back_after_a_kill_and_how_long_that_takes(machine: Machine) -> None:
    machine.path("/opt/edge-ad/bare.py").write_text(BARE)
    machine.run("systemctl", "stop", UNIT)
    library = "LD_LIBRARY_PATH=/opt/python/lib"  # as the program has it
    python = ("env", library, "/opt/python/bin/python3", "/opt/edge-ad/bare.py")
    alone = ("runuser", "-u", "edge-ad", "--", *python)
    bare, started, killed = [], [], []
    for _ in range(ROUNDS):
        bare.append(float(machine.run(*alone)))
        machine.run("systemctl", "start", UNIT)
        started.append(since_boot_s(machine, "ActiveEnter") - since_boot_s(machine, "InactiveExit"))
        pid, now = machine.show(UNIT, "MainPID"), time.monotonic()
        machine.run("kill", "-9", pid)
        up_again(machine, pid)
        killed.append(since_boot_s(machine, "ActiveEnter") - now)
        assert killed[-1] >= 1  # RestartSec
        machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "start", UNIT)
    once, start, kill = map(statistics.median, (bare, started, killed))
    sys.stderr.write(  # with -s; times depend on what else the machine does
        f"bare process to READY {once:.2f} s; unit {start / once:.2f} times that; "
        f"kill -9 to READY RestartSec + {(kill - 1) / once:.2f} times\n"
    )


def test_a_pipeline_that_hangs_is_ended_and_says_where_it_was(
    machine: Machine, drop_in: Callable[[str], None]
) -> None:
    drop_in(
        f"WatchdogSec=6\nExecStart=\nExecStart={PROGRAM} run -c {LINE} "
        "--failpoint inspect.before=sleep:3600@40"
    )
    pid = machine.show(UNIT, "MainPID")
    machine.wait(lambda: int(machine.show(UNIT, "NRestarts")) >= 1)
    up_again(machine, pid)
    said = machine.journal("-u", UNIT)
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said
    assert "in hit" in said  # the failpoint, on one of the threads' stacks


def test_a_reload_is_done_when_the_command_returns(machine: Machine) -> None:
    pid, before = machine.show(UNIT, "MainPID"), machine.cursor()
    change(machine, "#false_reject_rate = 0.01", "false_reject_rate = 0.02")
    machine.run("systemctl", "reload", UNIT)
    assert "reloaded: product default" in machine.journal("-u", UNIT, "--after-cursor", before)
    before = machine.cursor()
    machine.run("kill", "-HUP", pid)
    machine.wait(
        lambda: "reloaded: product default" in machine.journal("-u", UNIT, "--after-cursor", before)
    )
    machine.wait(lambda: machine.show(UNIT, "ActiveState") == "active")
    assert machine.show(UNIT, "MainPID") == pid


@pytest.mark.parametrize("asked", ["systemctl reload", "SIGHUP"])
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("deadline = 100", "unknown key 'deadline'"),  # the file is wrong
        ('group = "root"', "group"),  # the file is right, and the daemon cannot
    ],
)
def test_a_reload_that_is_refused_keeps_the_old_configuration(
    machine: Machine, asked: str, key: str, why: str
) -> None:
    pid, text, before = machine.show(UNIT, "MainPID"), machine.path(LINE).read_text(), machine.cursor()
    try:
        change(machine, "schema = 1", f"schema = 1\n{key}")
        if asked == "SIGHUP":
            machine.run("kill", "-HUP", pid)
            refused = "reload refused, the old configuration and bundle stay in use"
            machine.wait(lambda: refused in machine.journal("-u", UNIT, "--after-cursor", before))
        else:
            assert "failed" in machine.run("systemctl", "reload", UNIT, check=False)
        assert why in machine.journal("-u", UNIT, "--after-cursor", before)
        machine.wait(lambda: machine.show(UNIT, "ActiveState") == "active")
    finally:
        machine.path(LINE).write_text(text)
    assert machine.show(UNIT, "MainPID") == pid
    parts = status(machine)["parts"]
    machine.wait(lambda: status(machine)["parts"] != parts)


def test_a_stop_answers_every_part_that_waits(machine: Machine, drop_in: Callable[[str], None]) -> None:
    text, verdicts = machine.path(LINE).read_text(), "/var/log/edge-ad/line1/verdicts.jsonl"
    change(machine, '#kind = "free"', 'kind = "software"')
    try:
        drop_in(
            f"ExecStart=\nExecStart={PROGRAM} run -c {LINE} --journal {verdicts} "
            "--failpoint inspect.before=sleep:0.4"
        )
        for number in range(4):
            machine.run(PROGRAM, "trigger", "-c", LINE, "--part", f"P{number}")
        before = machine.cursor()
        machine.run("systemctl", "stop", UNIT)
    finally:
        machine.path(LINE).write_text(text)
    assert (machine.show(UNIT, "Result"), machine.show(UNIT, "ExecMainStatus")) == ("success", "0")
    said = machine.journal("-u", UNIT, "--after-cursor", before)
    assert "line1: STOPPING" in said
    assert "stopped after 4 parts" in said
    lines = machine.path(verdicts).read_text().splitlines()
    assert [json.loads(line)["header"]["part"] for line in lines] == [f"P{n}" for n in range(4)]


def test_a_station_without_a_file_is_named_and_not_tried_again(machine: Machine) -> None:
    machine.run("systemctl", "start", "edge-ad@line9", check=False)
    machine.wait(lambda: machine.show("edge-ad@line9", "ActiveState") == "failed")
    assert machine.show("edge-ad@line9", "ExecMainStatus") == "2"
    said = machine.journal("-u", "edge-ad@line9")
    assert "/etc/edge-ad/line9/line.toml: cannot read the station file" in said
    assert "edge-ad init" in said
    assert machine.show("edge-ad@line9", "NRestarts") == "0"


def test_what_root_left_in_the_state_directory_is_named_with_its_remedy(machine: Machine) -> None:
    machine.run(PROGRAM, "init", "--service", "line7")
    machine.run("touch", "/var/lib/edge-ad/line7/daemon.lock")
    machine.run("chmod", "600", "/var/lib/edge-ad/line7/daemon.lock")
    machine.run("systemctl", "start", "edge-ad@line7", check=False)
    machine.wait(lambda: "state_dir" in machine.journal("-u", "edge-ad@line7"))
    machine.run("systemctl", "stop", "edge-ad@line7")
    said = machine.journal("-u", "edge-ad@line7", "-p", "err")
    assert "not writable (Permission denied); 'chown -R " in said


def test_a_state_directory_that_is_not_the_units_is_named_with_the_one_that_is(machine: Machine) -> None:
    text = machine.path(LINE).read_text().replace("/var/lib/edge-ad/line1", "/srv/line8", 1)
    machine.run(PROGRAM, "init", "--service", "line8")
    machine.path("/etc/edge-ad/line8/line.toml").write_text(text)
    machine.run("systemctl", "start", "edge-ad@line8", check=False)
    machine.wait(lambda: "state_dir" in machine.journal("-u", "edge-ad@line8"))
    machine.run("systemctl", "stop", "edge-ad@line8")
    said = machine.journal("-u", "edge-ad@line8")
    assert "state_dir: /srv/line8 is not writable" in said
    assert "set /var/lib/edge-ad/line8, or give the unit ReadWritePaths=/srv/line8" in said


def test_the_secret_key_is_a_credential_that_only_the_service_reads(
    machine: Machine, drop_in: Callable[[str], None]
) -> None:
    keys, before = "/etc/edge-ad/line1/keys", machine.path(LINE).read_text()
    machine.run(PROGRAM, "keys", "new", "station", "-o", keys)  # root's own
    secret = f"/run/credentials/{UNIT}.service/station.key_secret"
    change(machine, '#secret = ""', f'secret = "{secret}"')
    change(machine, '#endpoint = "tcp://127.0.0.1:5570"', 'endpoint = "tcp://0.0.0.0:5570"')
    try:
        drop_in(f"LoadCredential=station.key_secret:{keys}/station.key_secret")
        assert status(machine)["scores"] == "tcp://0.0.0.0:5570"
    finally:
        machine.path(LINE).write_text(before)


def test_line_setup_through_the_running_daemon(machine: Machine) -> None:
    before = status(machine)["bundle"]
    network = "/var/lib/edge-ad/line1/tiny"
    change(machine, '#backbone = ""', f'backbone = "{network}"')
    change(machine, '#profile = "default"', 'profile = "paper"')
    machine.path("/etc/edge-ad/line1/calibrate.env").write_text("EDGE_AD_CALIBRATE=--parts 30\n")
    machine.run("systemctl", "start", CALIBRATE, timeout_s=120)
    assert machine.show(CALIBRATE, "Result") == "success"
    assert "has taken it (RUNNING)" in machine.journal("-u", CALIBRATE)
    assert status(machine)["bundle"] != before
    assert machine.show(UNIT, "NRestarts") == "0"


def test_the_station_at_the_gate_and_the_bridge_are_started_again_and_stop_well(
    machine: Machine,
) -> None:
    for unit, kind in ((STATION, "--gate"), (PLC, "--plc")):
        machine.run(PROGRAM, "init", kind, "--service", "line1")
        machine.run("systemctl", "start", unit)  # returns when it says that it is ready
        pid = machine.show(unit, "MainPID")
        machine.run("kill", "-9", pid)
        up_again(machine, pid, unit)
        machine.run("systemctl", "stop", unit)
        assert machine.show(unit, "Result") == "success"
    # What stopped took nothing of the daemon's with it.
    assert machine.run(PROGRAM, "status", "-c", LINE).startswith("line1: ")


def test_it_is_started_with_the_machine(machine: Machine) -> None:
    wanted = machine.run("systemctl", "list-dependencies", "--plain", "multi-user.target").split()
    assert f"{UNIT}.service" in wanted
