"""Pulling from a hub on loopback, with the real client: whatever the line and the server do."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir

from localllm.errors import (
    DamagedDownload,
    HubAccessDenied,
    HubError,
    HubNotFound,
    HubRateLimited,
    HubUnavailable,
    LocalLLMError,
    ModelNotFound,
    NotEnoughDisk,
    RequestError,
)
from localllm.hub import FileRef, NameRef, RepoRef, parse_ref, transfer
from localllm.hub.meter import PullProgress
from localllm.hub.pull import pull
from localllm.hub.pulled import N_AT_ONCE, PullOptions
from localllm.hub.repo_files import pull_repo
from tests.hub.conftest import QUICK, REPO, Place, noise
from tests.hub.local_hub import TOKEN, Fault

DATA = noise(2_000_000)
BIG = noise(3_000_000, seed=1)


@pytest.fixture
def repo(place: Place) -> Place:
    place.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA, "tiny-Q8_0.gguf": BIG, "mmproj-tiny-f16.gguf": noise(99)})
    return place


def test_the_best_quantization_comes_and_lies_where_huggingface_hub_has_it(repo: Place) -> None:
    pulled = repo.pull()
    commit = repo.hub.repos[REPO].commit
    folder = repo.cache / "models--org--tiny-GGUF"
    assert pulled.path == folder / "snapshots" / commit / "tiny-Q4_K_M.gguf"
    assert pulled.path.read_bytes() == DATA
    assert pulled.path.resolve().name == hashlib.sha256(DATA).hexdigest()
    assert (folder / "refs" / "main").read_text() == commit
    assert repo.incomplete == []
    assert (pulled.n_bytes, pulled.n_fetched_bytes) == (len(DATA), len(DATA))


def test_what_is_there_is_not_fetched_again(repo: Place) -> None:
    repo.pull()
    n_sent = repo.hub.n_sent_bytes
    assert repo.pull().n_fetched_bytes == 0
    assert repo.hub.n_sent_bytes == n_sent


def test_huggingface_hub_uses_what_we_fetched(repo: Place) -> None:
    pulled = repo.pull()
    n_sent = repo.hub.n_sent_bytes
    theirs = hf_hub_download(REPO, "tiny-Q4_K_M.gguf", endpoint=repo.hub.endpoint, cache_dir=repo.cache)
    assert Path(theirs) == pulled.path
    assert repo.hub.n_sent_bytes == n_sent
    assert [found.repo_id for found in scan_cache_dir(repo.cache).repos] == [REPO]


def test_we_use_what_huggingface_hub_fetched(repo: Place) -> None:
    theirs = hf_hub_download(REPO, "tiny-Q4_K_M.gguf", endpoint=repo.hub.endpoint, cache_dir=repo.cache)
    pulled = repo.pull()
    assert (pulled.path, pulled.n_fetched_bytes) == (Path(theirs), 0)


def test_a_file_that_git_holds_is_checked_by_its_git_digest(place: Place) -> None:
    place.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA}, is_lfs=False)
    assert place.pull().path.read_bytes() == DATA
    theirs = hf_hub_download(REPO, "tiny-Q4_K_M.gguf", endpoint=place.hub.endpoint, cache_dir=place.cache)
    assert Path(theirs) == place.snapshots[0]


def test_all_parts_of_a_split_model_come_and_the_first_is_the_path(place: Place) -> None:
    parts = {f"Q4_K_M/big-Q4_K_M-0000{index}-of-00004.gguf": noise(100_000, index) for index in (1, 2, 3, 4)}
    place.hub.add(REPO, parts)
    pulled = place.pull()
    assert pulled.path.name == "big-Q4_K_M-00001-of-00004.gguf"
    assert [path.read_bytes() for path in pulled.paths] == list(parts.values())


def test_a_few_parts_come_at_once(place: Place) -> None:
    place.hub.add(REPO, {f"big-Q4_K_M-0000{index}-of-00005.gguf": noise(200_000, index) for index in range(1, 6)})
    place.hub.fail("/cdn/*", Fault(bytes_s=1_000_000), times=None)
    place.pull()
    assert place.hub.n_at_once_max == N_AT_ONCE


def test_a_very_long_file_is_asked_for_in_pieces(repo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 600_000)
    assert repo.pull().path.read_bytes() == DATA
    assert [headers["range"] for headers in repo.hub.asked("/cdn/*")][-1] == f"bytes=1800000-{len(DATA) - 1}"


def test_no_part_of_a_split_model_appears_before_all_are_there(place: Place) -> None:
    place.hub.add(REPO, {f"big-Q4_K_M-0000{index}-of-00002.gguf": noise(100_000, index) for index in (1, 2)})
    second = place.hub.repos[REPO].files["big-Q4_K_M-00002-of-00002.gguf"]
    place.hub.fail(f"/cdn/{second.digest}", Fault(status=404))
    with pytest.raises(HubNotFound):
        place.pull()
    assert place.snapshots == []
    assert place.pull().n_fetched_bytes <= 200_000


def test_twenty_drops_at_random_places_cost_nothing_that_had_come(repo: Place) -> None:
    chance = random.Random(5)
    for _ in range(20):
        repo.hub.fail("/cdn/*", Fault(drop_after=chance.randrange(1, 150_000)))
    pulled = repo.pull(RepoRef(REPO, "Q8_0"))
    assert pulled.path.read_bytes() == BIG
    assert pulled.n_fetched_bytes == len(BIG)
    asked = repo.hub.asked("/cdn/*")
    assert len(asked) == 21
    starts = [int(headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0]) for headers in asked]
    assert starts == sorted(starts) and starts[-1] > 0


def test_a_line_that_brings_nothing_is_given_up_and_what_came_is_kept(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(drop_after=500_000))
    repo.hub.fail("/cdn/*", Fault(drop_after=0), times=None)
    with pytest.raises(HubUnavailable, match="no connection"):
        repo.pull()
    assert repo.snapshots == []
    n_kept = repo.incomplete[0].stat().st_size
    assert n_kept > 0
    repo.hub.heal()
    assert repo.pull().n_fetched_bytes == len(DATA) - n_kept


def test_wrong_bytes_are_refused_and_fetched_once_more(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(is_wrong=True))
    pulled = repo.pull()
    assert pulled.path.read_bytes() == DATA
    assert pulled.n_fetched_bytes == 2 * len(DATA)


def test_wrong_bytes_twice_are_an_error_and_nothing_is_left(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(is_wrong=True), times=None)
    with pytest.raises(DamagedDownload, match="twice with other contents"):
        repo.pull()
    assert (repo.snapshots, repo.incomplete) == ([], [])
    assert len(repo.hub.asked("/cdn/*")) == 2


def test_a_damaged_rest_of_an_earlier_run_is_noticed(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(drop_after=500_000))
    repo.hub.fail("/cdn/*", Fault(status=404))
    with pytest.raises(HubNotFound):
        repo.pull()
    with repo.incomplete[0].open("r+b") as file:
        file.write(b"damage")
    assert repo.pull().path.read_bytes() == DATA


def test_a_rest_that_is_longer_than_the_file_is_thrown_away(repo: Place) -> None:
    blobs = repo.cache / "models--org--tiny-GGUF" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(DATA).hexdigest()}.incomplete").write_bytes(DATA + b"more")
    assert repo.pull().path.read_bytes() == DATA


def test_a_blob_without_a_name_is_checked_before_it_gets_one(repo: Place) -> None:
    blobs = repo.cache / "models--org--tiny-GGUF" / "blobs"
    blobs.mkdir(parents=True)
    blob = blobs / hashlib.sha256(DATA).hexdigest()
    blob.write_bytes(b"x" * len(DATA))
    assert repo.pull().path.read_bytes() == DATA
    for link in repo.snapshots:
        link.unlink()
    assert repo.pull().n_fetched_bytes == 0


def test_a_file_that_is_shorter_than_it_should_be_is_fetched_anew(repo: Place) -> None:
    path = repo.pull().path
    path.resolve().write_bytes(DATA[:1000])
    assert repo.pull().path.read_bytes() == DATA


@pytest.mark.parametrize("announces", [-1000, 1000])
def test_an_answer_of_another_length_than_announced_is_made_good(repo: Place, announces: int) -> None:
    repo.hub.fail("/cdn/*", Fault(announces=announces))
    assert repo.pull().path.read_bytes() == DATA


def test_what_a_server_sends_beyond_the_end_is_not_kept(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(more=1000))
    pulled = repo.pull()
    assert (pulled.path.read_bytes(), pulled.n_fetched_bytes) == (DATA, len(DATA))


def test_where_there_are_no_links_the_file_itself_has_the_name(repo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    pulled = repo.pull()
    assert not pulled.path.is_symlink() and pulled.path.read_bytes() == DATA
    assert repo.pull().n_fetched_bytes == 0


def test_a_server_that_fails_a_moment_is_asked_again(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(status=503), times=2)
    assert repo.pull().path.read_bytes() == DATA


def test_a_line_that_falls_silent_is_left_and_the_rest_asked_for(repo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    repo.hub.fail("/cdn/*", Fault(stall_after=500_000, wait_s=3))
    pulled = repo.pull()
    assert (pulled.path.read_bytes(), pulled.n_fetched_bytes) == (DATA, len(DATA))
    assert len(repo.hub.asked("/cdn/*")) == 2


def test_a_slow_line_is_not_given_up_while_bytes_come(repo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    repo.hub.fail("/cdn/*", Fault(bytes_s=1_000_000))
    assert repo.pull().path.read_bytes() == DATA
    assert len(repo.hub.asked("/cdn/*")) == 1


def test_a_server_that_wants_a_pause_gets_it(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(status=429, headers={"Retry-After": "1"}))
    assert repo.pull().path.read_bytes() == DATA
    assert repo.notes == [f"hf://{REPO}/tiny-Q4_K_M.gguf: too many requests (429). Trying again in 1 s."]


API = f"/api/models/{REPO}*"
RESOLVE = f"/{REPO}/resolve/*"


@pytest.mark.parametrize(
    ("path", "fault", "kind", "words"),
    [
        (API, Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), HubNotFound, "no org/tiny-GGUF on the hub"),
        (API, Fault(status=401, headers={"X-Error-Code": "RepoNotFound"}), HubNotFound, "or it is private"),
        (API, Fault(status=401), HubAccessDenied, "token is refused, or missing"),
        (API, Fault(status=403), HubAccessDenied, "access is denied"),
        (API, Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), HubAccessDenied, "gated"),
        (API, Fault(status=429), HubRateLimited, "too many requests"),
        (API, Fault(status=500), HubUnavailable, "the server failed .500."),
        (API, Fault(status=418), HubError, "answered 418"),
        (RESOLVE, Fault(status=404, headers={"X-Error-Code": "EntryNotFound"}), HubNotFound, "There is no hf://"),
        (RESOLVE, Fault(status=401, headers={"X-Error-Code": "GatedRepo"}), HubAccessDenied, "gated"),
        (RESOLVE, Fault(status=403), HubAccessDenied, "access is denied"),
        (RESOLVE, Fault(status=429, headers={"Retry-After": "900"}), HubRateLimited, "too many requests"),
        (RESOLVE, Fault(status=500), HubUnavailable, "the server failed"),
        ("/cdn/*", Fault(status=403), HubAccessDenied, "access is denied"),
    ],
)
def test_each_refusal_has_its_message(
    repo: Place, path: str, fault: Fault, kind: type[LocalLLMError], words: str
) -> None:
    repo.hub.fail(path, fault, times=None)
    with pytest.raises(kind, match=words) as caught:
        repo.pull()
    assert type(caught.value) is kind
    assert caught.value.hint
    assert repo.snapshots == []


def test_the_hint_says_how_to_get_in(repo: Place) -> None:
    repo.hub.repos[REPO].is_gated = True
    with pytest.raises(HubAccessDenied) as caught:
        repo.pull()
    assert "hf auth login" in str(caught.value.hint) and "HF_TOKEN" in str(caught.value.hint)


def test_the_hint_says_how_long_to_wait(repo: Place) -> None:
    repo.hub.fail(API, Fault(status=429, headers={"RateLimit": '"api";r=0;t=123'}))
    with pytest.raises(HubRateLimited) as caught:
        repo.pull()
    assert caught.value.retry_after_s == 123 and "123 s" in str(caught.value.hint)


def test_a_token_opens_a_gated_repository_and_is_not_sent_to_the_cdn(
    repo: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    repo.hub.repos[REPO].is_gated = True
    assert repo.pull().path.read_bytes() == DATA
    assert all("authorization" in headers for headers in repo.hub.asked(RESOLVE))
    assert not any("authorization" in headers for headers in repo.hub.asked("/cdn/*"))


def test_an_unknown_revision_and_file_and_quantization_say_what_there_is(repo: Place) -> None:
    with pytest.raises(HubNotFound, match="no such revision"):
        repo.pull(RepoRef(REPO, revision="v9"))
    with pytest.raises(HubNotFound, match=r"Did you mean tiny-Q8_0\.gguf"):
        repo.pull(RepoRef(REPO, file="tiny-Q8_1.gguf"))
    with pytest.raises(HubNotFound, match=r"has no Q8_1\. Did you mean Q8_0"):
        repo.pull(RepoRef(REPO, "Q8_1"))


def test_a_disk_without_room_is_known_before_anything_comes(repo: Place) -> None:
    content = repo.hub.repos[REPO].files["tiny-Q4_K_M.gguf"]
    content.n_bytes = 1 << 60
    with pytest.raises(NotEnoughDisk, match="the disk has"):
        repo.pull()
    assert repo.hub.asked("/cdn/*") == []


def test_a_hub_that_is_not_there_is_one_clear_error(place: Place) -> None:
    options = PullOptions("http://127.0.0.1:9", place.cache, patience=QUICK)
    with pytest.raises(HubUnavailable, match="no connection"):
        pull_repo(RepoRef(REPO), options)


def test_without_a_hub_what_is_on_the_disk_serves(repo: Place) -> None:
    path = repo.pull().path
    repo.hub.fail("/api/*", Fault(status=500), times=None)
    assert repo.pull().path == path
    assert "The copy on this disk is used" in repo.notes[0]
    with pytest.raises(HubUnavailable):
        repo.pull(RepoRef(REPO, "Q8_0"))


@pytest.mark.parametrize("name", ["../../evil.gguf", "/etc/evil.gguf", "a/../evil.gguf", "a\\evil.gguf", "a\x1b.gguf"])
def test_names_that_lead_out_of_the_cache_are_refused(place: Place, name: str) -> None:
    place.hub.add(REPO, {name: DATA})
    with pytest.raises(HubError, match="not safe"):
        place.pull()
    assert not place.cache.exists()


def test_a_page_in_between_is_called_no_hub(repo: Place) -> None:
    repo.hub.plain["login.gguf"] = repo.hub.repos[REPO].files["tiny-Q8_0.gguf"]
    options = PullOptions(f"{repo.hub.endpoint}/files/login.gguf?", repo.cache, patience=QUICK)
    with pytest.raises(HubError, match="not one of the hub's API"):
        pull_repo(RepoRef(REPO), options)


def test_two_threads_that_want_the_same_file_fetch_it_once(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(bytes_s=4_000_000))
    threads = [threading.Thread(target=repo.pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert repo.hub.n_sent_bytes == len(DATA)
    assert repo.notes == ["Another process fetches tiny-Q4_K_M.gguf; waiting for it."]


def test_progress_ends_at_the_whole_and_never_goes_beyond(repo: Place) -> None:
    repo.hub.fail("/cdn/*", Fault(drop_after=700_000))
    seen: list[PullProgress] = []
    pull_repo(RepoRef(REPO), PullOptions(repo.hub.endpoint, repo.cache, on_progress=seen.append, patience=QUICK))
    assert seen[-1].n_done_bytes == seen[-1].n_total_bytes == len(DATA)
    assert [one.n_done_bytes for one in seen] == sorted(one.n_done_bytes for one in seen)


def test_what_cannot_be_fetched_is_said(place: Place) -> None:
    with pytest.raises(RequestError, match="not fetched"):
        pull(FileRef(Path("x.gguf")))
    with pytest.raises(ModelNotFound, match="nothing-is-called-so"):
        pull(NameRef("nothing-is-called-so"))
    with pytest.raises(RequestError):
        pull(parse_ref("bad--name/--x.."), place.options)


def test_a_tag_and_a_commit_are_revisions(repo: Place) -> None:
    found = repo.hub.repos[REPO]
    found.revisions.add("v1")
    repo.pull(RepoRef(REPO, revision="v1"))
    folder = repo.cache / "models--org--tiny-GGUF"
    assert (folder / "refs" / "v1").read_text() == found.commit
    assert repo.pull(RepoRef(REPO, revision=found.commit)).n_fetched_bytes == 0
    assert not (folder / "refs" / found.commit).exists()
    assert [path.name for path in (folder / "refs").iterdir()] == ["v1"]
