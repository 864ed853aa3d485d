"""The file of remotes: what is added is found again, what people wrote stays, and nobody else may read it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from localllm.errors import ModelNotFound, RequestError
from localllm.hub.refs import RemoteRef, remote_ref
from localllm.remotes import Remote, Remotes, remote_of
from localllm.remotes.address import is_private, root_of

LAB = Remote("lab", "http://10.0.0.5:8000", key="sk-secret", model="org/model")
BENCH = Remote("my.bench", "https://example.org/api", key_env="BENCH_KEY", silence_s=5.0)


def test_what_is_added_is_found_again() -> None:
    Remotes().add(LAB)
    Remotes().add(BENCH)
    assert Remotes().all() == {"lab": LAB, "my.bench": BENCH}
    assert Remotes().find("my.bench") == BENCH


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_only_its_owner_may_read_the_file() -> None:
    Remotes().file.parent.mkdir(parents=True)
    Remotes().file.touch(0o644)
    Remotes().add(LAB)
    assert stat.S_IMODE(Remotes().file.stat().st_mode) == 0o600
    assert [path.name for path in Remotes().file.parent.iterdir()] == ["remotes.toml"]


def test_a_key_is_not_shown_where_a_remote_is() -> None:
    assert "sk-secret" not in repr(LAB)


def test_what_people_wrote_into_the_file_stays() -> None:
    Remotes().add(LAB)
    file = Remotes().file
    file.write_text("# mine\n" + file.read_text() + '\n# below\n[other]  # a machine\nurl = "http://o"\n')
    Remotes().add(BENCH)
    Remotes().remove("lab")
    text = file.read_text()
    assert "# mine" in text and "# below" in text and "[other]  # a machine" in text and "sk-secret" not in text
    assert list(Remotes().all()) == ["other", "my.bench"]


def test_a_file_that_is_not_in_lines_is_left_alone() -> None:
    file = Remotes().file
    file.parent.mkdir(parents=True)
    text = 'lab = { url = "http://10.0.0.5" }\n'
    file.write_text(text)
    assert Remotes().find("lab").root_url == "http://10.0.0.5"
    with pytest.raises(RequestError, match="cannot be edited"):
        Remotes().remove("lab")
    assert file.read_text() == text


def test_a_name_is_replaced_only_if_that_is_wanted() -> None:
    Remotes().add(LAB)
    new = Remote("lab", "http://10.0.0.6")
    with pytest.raises(RequestError, match="already"):
        Remotes().add(new)
    Remotes().add(new, replace=True)
    assert Remotes().all() == {"lab": new}


def test_an_unknown_name_says_which_there_are() -> None:
    Remotes().add(LAB)
    with pytest.raises(ModelNotFound, match="Did you mean @lab") as caught:
        Remotes().find("lap")
    assert "@lab" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[lab]\n", "no url"),
        ("[lab]\nurl = 5\n", "must be a text"),
        ('[lab]\nurl = "http://x"\nurk = "y"\n', "Unknown key 'urk'"),
        ('[lab]\nurl = "ftp://x"\n', "not a server's address"),
        ('[lab]\nurl = "http://x"\nsilence_s = -1\n', "above 0"),
        ('lab = "http://x"\n', "not a remote"),
        ("[lab\n", "not TOML"),
    ],
)
def test_a_broken_file_is_told_of(text: str, words: str) -> None:
    file = Remotes().file
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(RequestError, match=words):
        Remotes().all()


def test_a_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="BENCH_KEY is not set"):
        BENCH.secret()
    monkeypatch.setenv("BENCH_KEY", "sk-other")
    assert BENCH.secret() == "sk-other"


def test_a_reference_chooses_the_model() -> None:
    Remotes().add(LAB)
    assert remote_of(RemoteRef("lab")).model == "org/model"
    assert remote_of(RemoteRef("lab", "org/other")).model == "org/other"


def test_a_file_goes_before_a_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert remote_ref("@lab") == RemoteRef("lab")
    (tmp_path / "@lab").touch()
    assert remote_ref("@lab") is None and remote_ref(None) is None and remote_ref("smollm2") is None


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("10.0.0.5:8000", "http://10.0.0.5:8000"),
        ("http://lab/v1/", "http://lab"),
        ("https://example.org/openai/v1", "https://example.org/openai"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses_are_taken_as_people_write_them(url: str, root: str) -> None:
    assert root_of(url) == root


@pytest.mark.parametrize(
    "url", ["", "http://", "ftp://lab", "http://lab:99999", "http://a:b@lab", "http://l ab", "http://lab?x=1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RequestError):
        root_of(url)


def test_only_what_stays_here_or_is_encrypted_is_private() -> None:
    private = ("https://lab", "http://localhost:1", "http://127.0.0.1", "http://[::1]:8")
    assert all(map(is_private, private))
    assert not any(map(is_private, ("http://lab", "http://localhost.example.org", "http://10.0.0.5")))
