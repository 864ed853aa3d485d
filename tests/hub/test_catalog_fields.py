"""Each rule of models.toml, with an entry that breaks it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.errors import ModelNotFound, RequestError
from localllm.hub.catalog import load_catalog
from localllm.hub.catalog_entry import CatalogEntry, CatalogFile
from localllm.hub.catalog_fields import FieldError, entry_of

GOOD = """
title = "A Model 1B"
kind = "chat"
repo = "org/A-Model-GGUF"
good_at = "Tests."
license = "MIT"
gated = false
n_params = 1_000_000_000
n_active_params = 500_000_000
n_layers = 16
n_heads = 32
n_kv_heads = 8
head_dim = 64
n_embd = 2048
n_ctx = 8192

[sampling]
temperature = 1
top_k = 20

[files]
Q4_K_M = { path = "A-Model-Q4_K_M.gguf", size_bytes = 600_000_000 }
Q8_0 = [
    { path = "q8/A-Model-Q8_0-00001-of-00002.gguf", size = "1.0 GiB" },
    { path = "q8/A-Model-Q8_0-00002-of-00002.gguf", size = "512.5 MiB" },
]
"""


KEYS = st.sampled_from(["title", "kind", "repo", "n_params", "n_heads", "n_kv_heads", "sampling", "files", "Q8_0"]) | (
    st.sampled_from(["path", "size", "size_bytes", "top_p", "top_k", "gated"]) | st.text(max_size=4)
)


def read(text: str) -> CatalogEntry:
    return entry_of("a-model", tomllib.loads(text))


def test_entry_is_read_with_every_field() -> None:
    entry = read(GOOD)
    assert (entry.name, entry.title, entry.kind, entry.repo) == ("a-model", "A Model 1B", "chat", "org/A-Model-GGUF")
    assert (entry.n_params, entry.n_active_params, entry.gated) == (10**9, 5 * 10**8, False)
    assert (entry.n_layers, entry.n_heads, entry.n_kv_heads, entry.head_dim) == (16, 32, 8, 64)
    assert (entry.n_embd, entry.n_ctx, entry.license) == (2048, 8192, "MIT")
    assert (entry.sampling.temperature, entry.sampling.top_k, entry.sampling.top_p) == (1.0, 20, None)
    assert entry.files() == (CatalogFile("A-Model-Q4_K_M.gguf", 600_000_000, is_exact=True),)
    assert entry.n_bytes("q8_0") == (1 << 30) + round(512.5 * (1 << 20))
    assert not entry.files("Q8_0")[0].is_exact


def test_kind_and_repo_are_all_that_an_entry_needs() -> None:
    entry = read('kind = "code"\nrepo = "o/r"')
    assert (entry.title, entry.n_params, entry.tags, entry.default_tag) == ("a-model", None, (), None)
    assert (entry.files(), entry.n_bytes(), entry.tag("q8_0")) == ((), None, "Q8_0")


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ('kind = "chat"', "", "kind is missing"),
        ('repo = "org/A-Model-GGUF"', "", "repo is missing"),
        ('title = "A Model 1B"', 'titel = "x"', "titel is no field of the catalog; did you mean title?"),
        ('title = "A Model 1B"', "zzz = 1", "zzz is no field of the catalog; there are title, kind, repo, "),
        ('title = "A Model 1B"', "title = 3", "title is 3; it must be a line of text, at most 120 characters"),
        ('title = "A Model 1B"', 'title = " "', "title is ' '; it must be a line of text"),
        ('title = "A Model 1B"', 'title = "a\\u001bb"', r"title is 'a\x1bb'; it must be a line of text"),
        ('good_at = "Tests."', f'good_at = "{"x" * 121}"', "good_at is 'xxx"),
        (
            'kind = "chat"',
            'kind = "talk"',
            "kind is 'talk'; it must be one of chat, code, reasoning, embedding, rerank",
        ),
        ('repo = "org/A-Model-GGUF"', 'repo = "A-Model"', "repo is 'A-Model'; it must be a repository of the hub"),
        ('repo = "org/A-Model-GGUF"', 'repo = "../x/y"', "repo is '../x/y'; it must be a repository of the hub"),
        ('license = "MIT"', "license = []", "license is []; it must be a line of text"),
        ("gated = false", 'gated = "no"', "gated is 'no'; it must be true or false"),
        ("n_params = 1_000_000_000", "n_params = 8.2e9", "n_params is 8200000000.0; it must be a whole number"),
        ("n_params = 1_000_000_000", "n_params = 8", "n_params is 8; it must be a whole number from 100,000"),
        ("n_params = 1_000_000_000", "n_params = 10_000_000", "n_active_params is 500,000,000, more than n_params"),
        ("n_layers = 16", "n_layers = 0", "n_layers is 0; it must be a whole number from 1 to 1,024"),
        ("n_layers = 16", "n_layers = true", "n_layers is True; it must be a whole number"),
        ("n_kv_heads = 8", "n_kv_heads = 7", "n_kv_heads is 7, which does not divide n_heads, 32"),
        ("head_dim = 64", "head_dim = -64", "head_dim is -64; it must be a whole number from 1 to 4,096"),
        ("n_embd = 2048", "n_embd = 2_000_000", "n_embd is 2000000; it must be a whole number"),
        ("n_ctx = 8192", 'n_ctx = "8k"', "n_ctx is '8k'; it must be a whole number"),
        ("temperature = 1", "temperature = -0.1", "sampling.temperature is -0.1; it must be a number from 0 to 100"),
        ("temperature = 1", "temperature = nan", "sampling.temperature is nan; it must be a number from 0 to 100"),
        ("temperature = 1", "top_p = 1.1", "sampling.top_p is 1.1; it must be a number from 0 to 1"),
        ("temperature = 1", "topp = 1", "sampling.topp is no field of the catalog; did you mean top_p?"),
        ("top_k = 20", "top_k = 2.5", "sampling.top_k is 2.5; it must be a whole number"),
        ("Q4_K_M =", "q4_k_m =", "files.q4_k_m is no quantization; write it as Q4_K_M"),
        ("A-Model-Q4_K_M.gguf", "A-Model.bin", "files.Q4_K_M.path is 'A-Model.bin'; it must be the path of a .gguf"),
        ("A-Model-Q4_K_M.gguf", "../A-Q4_K_M.gguf", "files.Q4_K_M.path is '../A-Q4_K_M.gguf'; it must be the path"),
        ("A-Model-Q4_K_M.gguf", "mmproj-A-Q4_K_M.gguf", "files.Q4_K_M.path is 'mmproj-A-Q4_K_M.gguf'; it must be"),
        ("size_bytes = 600_000_000", "size_bytes = -1", "files.Q4_K_M.size_bytes is -1; it must be a whole number"),
        ("size_bytes = 600_000_000", 'size = "0.6 GB"', "files.Q4_K_M.size is '0.6 GB'; it must be a size as"),
        (", size_bytes = 600_000_000", "", "files.Q4_K_M must have a path, and either size_bytes or size"),
        ("size_bytes = 600_000_000", "bytes = 6", "files.Q4_K_M.bytes is no field of the catalog; did you mean"),
        ("00002-of-00002", "00002-of-00003", "files.Q8_0 must list the parts of the model in order: all 3"),
        ("Q8_0-00001", "Q8_0-00002", "files.Q8_0 must list the parts of the model in order: all 2"),
        ("Q4_K_M = {", "Q4_K_M = 3 #", "files.Q4_K_M must be a table, as { path = ..., size_bytes = ... }"),
    ],
)
def test_broken_rule_is_told_with_the_field_and_what_is_allowed(was: str, becomes: str, said: str) -> None:
    assert was in GOOD
    with pytest.raises(FieldError) as caught:
        read(GOOD.replace(was, becomes, 1))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("name", ["sampling", "files"])
def test_table_is_a_table(name: str) -> None:
    with pytest.raises(FieldError, match=f"^{name} must be a table"):
        entry_of("x", {"kind": "chat", "repo": "o/r", name: 3})


@pytest.mark.parametrize(
    ("files", "default"),
    [
        (["Q2_K", "Q8_0", "Q4_K_M"], "Q4_K_M"),
        (["Q8_0", "F16"], "Q8_0"),
        (["Q8_0", "MXFP4"], "MXFP4"),
        (["Q6_K", "Q5_K_M"], "Q5_K_M"),
        (["IQ2_M", "Q2_K"], "IQ2_M"),
    ],
)
def test_default_quantization_is_the_first_of_the_documented_order(files: list[str], default: str) -> None:
    table = {tag: {"path": f"x-{tag}.gguf", "size": "1 GiB"} for tag in files}
    entry = entry_of("x", {"kind": "chat", "repo": "o/r", "files": table})
    assert (entry.default_tag, entry.tag()) == (default, default)


def test_quantization_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ModelNotFound) as caught:
        read(GOOD).files("Q4_K_L")
    assert (
        caught.value.message == "The catalog has a-model as Q4_K_M, Q8_0, not as Q4_K_L. Did you mean a-model:Q4_K_M?"
    )
    assert caught.value.hint == "For a file that it does not list, name the repository: org/A-Model-GGUF:Q4_K_L"


def problem(path: Path, text: str) -> str:
    """What is said of a user's file."""
    path.write_text(text, encoding="utf-8")
    (error,) = load_catalog(path).problems
    assert isinstance(error, RequestError) and error.hint
    return error.message.replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nkind = 'chat'\nrepo =\n", r"FILE is not TOML: .*\(at line 3, column 7\)"),
        ("[a]\nkind = 'chat'\n[a]\nrepo = 'o/r'\n", r"FILE is not TOML: Cannot declare .*\(at line 3"),
        ("# mine\n[a]\nkind = 'chat'\nrepo = 'x'\n", "FILE, line 4: a: repo is 'x'; it must be a repository"),
        ("[b]\nkind = 'chat'\n", "FILE, line 1: b: repo is missing"),
        ("\n[A]\nkind = 'chat'\n", "FILE, line 2: A is no name for a model: lower-case letters"),
        ("a = 3\n", "FILE: a must be a table of fields"),
        ("['qwen3-8b'.sampling]\n\ntop_p = 3\n", "FILE, line 3: qwen3-8b: sampling.top_p is 3; it must be"),
        ("[qwen3-8b]\nn_ctx = 8\n[qwen3-8b.files]\nQ9 = 1\n", "FILE, line 4: qwen3-8b: files.Q9 must be a table"),
        ("[qwen3-8b]\nfiles.Q9 = 1\n", "FILE, line 1: qwen3-8b: files.Q9 must be a table"),
        ("[qwen3-8b]\nn_heads = 7\n", "FILE, line 1: qwen3-8b: n_kv_heads is 8, which does not divide n_heads, 7"),
        ("[llama-3.1-8b]\nn_ctx = 9\n", r"FILE, line 1: llama-3: 1-8b is no .* in quotes: \[\"llama-3.1-8b\"\]\."),
    ],
)
def test_mistake_in_a_users_file_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert re.match(said, problem(tmp_path / "models.toml", text)), problem(tmp_path / "models.toml", text)


def test_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(b"\xff")
    (error,) = load_catalog(path).problems
    assert error.message.endswith("is not UTF-8 text: byte 0 is 0xFF.")


def test_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (error,) = load_catalog(tmp_path).problems
    assert error.message == f"Cannot read {tmp_path}: Is a directory."


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_table_is_an_entry_or_a_field_error(values: dict[str, Any]) -> None:
    said = ""
    try:
        entry_of("x", {"kind": "chat", "repo": "o/r", **values}).files()
    except FieldError as error:
        said = str(error)
    assert said.isprintable() and len(said) < 400


def table(**fields: Any) -> dict[str, Any]:
    return {"kind": "chat", "repo": "o/r", **fields}


def test_messages_are_short_whatever_the_value() -> None:
    with pytest.raises(FieldError) as caught:
        entry_of("x", table(n_ctx=[1] * 10_000))
    assert len(str(caught.value)) < 160
