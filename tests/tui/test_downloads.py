"""Downloads that are paused, resumed, broken and cancelled, from a hub on loopback with the real client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.errors import HubAccessDenied, HubUnavailable, NotEnoughDisk
from tests.hub.conftest import noise
from tests.hub.local_hub import Fault
from tests.tui.model_places import OPTIONS, REPO, HubPlace, hub_place
from tui.downloads import Download, Downloads

__all__ = ["hub_place"]
DATA = noise(2_000_000)
OTHER = noise(1_000_000, seed=1)
SLOW = Fault(bytes_s=400_000)


@pytest.fixture
def place(hub_place: HubPlace) -> HubPlace:
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    hub_place.hub.add("org/other-GGUF", {"other-Q4_K_M.gguf": OTHER})
    return hub_place


@pytest.fixture
def heard() -> list[Download]:
    return []


@pytest.fixture
def downloads(heard: list[Download]) -> Downloads:
    return Downloads(heard.append, OPTIONS)


async def until(condition: Callable[[], object], limit_s: float = 15.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"After {limit_s:g} s it is not so yet."
        await asyncio.sleep(0.01)


def phase(downloads: Downloads, download_id: int) -> str:
    download = downloads.get(download_id)
    assert download is not None
    return download.phase


async def test_a_model_comes_and_its_progress_is_heard(
    place: HubPlace, downloads: Downloads, heard: list[Download]
) -> None:
    one = downloads.start(REPO)
    await until(lambda: phase(downloads, one.id) == "done")
    assert place.snapshots[0].read_bytes() == DATA
    end = downloads.get(one.id)
    assert end is not None and end.path == place.snapshots[0] and end.share == 1.0
    assert heard[0].phase == "fetching"
    assert downloads.texts == ()


async def test_a_paused_download_goes_on_where_it_was(place: HubPlace, downloads: Downloads) -> None:
    place.hub.fail("/cdn/*", SLOW)
    one = downloads.start(REPO)
    await until(lambda: (downloads.get(one.id) or one).n_done_bytes > 100_000)
    assert downloads.texts[0].startswith("↓ ") and downloads.texts[0].endswith(" %")
    downloads.pause(one.id)
    assert phase(downloads, one.id) == "paused" and downloads.texts == ()
    downloads.resume(one.id)
    await until(lambda: phase(downloads, one.id) == "done")
    assert place.snapshots[0].read_bytes() == DATA
    ranges = [headers.get("range", "") for headers in place.hub.asked("/cdn/*")]
    assert ranges[0] == "" and int(ranges[1].removeprefix("bytes=").split("-")[0]) >= 100_000


async def test_a_silent_server_is_no_reason_to_go_on(place: HubPlace, downloads: Downloads) -> None:
    place.hub.fail("/cdn/*", Fault(stall_after=200_000, wait_s=20))
    one = downloads.start(REPO)
    await until(lambda: place.hub.n_sent_bytes >= 200_000)
    downloads.pause(one.id)
    await downloads.cancel(one.id, keeps_bytes=True)
    assert downloads.all == ()


async def test_several_come_at_once_and_pause_alone(place: HubPlace, downloads: Downloads) -> None:
    place.hub.fail("/cdn/*", SLOW, times=None)
    first, second = downloads.start(REPO), downloads.start("org/other-GGUF")
    await until(lambda: all(one.n_done_bytes for one in downloads.all))
    assert downloads.texts[0].startswith("↓ 2: ")
    downloads.pause(first.id)
    place.hub.heal()
    await until(lambda: phase(downloads, second.id) == "done")
    assert phase(downloads, first.id) == "paused"
    await downloads.close()


async def test_the_same_name_is_one_download(place: HubPlace, downloads: Downloads) -> None:
    place.hub.fail("/cdn/*", SLOW, times=None)
    assert downloads.start(REPO).id == downloads.start(REPO).id
    assert len(downloads.all) == 1
    await downloads.close()


async def test_a_line_that_drops_is_borne_and_one_that_stays_broken_fails_with_a_hint(
    place: HubPlace, downloads: Downloads
) -> None:
    place.hub.fail("/cdn/*", Fault(drop_after=300_000))
    one = downloads.start(REPO)
    await until(lambda: phase(downloads, one.id) == "done")
    place.hub.fail("/cdn/*", Fault(drop_after=0), times=None)
    two = downloads.start("org/other-GGUF")
    await until(lambda: phase(downloads, two.id) == "failed")
    failed = downloads.get(two.id)
    assert failed is not None and isinstance(failed.error, HubUnavailable) and failed.error.hint
    assert downloads.texts == ("↓ failed",)
    place.hub.heal()
    downloads.resume(two.id)
    await until(lambda: phase(downloads, two.id) == "done")


@pytest.mark.parametrize("status", [401, 403])
async def test_what_may_not_be_had_says_what_to_do(place: HubPlace, downloads: Downloads, status: int) -> None:
    headers = {"X-Error-Code": "GatedRepo"} if status == 403 else {}
    place.hub.fail("/org/tiny-GGUF/resolve/*", Fault(status=status, headers=headers), times=None)
    one = downloads.start(REPO)
    await until(lambda: phase(downloads, one.id) == "failed")
    failed = downloads.get(one.id)
    assert failed is not None and isinstance(failed.error, HubAccessDenied)
    assert "hf auth login" in (failed.error.hint or "")


async def test_a_full_disk_is_said_before_anything_comes(
    place: HubPlace, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localllm.gguf.new_file.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    one = downloads.start(REPO)
    await until(lambda: phase(downloads, one.id) == "failed")
    failed = downloads.get(one.id)
    assert failed is not None and isinstance(failed.error, NotEnoughDisk)
    assert "1,000 free" in failed.error.message


@pytest.mark.parametrize("keeps_bytes", [True, False])
async def test_cancelling_keeps_or_deletes_what_came(place: HubPlace, downloads: Downloads, keeps_bytes: bool) -> None:
    place.hub.fail("/cdn/*", SLOW)
    one = downloads.start(REPO)
    await until(lambda: (downloads.get(one.id) or one).n_done_bytes > 50_000)
    await downloads.cancel(one.id, keeps_bytes=keeps_bytes)
    assert downloads.all == ()
    assert bool(place.incomplete) is keeps_bytes
    assert place.snapshots == []


async def test_what_is_unfinished_when_the_app_ends_is_there_the_next_time(
    place: HubPlace, downloads: Downloads, home: Path
) -> None:
    place.hub.fail("/cdn/*", SLOW)
    one = downloads.start(REPO)
    await until(lambda: (downloads.get(one.id) or one).n_done_bytes > 50_000)
    await downloads.close()
    later = Downloads(options=OPTIONS)
    later.restore()
    found = later.all[0]
    assert (found.ref, found.phase) == (REPO, "paused") and found.n_done_bytes > 50_000
    place.hub.heal()
    later.resume(found.id)
    await until(lambda: phase(later, found.id) == "done")
    again = Downloads(options=OPTIONS)
    again.restore()
    assert again.all == ()


async def test_only_what_is_still_coming_is_ever_deleted(home: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    file = home / "data" / "downloads.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    entry = {"ref": REPO, "n_done_bytes": 1, "n_total_bytes": 2, "partials": [str(precious)]}
    file.write_text(json.dumps([entry]))
    downloads = Downloads()
    downloads.restore()
    await downloads.cancel(downloads.all[0].id, keeps_bytes=False)
    assert precious.exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"ref": 1}]', "null"])
async def test_a_damaged_list_of_downloads_is_as_good_as_none(home: Path, content: str) -> None:
    file = home / "data" / "downloads.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    downloads = Downloads()
    downloads.restore()
    assert downloads.all == ()
