"""What each place has, read as its own program leaves it, and what is not taken for a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from localllm.errors import RequestError
from localllm.store.huggingface_cache import cache_folder, cached_models
from localllm.store.inventory import Inventory
from localllm.store.lm_studio import lm_studio_folders, lm_studio_models
from localllm.store.models import Place, StoredModel, disk_bytes
from localllm.store.ollama import ollama_folders, ollama_models
from localllm.store.own_folder import folder_models, own_models
from localllm.store.scan import MAX_DEPTH
from tests.store.layouts import COMMIT_A, COMMIT_B, HubCache, Ollama, sha256, tiny_gguf, write_file

needs_rights = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="the user may read everything"
)  # fmt: skip


def first_names(models: Iterable[StoredModel]) -> list[str]:
    return [model.names[0] for model in models]


def test_hub_cache_gives_the_names_of_repositories_and_digests(hub: HubCache) -> None:
    data = tiny_gguf(1)
    link = hub.add("org/repo", "x-Q4_K_M.gguf", data)
    (model,) = cached_models(hub.root)
    assert model.names[:3] == ("org/repo:Q4_K_M", "hf://org/repo/x-Q4_K_M.gguf", "org/repo")
    assert (model.path, model.n_bytes, model.files[0].sha256) == (link, len(data), sha256(data))
    assert (model.place, model.quantization) == (Place.HUGGING_FACE, "Q4_K_M")


def test_other_files_of_a_cache_are_no_models(hub: HubCache) -> None:
    hub.add("org/repo", "mmproj-x-F16.gguf", tiny_gguf(1))
    hub.add("org/repo", "x.imatrix.gguf", tiny_gguf(2))
    hub.add("org/repo", "README.md", b"# x")
    write_file(hub.root / "datasets--org--d" / "snapshots" / COMMIT_A / "x.gguf")
    write_file(hub.root / "version.txt", b"1")
    assert list(cached_models(hub.root)) == []


def test_half_a_download_is_no_model(hub: HubCache) -> None:
    link = hub.add("org/repo", "x-Q8_0.gguf", tiny_gguf(1))
    blob = link.resolve()
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    assert list(cached_models(hub.root)) == []
    link.unlink()
    link.symlink_to(blob.with_name(f"{blob.name}.incomplete"))
    assert list(cached_models(hub.root)) == []


def test_newest_commit_of_a_branch_has_the_plain_name_and_an_older_one_its_commit(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_A)
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(2), COMMIT_B)
    new, old = cached_models(hub.root)
    assert new.names[0] == "org/repo:Q4_0" and COMMIT_B in str(new.path)
    assert old.names[0] == f"org/repo@{COMMIT_A[:12]}:Q4_0" and COMMIT_A in str(old.path)
    assert f"org/repo@{COMMIT_A}:Q4_0" in old.names


def test_revisions_that_share_a_blob_are_one_model(hub: HubCache) -> None:
    data = tiny_gguf(1)
    hub.add("org/repo", "x-Q4_0.gguf", data, COMMIT_A, "refs/pr/1")
    hub.add("org/repo", "x-Q4_0.gguf", data, COMMIT_B)
    assert first_names(cached_models(hub.root)) == ["org/repo:Q4_0"]


def test_file_of_the_default_branch_has_its_name_although_another_branch_is_newer(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_A)
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_B, "dev")
    os.utime(hub.repo("org/repo") / "snapshots" / COMMIT_A, (1, 1))
    assert first_names(cached_models(hub.root)) == ["org/repo:Q4_0"]


def test_two_names_of_one_blob_are_two_models_that_take_its_room_once(hub: HubCache) -> None:
    data = tiny_gguf(1)
    hub.add("org/repo", "a-Q4_0.gguf", data)
    hub.add("org/repo", "b-Q8_0.gguf", data)
    models = list(cached_models(hub.root))
    assert len(models) == 2
    assert disk_bytes(file for model in models for file in model.files) == len(data)


def test_split_model_is_one_and_without_all_its_parts_none(hub: HubCache) -> None:
    for index in (1, 2, 3):
        hub.add("org/repo", f"Q8_0/x-Q8_0-{index:05d}-of-00003.gguf", tiny_gguf(index))
    (model,) = cached_models(hub.root)
    assert model.names[0] == "org/repo:Q8_0"
    assert [file.path.name[-19:-14] for file in model.files] == ["00001", "00002", "00003"]
    model.files[1].path.resolve().unlink()
    assert list(cached_models(hub.root)) == []


def test_cache_without_links_is_read_too(hub: HubCache) -> None:
    write_file(hub.repo("org/repo") / "snapshots" / COMMIT_A / "x-Q4_0.gguf")
    hub.set_ref("org/repo", "main", COMMIT_A)
    (model,) = cached_models(hub.root)
    assert (model.names[0], model.files[0].sha256) == ("org/repo:Q4_0", None)


@pytest.mark.parametrize("ref", [b"", b"\xff\xfe", b"../../etc", COMMIT_A.encode() + b"\n"])
def test_odd_references_harm_nothing(ref: bytes, hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), ref=None)
    write_file(hub.repo("org/repo") / "refs" / "main", ref)
    assert len(list(cached_models(hub.root))) == 1


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "/x/hf"},
        {"HF_HUB_CACHE": "/x/hub", "HF_HOME": "/x/hf"},
        {"HUGGINGFACE_HUB_CACHE": "/x/old"},
        {"XDG_CACHE_HOME": "/x/cache"},
        {"HF_HOME": "~/hf"},
        {"HF_HUB_CACHE": "$HOME/of-a-variable"},
    ],
)
def test_cache_lies_where_the_hubs_own_client_has_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert str(cache_folder()) == theirs.stdout.strip()


def test_ollama_model_is_the_blob_of_its_model_layer(ollama: Ollama) -> None:
    data = tiny_gguf(1)
    ollama.add("llama3.2", "1b", data, more={"template": b"{{ .Prompt }}", "params": b"{}", "license": b"MIT"})
    (model,) = ollama_models(ollama.root)
    assert model.names == ("llama3.2:1b", "llama3.2")
    assert (model.path, model.files[0].sha256) == (ollama.blob(data), sha256(data))


def test_ollama_names_say_namespace_and_host_where_they_are_not_its_own(ollama: Ollama) -> None:
    ollama.add("m", "latest", tiny_gguf(1), namespace="me")
    ollama.add("m", "q4", tiny_gguf(2), host="registry.example.org", namespace="me")
    ollama.add("repo-GGUF", "Q4_K_M", tiny_gguf(3), host="hf.co", namespace="org")
    assert set(first_names(ollama_models(ollama.root))) == {
        "me/m:latest",
        "registry.example.org/me/m:q4",
        "org/repo-GGUF:Q4_K_M",
    }


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"layers": 3}',
        b'{"layers": [3]}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}]}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:' + b"0" * 64 + b'"}]}',
        b'{"layers": []}',
    ],
)
def test_broken_manifest_is_left_out_and_harms_no_other(manifest: bytes, ollama: Ollama) -> None:
    ollama.add("good", "latest", tiny_gguf(1))
    write_file(ollama.manifest("bad", "latest"), manifest)
    write_file(ollama.root / "manifests" / "stray.txt", b"x")
    assert first_names(ollama_models(ollama.root)) == ["good:latest"]


def test_ollama_folder_is_its_variables_or_the_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ollama_folders() == [home / "ollama"]
    monkeypatch.setenv("OLLAMA_MODELS", f' "{home}/quoted" ')
    assert ollama_folders() == [home / "quoted"]
    monkeypatch.delenv("OLLAMA_MODELS")
    assert ollama_folders()[0] == Path.home() / ".ollama" / "models"


def test_lm_studio_gives_publisher_and_repository(lm_studio: Path) -> None:
    write_file(lm_studio / "org" / "repo-GGUF" / "x-Q5_K_M.gguf")
    write_file(lm_studio / "loose-Q4_0.gguf")
    loose, filed = lm_studio_models(lm_studio)
    assert filed.names[:2] == ("org/repo-GGUF:Q5_K_M", "hf://org/repo-GGUF/x-Q5_K_M.gguf")
    assert loose.names[0] == "loose-Q4_0"


def test_lm_studio_folders_are_the_chosen_the_newer_and_the_older(lm_studio: Path) -> None:
    user = lm_studio.parents[1]
    write_file(user / ".lmstudio" / "settings.json", json.dumps({"downloadsFolder": "/big/disk"}).encode())
    write_file(user / ".lmstudio-home-pointer", b"/elsewhere/lmstudio\n")
    assert lm_studio_folders() == [
        Path("/elsewhere/lmstudio/models"),
        Path("/big/disk"),
        lm_studio,
        user / ".cache" / "lm-studio" / "models",
    ]


@pytest.mark.parametrize("settings", [b"{", b"[]", b'{"downloadsFolder": 3}', b'{"downloadsFolder": "a\\u0000b"}'])
def test_odd_settings_of_lm_studio_are_passed_over(settings: bytes, lm_studio: Path) -> None:
    write_file(lm_studio.parent / "settings.json", settings)
    assert lm_studio_folders()[0] == lm_studio


def test_own_model_answers_to_its_file_its_base_and_its_url(own: Path) -> None:
    path = write_file(own / "qwen-7b.Q4_K_M.gguf")
    note = {"url": "https://example.org/q.gguf", "sha256": "0" * 64}
    write_file(own / "qwen-7b.Q4_K_M.gguf.json", json.dumps(note).encode())
    (model,) = own_models(own)
    assert model.names[:3] == ("qwen-7b.Q4_K_M", "qwen-7b:Q4_K_M", "qwen-7b")
    assert "https://example.org/q.gguf" in model.names
    assert (model.path, model.files[0].sha256) == (path, "0" * 64)


@pytest.mark.parametrize("note", [b"", b"[1]", b'{"sha256": 3, "url": []}', b'{"sha256": "../x"}', b"\xff"])
def test_odd_note_is_as_good_as_none(note: bytes, own: Path) -> None:
    write_file(own / "m.gguf")
    write_file(own / "m.gguf.json", note)
    (model,) = own_models(own)
    assert model.files[0].sha256 is None and model.names[0] == "m"


def test_hidden_empty_and_partial_files_are_no_models(own: Path) -> None:
    for name in ("._m.gguf", ".m.gguf.12.partial", "m.gguf.part"):
        write_file(own / name)
    write_file(own / "empty.gguf", b"")
    (own / "folder.gguf").mkdir()
    (own / "gone.gguf").symlink_to(own / "nothing")
    assert list(own_models(own)) == []


def test_pipe_called_like_a_model_is_none(own: Path) -> None:
    own.mkdir(parents=True)
    os.mkfifo(own / "m.gguf")
    assert list(own_models(own)) == []


def test_links_in_circles_end(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "m.gguf")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    assert first_names(folder_models(tmp_path)) == ["m"]


def test_folders_are_searched_to_a_depth(tmp_path: Path) -> None:
    write_file(tmp_path.joinpath(*"d" * MAX_DEPTH, "in.gguf"))
    write_file(tmp_path.joinpath(*"d" * (MAX_DEPTH + 1), "out.gguf"))
    assert first_names(folder_models(tmp_path)) == ["in"]


def test_huge_folder_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.store.scan.MAX_ENTRIES", 10)
    for i in range(30):
        write_file(tmp_path / f"m{i:02d}.gguf")
    assert len(list(folder_models(tmp_path))) == 10


def test_file_that_vanishes_while_listed_is_left_out(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(own / "a.gguf")
    doomed = write_file(own / "b.gguf")
    real = os.scandir

    def scandir(path: Path) -> object:
        found = real(path)
        doomed.unlink(missing_ok=True)
        return found

    monkeypatch.setattr("os.scandir", scandir)
    assert first_names(own_models(own)) == ["a"]


@needs_rights
def test_folder_that_may_not_be_read_is_empty(own: Path) -> None:
    write_file(own / "closed" / "m.gguf")
    (own / "closed").chmod(0)
    try:
        assert list(own_models(own)) == []
    finally:
        (own / "closed").chmod(0o700)


@pytest.mark.parametrize("name", ["ünï cödé.gguf", "a b.gguf", "\x1b[2J.gguf", "-rf.gguf", "x\ny.gguf", "@lab.gguf"])
def test_odd_names_are_found_again_by_their_reference(name: str, own: Path, no_demo: None) -> None:
    path = write_file(own / name)
    inventory = Inventory(())
    (model,) = inventory.models
    assert [found.path for found in inventory.find(inventory.ref(model))] == [path]


def test_name_that_is_no_text_is_found_again_by_its_path(own: Path, no_demo: None) -> None:
    own.mkdir(parents=True)
    with open(os.fsencode(own) + b"/\xff\xfe.gguf", "wb") as file:
        file.write(tiny_gguf())
    (model,) = Inventory(()).models
    assert model.n_bytes == len(tiny_gguf())


def test_places_that_are_files_or_not_there_are_empty(home: Path, no_demo: None) -> None:
    write_file(home / "ollama", b"x")
    write_file(home / "huggingface", b"x")
    assert Inventory((home / "nowhere", home / "ollama")).models == []


def test_model_dirs_come_from_the_settings(home: Path, monkeypatch: pytest.MonkeyPatch, no_demo: None) -> None:
    write_file(home / "one" / "a.gguf")
    write_file(home / "two" / "b.gguf")
    monkeypatch.setenv("LOCALLLM_MODEL_DIRS", os.pathsep.join([str(home / "one"), str(home / "two")]))
    assert first_names(Inventory().models) == ["a", "b"]
    monkeypatch.delenv("LOCALLLM_MODEL_DIRS")
    write_file(home / "config" / "config.toml", f"model_dirs = ['{home / 'two'}']".encode())
    assert first_names(Inventory().models) == ["b"]
    write_file(home / "config" / "config.toml", b"model_dirs = 3")
    with pytest.raises(RequestError, match="model_dirs"):
        _ = Inventory().models
