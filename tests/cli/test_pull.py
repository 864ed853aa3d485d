"""`localllm pull` in processes: killed, interrupted, two at once, a full disk, and no network."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.commands import Commands, ended
from tests.hub.conftest import REPO, noise
from tests.hub.local_hub import Fault, LocalHub
from tests.tiny_model import write_tiny_model

DATA = noise(2_000_000)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with LocalHub() as hub:
        hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
        yield Commands(hub, tmp_path / "hf")


def _wait_for_bytes(commands: Commands, n_bytes: int) -> None:
    while commands.hub.n_sent_bytes < n_bytes:
        time.sleep(0.005)


def test_the_path_is_all_that_is_printed(commands: Commands) -> None:
    code, out, err = commands.run("pull", REPO)
    assert code == 0
    assert Path(out.strip()).read_bytes() == DATA
    assert out.count("\n") == 1
    assert "1.91 MiB fetched" in err
    assert "was here" in commands.run("pull", REPO)[2]


def test_json_says_what_came_and_quiet_says_nothing(commands: Commands) -> None:
    code, out, err = commands.run("pull", f"{REPO}:q4_k_m", "--json", "--quiet")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["path"] == said["paths"][0] and said["n_fetched_bytes"] == len(DATA)
    assert said["commit"] == commands.hub.repos[REPO].commit


def test_a_url_goes_into_our_own_folder(commands: Commands, home: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    url = commands.hub.add_plain("mine.gguf", model)
    code, out, _ = commands.run("pull", url)
    assert (code, out.strip()) == (0, str(home / "data" / "models" / "mine.gguf"))


def test_killed_at_random_moments_it_goes_on_and_nothing_half_is_ever_listed(commands: Commands) -> None:
    chance = random.Random(3)
    commands.hub.fail("/cdn/*", Fault(bytes_s=1_500_000), times=None)
    n_rounds = 0
    while not commands.snapshots:
        n_rounds += 1
        start = commands.hub.n_sent_bytes
        process = commands.start("pull", REPO)
        target = start + chance.randrange(1, 600_000)
        while commands.hub.n_sent_bytes < target and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        ended(process)
        assert all(path.stat().st_size == len(DATA) for path in commands.snapshots)
    commands.hub.heal()
    code, out, _ = commands.run("pull", REPO)
    assert code == 0 and Path(out.strip()).read_bytes() == DATA
    assert n_rounds >= 3
    assert commands.incomplete == []
    # What was on the way in buffers when a process was killed comes again, and no more than that.
    assert commands.hub.n_sent_bytes < 3 * len(DATA)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another signal there")
def test_ctrl_c_ends_it_at_once_and_says_what_goes_on(commands: Commands) -> None:
    commands.hub.fail("/cdn/*", Fault(bytes_s=500_000))
    process = commands.start("pull", REPO)
    _wait_for_bytes(commands, 100_000)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, out) == (130, "")
    assert "the same command goes on" in err
    assert commands.snapshots == []
    assert commands.incomplete[0].stat().st_size > 0
    commands.hub.heal()
    assert commands.run("pull", REPO)[0] == 0


def test_two_at_once_fetch_it_once_and_the_second_says_that_it_waits(commands: Commands) -> None:
    commands.hub.fail("/cdn/*", Fault(bytes_s=1_000_000), times=None)
    first = commands.start("pull", REPO)
    _wait_for_bytes(commands, 1)
    second = commands.start("pull", REPO)
    results = [ended(first), ended(second)]
    assert [code for code, _, _ in results] == [0, 0]
    assert results[0][1] == results[1][1]
    assert "waiting for it" in results[1][2]
    assert commands.hub.n_sent_bytes == len(DATA)


def test_what_huggingface_hub_is_fetching_is_waited_for_and_used(commands: Commands) -> None:
    commands.hub.fail("/cdn/*", Fault(bytes_s=1_000_000), times=None)
    download = f"from huggingface_hub import hf_hub_download\nprint(hf_hub_download({REPO!r}, 'tiny-Q4_K_M.gguf'))"
    theirs = commands.start(before=f"{download}\nsys.exit()")
    _wait_for_bytes(commands, 1)
    code, out, err = commands.run("pull", REPO)
    assert (code, out) == (0, ended(theirs)[1])
    assert "waiting for it" in err and "was here" in err
    assert commands.hub.n_sent_bytes == len(DATA)


def test_the_one_that_waits_goes_on_where_a_killed_one_ended(commands: Commands) -> None:
    commands.hub.fail("/cdn/*", Fault(bytes_s=500_000))
    first = commands.start("pull", REPO)
    _wait_for_bytes(commands, 200_000)
    second = commands.start("pull", REPO)
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    first.kill()
    ended(first)
    assert ended(second)[0] == 0
    assert commands.hub.asked("/cdn/*")[-1]["range"].startswith("bytes=")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits on files' lengths there")
def test_a_full_disk_is_an_error_and_the_rest_comes_when_there_is_room(commands: Commands) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))"
    code, out, err = commands.run("pull", REPO, before=limit)
    assert (code, out) == (10, "")
    assert "Cannot write" in err and "Free some room" in err
    assert commands.snapshots == []
    assert commands.incomplete[0].stat().st_size == 700_000
    code, out, _ = commands.run("pull", REPO, "--json")
    assert (code, json.loads(out)["n_fetched_bytes"]) == (0, len(DATA) - 700_000)


def test_offline_mode_asks_nobody_and_uses_what_is_here(commands: Commands) -> None:
    code, _, err = commands.run("pull", REPO, HF_HUB_OFFLINE="1")
    assert code == 11 and "HF_HUB_OFFLINE" in err
    path = commands.run("pull", REPO)[1]
    n_asked = len(commands.hub.log)
    code, out, err = commands.run("pull", REPO, HF_HUB_OFFLINE="1")
    assert (code, out) == (0, path)
    assert len(commands.hub.log) == n_asked


def test_the_cache_is_where_the_environment_says(commands: Commands, tmp_path: Path) -> None:
    code, out, _ = commands.run("pull", REPO, HF_HUB_CACHE=str(tmp_path / "elsewhere"))
    assert code == 0 and Path(out.strip()).is_relative_to(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), 13, "There is no org/tiny-GGUF on the hub"),
        (Fault(status=401), 12, "hf auth login"),
        (Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), 12, "HF_TOKEN"),
        (Fault(status=429, headers={"Retry-After": "99"}), 11, "Try again in 99 s"),
        (Fault(status=500), 11, "the server failed (500)"),
    ],
)
def test_refusals_have_exit_codes_and_two_lines(commands: Commands, fault: Fault, code: int, words: str) -> None:
    commands.hub.fail("/api/*", fault, times=None)
    found, out, err = commands.run("pull", REPO)
    assert (found, out) == (code, "")
    assert words in err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]


def test_search_shows_a_table_and_json(commands: Commands) -> None:
    commands.hub.add("a/tiny\x1b[31m", {"x-Q8_0.gguf": DATA}, n_downloads=12_345)
    code, out, _ = commands.run("search", "tiny")
    assert code == 0 and "\x1b" not in out
    assert out.splitlines()[0].split() == ["repository", "downloads", "likes", "updated", "weights", "quantizations"]
    assert "12,345" in out.splitlines()[1] and "Q4_K_M" in out.splitlines()[2]
    said = json.loads(commands.run("search", "tiny", "--json", "--limit", "1")[1])
    assert [repo["n_downloads"] for repo in said] == [12_345]
    code, out, err = commands.run("search", "nothing-such")
    assert (code, out) == (0, "") and "Nothing found" in err


def test_help_imports_no_heavy_package(commands: Commands) -> None:
    check = (
        "import atexit; atexit.register(lambda: print(sorted({'huggingface_hub', 'httpx2', 'rich'} & {*sys.modules})))"
    )
    for arguments in (("--help",), ("pull", "--help"), ("search", "--help")):
        assert commands.run(*arguments, before=check)[1].splitlines()[-1] == "[]"
