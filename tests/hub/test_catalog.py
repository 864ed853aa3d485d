"""The shipped catalog against what was recorded of the hub, and a user's own over it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from localllm import paths
from localllm.errors import ModelNotFound, RequestError
from localllm.hub.catalog import SHIPPED, Catalog, load_catalog, repo_ref, shipped_catalog
from localllm.hub.catalog_entry import KINDS, CatalogEntry
from localllm.hub.file_names import quantization_of
from localllm.hub.refs import NameRef, RepoRef, parse_ref

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENTRIES = shipped_catalog().entries
SOURCES: dict[str, list[str]] = json.loads((HERE / "catalog_sources.json").read_text(encoding="utf-8"))

BITS = {
    **{"Q2_K": 3.0, "Q3_K_M": 3.9, "IQ4_XS": 4.3, "Q4_0": 4.6, "Q4_K_S": 4.6, "Q4_K_M": 4.9, "MXFP4": 4.6},
    **{"Q5_0": 5.5, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5, "F16": 16.0, "BF16": 16.0},
}
"""Bits per weight of a whole file, about: llama.cpp keeps some tensors of a mix in larger types."""

TWICE = {"qwen2.5-coder-1.5b": 1_780_000_000}
"""Parameters of files that hold the embedding twice, by their headers."""

MAX_VOCABULARY = 300_000

HYBRIDS = ("qwen3.5-", "qwen3.6-")
"""Models with attention in every fourth layer."""


@pytest.fixture
def own(home: Path) -> Path:
    """Where the user's models.toml goes."""
    return paths.ensure(paths.config_dir()) / "models.toml"


def every_entry() -> Any:
    return pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


@every_entry()
def test_entry_agrees_with_the_recorded_listing_of_its_repository(entry: CatalogEntry) -> None:
    recorded = json.loads((HERE / "recorded" / f"{entry.repo.replace('/', '--')}.json").read_text(encoding="utf-8"))
    assert recorded["repo"] == entry.repo and recorded["source"]
    listed = {file["path"]: file for file in recorded["files"]}
    assert entry.tags, "an entry without files is not worth its line"
    for tag in entry.tags:
        for file in entry.files(tag):
            assert file.path in listed
            assert quantization_of(file.path) == tag
            unit = 1 << {"GiB": 30, "MiB": 20}[listed[file.path]["size"].split()[1]]
            assert abs(file.n_bytes - float(listed[file.path]["size"].split()[0]) * unit) <= 0.0501 * unit
            assert file.is_exact == ("size_bytes" in listed[file.path])
            assert not file.is_exact or file.n_bytes == listed[file.path]["size_bytes"]
    tag = recorded["license"]
    assert tag is None or (entry.license or "").lower().replace(" community", "").replace(" ", "") == tag


@every_entry()
def test_every_entry_has_sources(entry: CatalogEntry) -> None:
    assert len(SOURCES[entry.name]) >= 2 and all(len(source) > 20 for source in SOURCES[entry.name])
    is_said = " ".join(SOURCES[entry.name])
    assert entry.sampling.temperature is None or "sampling" in is_said
    assert entry.n_params is None or "parameters" in is_said


def test_no_source_is_of_an_entry_that_is_gone() -> None:
    assert set(SOURCES) == set(ENTRIES)
    recorded = {path.stem.replace("--", "/", 1) for path in (HERE / "recorded").glob("*.json")}
    assert recorded == {entry.repo for entry in ENTRIES.values()}


@every_entry()
def test_size_of_each_file_fits_the_parameters(entry: CatalogEntry) -> None:
    assert entry.n_params is not None
    n_params = TWICE.get(entry.name, entry.n_params)
    # In small models the vocabulary weighs more. Rows that are no multiple of 256 take types of 4 bits and more.
    above = 1.45 if n_params < 1.2e9 else 1.25
    has_odd_rows = bool(entry.n_embd and entry.n_embd % 256)
    for tag in (tag for tag in entry.tags if not has_odd_rows or BITS[tag] > 4):
        n_bits = (entry.n_bytes(tag) or 0) * 8 / n_params
        assert 0.75 * BITS[tag] <= n_bits <= above * BITS[tag], f"{tag}: {n_bits:.2f} bits for each parameter"


@every_entry()
def test_parameters_fit_the_shape(entry: CatalogEntry) -> None:
    shape = (entry.n_layers, entry.n_heads, entry.n_kv_heads, entry.head_dim, entry.n_embd, entry.n_params)
    if None in shape:
        pytest.skip("its shape is not known in full")
    n_layers, n_heads, n_kv_heads, head_dim, n_embd, n_params = (value or 0 for value in shape)
    attention = n_embd * head_dim * 2 * (n_heads + n_kv_heads)
    attends = 0.25 if entry.name.startswith(HYBRIDS) else 1.0
    assert n_params > n_layers * (attends * attention + 3 * n_embd**2)
    widest = n_layers * (attention + 3 * 8 * n_embd**2) + 2 * MAX_VOCABULARY * n_embd
    assert (entry.n_active_params or n_params) < widest
    assert n_heads * head_dim >= n_embd * 0.5, "heads are about as wide as the model, or wider"


def test_names_are_what_people_can_type() -> None:
    for name in ENTRIES:
        assert parse_ref(name) == NameRef(name)
        assert parse_ref(f"{name}:Q4_K_M") == NameRef(name, "Q4_K_M")


def test_catalog_covers_what_the_issue_asks_for() -> None:
    kinds = [entry.kind for entry in ENTRIES.values()]
    assert len(kinds) >= 30 and set(kinds) == set(KINDS)
    n_params = [entry.n_params or 0 for entry in ENTRIES.values() if entry.kind == "chat"]
    assert min(n_params) < 2e8 and max(n_params) > 6e10


def test_kinds_come_in_order_and_small_models_first() -> None:
    places = [(KINDS.index(entry.kind), entry.n_params or 0) for entry in ENTRIES.values()]
    assert places == sorted(places)


def test_demo_model_is_an_entry() -> None:
    entry = ENTRIES["smollm2"]
    assert (entry.n_layers, entry.n_heads, entry.n_kv_heads, entry.head_dim, entry.n_ctx) == (30, 9, 3, 64, 8192)


def test_catalog_is_a_resource_of_the_package_and_at_the_top_of_the_checkout() -> None:
    assert (files("localllm.hub") / "models.toml").is_file()
    assert (ROOT / "models.toml").resolve() == SHIPPED.resolve()
    assert SHIPPED.is_relative_to(ROOT / "localllm"), "hatch packs the folder localllm"


def test_wheel_holds_the_catalog(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("localllm/hub/models.toml") == SHIPPED.read_bytes()


def test_asking_for_a_file_reads_no_catalog() -> None:
    code = "import sys; import localllm.hub, localllm.store; print('localllm.hub.catalog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_name_is_found_however_it_is_capitalized() -> None:
    assert load_catalog().find("Qwen3-8B").name == "qwen3-8b"


def test_unknown_name_is_told_with_names_like_it() -> None:
    with pytest.raises(ModelNotFound) as caught:
        load_catalog().find("qwen3-8")
    assert caught.value.message.startswith("The catalog has no qwen3-8. Did you mean qwen3-8b or ")
    assert caught.value.hint == "See what there is: localllm catalog"


@pytest.mark.parametrize(
    ("name", "tag", "near"),
    [("llama3.2", "3b", "llama-3.2-3b"), ("gemma3", "4B", "gemma-3-4b"), ("qwen3.5:9b", None, "qwen3.5-9b")],
)
def test_names_of_other_programs_are_told_as_ours(name: str, tag: str | None, near: str) -> None:
    with pytest.raises(ModelNotFound, match=f"Did you mean {near} or "):
        load_catalog().find(name, tag)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("qwen3-8b", RepoRef("Qwen/Qwen3-8B-GGUF", file="Qwen3-8B-Q4_K_M.gguf")),
        ("qwen3-8b:q8_0", RepoRef("Qwen/Qwen3-8B-GGUF", file="Qwen3-8B-Q8_0.gguf")),
        ("gpt-oss-20b", RepoRef("ggml-org/gpt-oss-20b-GGUF", file="gpt-oss-20b-MXFP4.gguf")),
        (
            "llama-3.3-70b:Q6_K",
            RepoRef(
                "bartowski/Llama-3.3-70B-Instruct-GGUF",
                file="Llama-3.3-70B-Instruct-Q6_K/Llama-3.3-70B-Instruct-Q6_K-00001-of-00002.gguf",
            ),
        ),
    ],
)
def test_name_stands_for_a_file_of_a_repository(text: str, meant: RepoRef) -> None:
    ref = parse_ref(text)
    assert isinstance(ref, NameRef)
    assert repo_ref(ref) == meant
    on_disk = meant if ref.tag else RepoRef(meant.repo)
    assert repo_ref(ref, is_any_quantization=True) == on_disk


def test_quantization_that_is_not_listed_is_refused() -> None:
    # The repository has a file of that quantization, which only drafts for the model.
    with pytest.raises(ModelNotFound, match="has gpt-oss-20b as MXFP4, not as Q8_0"):
        repo_ref(NameRef("gpt-oss-20b", "Q8_0"))


def test_own_model_is_added(own: Path) -> None:
    own.write_text("[mine]\nrepo = 'me/mine-GGUF'\nkind = 'chat'\n", encoding="utf-8")
    catalog = load_catalog()
    assert not catalog.problems
    assert {**catalog.entries}.keys() - ENTRIES.keys() == {"mine"}
    assert repo_ref(NameRef("mine")) == RepoRef("me/mine-GGUF")
    assert repo_ref(NameRef("mine", "Q4_K_M")) == RepoRef("me/mine-GGUF", "Q4_K_M")


def test_own_fields_go_over_the_shipped_ones_one_by_one(own: Path) -> None:
    own.write_text(
        "[qwen3-8b]\nn_ctx = 131072\nsampling.temperature = 0.1\n"
        "[qwen3-8b.files]\nQ3_K_M = { path = 'a-Q3_K_M.gguf', size_bytes = 4_000_000_000 }\n",
        encoding="utf-8",
    )
    was, now = ENTRIES["qwen3-8b"], load_catalog().find("qwen3-8b")
    assert (now.n_ctx, now.n_layers, now.repo, now.title) == (131072, was.n_layers, was.repo, was.title)
    assert (now.sampling.temperature, now.sampling.top_k) == (0.1, was.sampling.top_k)
    assert set(now.tags) == {*was.tags, "Q3_K_M"} and now.files("Q8_0") == was.files("Q8_0")


def test_another_repository_has_other_files(own: Path) -> None:
    own.write_text("[qwen3-8b]\nrepo = 'me/other-GGUF'\n", encoding="utf-8")
    entry = load_catalog().find("qwen3-8b")
    assert (entry.tags, entry.n_layers) == ((), 36)
    assert repo_ref(NameRef("qwen3-8b", "Q8_0")) == RepoRef("me/other-GGUF", "Q8_0")


def test_broken_entry_is_an_error_when_it_is_asked_for_and_the_others_serve(own: Path) -> None:
    own.write_text("[qwen3-8b]\nn_ctx = -1\n[mine]\nrepo = 'me/x'\nkind = 'code'\n", encoding="utf-8")
    catalog = load_catalog()
    with pytest.raises(RequestError, match=r"line 2: qwen3-8b: n_ctx is -1"):
        catalog.find("qwen3-8b")
    assert "qwen3-8b" not in catalog.entries, "the shipped one would be what the user said it is not"
    assert catalog.find("mine").kind == "code"
    assert catalog.find("qwen3-4b") == ENTRIES["qwen3-4b"]


def test_file_that_is_not_toml_leaves_the_shipped_catalog(own: Path) -> None:
    own.write_text("[mine\n", encoding="utf-8")
    catalog = load_catalog()
    assert catalog.find("qwen3-8b") == ENTRIES["qwen3-8b"]
    with pytest.raises(RequestError, match=r"is not TOML: .* line 1"):
        catalog.find("mine")


def test_names_and_fields_of_a_file_cannot_command_a_terminal(own: Path) -> None:
    own.write_text(
        '["a\\u001b[2J"]\nkind = "chat"\n[b]\nkind = "chat"\nrepo = "o/r"\n"x\\u009b" = 1\n', encoding="utf-8"
    )
    assert len(load_catalog().problems) == 2
    assert all(problem.message.isprintable() for problem in load_catalog().problems)


def test_search_finds_entries_in_which_every_word_occurs() -> None:
    catalog = load_catalog()
    found = [entry.name for entry in catalog.search("QWEN coder")]
    assert found and all("coder" in name for name in found)
    assert catalog.search("qwen no-such-word") == []
    assert {entry.kind for entry in catalog.search(kind="embedding")} == {"embedding"}
    assert len(catalog.search()) == len(ENTRIES)


def test_empty_catalog_has_no_problem() -> None:
    assert Catalog({}).problems == ()
