"""What people type, and what is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.errors import RequestError
from localllm.hub import FileRef, ModelRef, NameRef, RemoteRef, RepoRef, UrlRef, parse_ref


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("smollm2", NameRef("smollm2")),
        ("qwen2.5-coder-1.5b:Q4_K_M", NameRef("qwen2.5-coder-1.5b", "Q4_K_M")),
        ("org/repo", RepoRef("org/repo")),
        ("org/Repo-GGUF:Q4_K_M", RepoRef("org/Repo-GGUF", "Q4_K_M")),
        ("org/repo@v2:Q8_0", RepoRef("org/repo", "Q8_0", revision="v2")),
        ("org/repo:part/x-Q4_0.gguf", RepoRef("org/repo", file="part/x-Q4_0.gguf")),
        ("hf://org/repo", RepoRef("org/repo")),
        ("hf://org/repo:IQ4_XS", RepoRef("org/repo", "IQ4_XS")),
        ("hf://org/repo/x.gguf", RepoRef("org/repo", file="x.gguf")),
        ("hf://org/repo@main/a/x.gguf", RepoRef("org/repo", file="a/x.gguf", revision="main")),
        ("hf.co/org/repo:Q4_K_M", RepoRef("org/repo", "Q4_K_M")),
        ("https://huggingface.co/org/repo", RepoRef("org/repo")),
        ("https://huggingface.co/org/repo/resolve/main/a%20b.gguf?download=true", RepoRef("org/repo", file="a b.gguf")),
        ("https://huggingface.co/org/repo/blob/abc/x.gguf", RepoRef("org/repo", file="x.gguf", revision="abc")),
        ("https://huggingface.co/org/repo/tree/dev", RepoRef("org/repo", revision="dev")),
        ("https://example.org/m/x.gguf", UrlRef("https://example.org/m/x.gguf")),
        ("http://127.0.0.1:8080/x.GGUF", UrlRef("http://127.0.0.1:8080/x.GGUF")),
        ("@lab", RemoteRef("lab")),
        ("@lab/meta/llama-3", RemoteRef("lab", "meta/llama-3")),
        ("models/x.gguf", FileRef(Path("models/x.gguf"))),
        ("./thing", FileRef(Path("thing"))),
        ("org/", FileRef(Path("org"))),
        ("/abs/thing", FileRef(Path("/abs/thing"))),
    ],
)
def test_every_form_is_read(text: str, meant: ModelRef) -> None:
    assert parse_ref(text) == meant


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "-x", "a:b:c", "ftp://x/y.gguf", "https://example.org/x", "hf://x", "@", "@a b"]
)
def test_what_is_no_form_is_an_error_with_a_hint(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_ref(text)
    assert caught.value.hint


def test_a_file_that_is_there_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").write_bytes(b"")
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "repo").write_bytes(b"")
    assert parse_ref("smollm2") == FileRef(Path("smollm2"))
    assert parse_ref("org/repo") == FileRef(Path("org/repo"))


_WORD = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True).filter(lambda word: not word.endswith(".gguf"))


@given(
    st.one_of(
        st.builds(NameRef, _WORD, st.none() | _WORD),
        st.builds(RepoRef, st.builds("{}/{}".format, _WORD, _WORD), st.none() | _WORD, revision=st.none() | _WORD),
        st.builds(RemoteRef, _WORD, st.none() | _WORD),
    )
)
def test_a_ref_is_written_as_it_is_read(ref: ModelRef) -> None:
    assert parse_ref(str(ref)) == ref
