"""Which model a name means, in which order, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.errors import ModelNotFound
from localllm.hub.refs import NameRef, RepoRef
from localllm.store import knows, resolve
from localllm.store.inventory import Inventory
from localllm.store.names import own_name, shown_name
from tests.store.layouts import COMMIT_A, COMMIT_B, HubCache, Ollama, tiny_gguf, write_file


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "ref",
    [
        "org/repo",
        "org/repo:Q4_K_M",
        "ORG/Repo:q4_k_m",
        "org/repo@main:Q4_K_M",
        "org/repo:x-Q4_K_M.gguf",
        "hf://org/repo/x-Q4_K_M.gguf",
        "hf.co/org/repo:Q4_K_M",
        "https://huggingface.co/org/repo",
        "https://huggingface.co/org/repo/resolve/main/x-Q4_K_M.gguf?download=true",
        f"org/repo@{COMMIT_A}",
    ],
)
def test_every_form_of_a_repository_finds_its_file(ref: str, hub: HubCache) -> None:
    link = hub.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(1))
    assert resolve(ref) == link


def test_a_repository_without_quantization_is_the_preferred_one(hub: HubCache) -> None:
    for tag in ("Q2_K", "Q8_0", "Q4_K_M", "F16"):
        hub.add("org/repo", f"x-{tag}.gguf", tiny_gguf(len(tag)))
    assert resolve("org/repo").name == "x-Q4_K_M.gguf"
    assert resolve("org/repo:f16").name == "x-F16.gguf"


def test_revision_finds_its_own_commit(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1), COMMIT_A, "v1")
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(2), COMMIT_B)
    assert COMMIT_A in str(resolve("org/repo@v1:Q4_0"))
    assert COMMIT_B in str(resolve("org/repo:Q4_0"))


def test_ollama_name_finds_the_tag_and_alone_the_latest(ollama: Ollama) -> None:
    ollama.add("llama3.2", "1b", tiny_gguf(1))
    ollama.add("llama3.2", "latest", tiny_gguf(2))
    assert resolve("llama3.2:1b") == ollama.blob(tiny_gguf(1))
    assert resolve("llama3.2") == ollama.blob(tiny_gguf(2))
    assert resolve("LLAMA3.2:1B") == ollama.blob(tiny_gguf(1))


def test_lm_studio_answers_to_publisher_and_repository(lm_studio: Path) -> None:
    path = write_file(lm_studio / "org" / "repo" / "x-Q4_0.gguf")
    assert resolve("org/repo") == resolve("org/repo:Q4_0") == path


def test_places_are_asked_in_their_order(
    hub: HubCache, ollama: Ollama, own: Path, lm_studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_lm_studio = write_file(lm_studio / "org" / "m" / "m-Q4_0.gguf")
    assert resolve("m-Q4_0") == in_lm_studio
    ollama.add("m-Q4_0", "latest", tiny_gguf(1))
    assert resolve("m-Q4_0") == ollama.blob(tiny_gguf(1))
    cached = hub.add("org/m", "m-Q4_0.gguf", tiny_gguf(2))
    assert resolve("org/m:Q4_0") == cached
    monkeypatch.setenv("LOCALLLM_MODEL_DIRS", str(tmp_path / "more"))
    in_folder = write_file(tmp_path / "more" / "m-Q4_0.gguf")
    assert resolve("m-Q4_0") == in_folder
    in_own = write_file(own / "m-Q4_0.gguf")
    assert resolve("m-Q4_0") == resolve("m:Q4_0") == resolve("m") == in_own
    here = write_file(tmp_path / "m-Q4_0")
    assert resolve("m-Q4_0") == here


def test_catalog_goes_after_our_own_names_and_before_those_of_others(
    hub: HubCache, ollama: Ollama, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {NameRef("m"): RepoRef("org/repo", "Q4_K_M")}
    monkeypatch.setattr("localllm.store.catalog_names.catalog_ref", entries.get)
    with pytest.raises(ModelNotFound, match="m is not on this disk") as caught:
        resolve("m")
    assert caught.value.hint == "Fetch it: localllm pull m" and not knows("m")
    ollama.add("m", "latest", tiny_gguf(1))
    assert resolve("m") == ollama.blob(tiny_gguf(1))
    link = hub.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(2))
    assert resolve("m") == link and knows("m")
    path = write_file(own / "m.gguf")
    assert resolve("m") == path


def test_a_name_of_the_catalog_that_is_not_here_is_not_offered_in_its_own_place(own: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("qwen3-8b")
    assert (caught.value.message, caught.value.hint) == (
        "qwen3-8b is not on this disk.",
        "Fetch it: localllm pull qwen3-8b",
    )
    with pytest.raises(ModelNotFound, match="Did you mean qwen3-8b"):
        resolve("qwn3-8b")


def test_download_is_found_by_its_address(own: Path) -> None:
    path = write_file(own / "m.gguf")
    write_file(own / "m.gguf.json", b'{"url": "https://example.org/m.gguf"}')
    assert resolve("https://example.org/m.gguf") == resolve("https://example.org/m.gguf?key=secret") == path


def test_names_that_differ_in_case_alone_are_told_apart(own: Path) -> None:
    upper, lower = write_file(own / "Model.gguf"), write_file(own / "model.gguf")
    assert (resolve("Model"), resolve("model")) == (upper, lower)
    assert resolve("MODEL") in (upper, lower)


def test_every_reference_of_a_list_finds_its_own_model(
    hub: HubCache, ollama: Ollama, own: Path, lm_studio: Path, no_demo: None
) -> None:
    for name in ("a/x-Q4_0.gguf", "b/x-Q4_0.gguf", "x-Q8_0.gguf", "X-q8_0.gguf"):
        write_file(own / name)
        hub.add("org/x", name, tiny_gguf(len(name)))
        write_file(lm_studio / "org" / "x" / name)
    ollama.add("x", "q8_0", tiny_gguf(9))
    ollama.add("x", "Q8_0", tiny_gguf(10), host="hf.co", namespace="org")
    inventory = Inventory(())
    refs = [inventory.ref(model) for model in inventory.models]
    assert len(refs) == len(set(refs)) == 14
    assert [resolve(ref) for ref in refs] == [model.path for model in inventory.models]


def test_folder_of_a_models_name_does_not_hide_it(own: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    path = write_file(own / "m.gguf")
    assert resolve("m") == path


def test_file_of_our_own_is_found_by_its_whole_name(own: Path) -> None:
    path = write_file(own / "m-Q4_0.gguf")
    assert resolve("m-Q4_0.gguf") == path


@pytest.mark.parametrize(
    ("ref", "near"),
    [("org/rebo:Q4_K_M", "org/repo:Q4_K_M"), ("lama3.2:1b", "llama3.2:1b"), ("my-modell", "my-model")],
)
def test_misspelt_name_gets_the_nearest_of_all_places(
    ref: str, near: str, hub: HubCache, ollama: Ollama, own: Path
) -> None:
    hub.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(1))
    ollama.add("llama3.2", "1b", tiny_gguf(2))
    write_file(own / "my-model.gguf")
    with pytest.raises(ModelNotFound) as caught:
        resolve(ref)
    assert f"Did you mean {near}?" in caught.value.message


@pytest.mark.parametrize("ref", ["org/repo", "org/repo:Q4_K_M", "hf://org/repo/x.gguf", "https://example.org/x.gguf"])
def test_what_can_be_fetched_comes_with_the_command(ref: str) -> None:
    with pytest.raises(ModelNotFound, match="is not on this disk") as caught:
        resolve(ref)
    assert caught.value.hint == f"Fetch it: localllm pull {ref}"


def test_remote_engine_is_no_model_of_this_disk() -> None:
    with pytest.raises(ModelNotFound, match="@lab is an engine elsewhere"):
        resolve("@lab")


def test_control_characters_of_a_name_reach_no_message() -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("\x1b[2Jx")
    assert "\x1b" not in caught.value.message


def test_path_is_found_without_looking_at_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.store.inventory.Inventory", None)
    path = write_file(tmp_path / "m.gguf")
    assert resolve(str(path)) == path


def test_digest_is_no_name_and_its_beginning_is_shown() -> None:
    blob = Path("/x") / f"sha256-{'ab' * 32}"
    assert (own_name(blob), shown_name(blob)) == (None, "sha256-abababababab…")
    assert (own_name(Path("/x/m-Q4_0.gguf")), shown_name(Path("/x/m-Q4_0.gguf"))) == ("m-Q4_0", "m-Q4_0.gguf")
