"""GGUF files at any address."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from localllm.errors import HubAccessDenied, HubError, HubNotFound, HubUnavailable, InvalidModelFile, RequestError
from localllm.hub import UrlRef
from localllm.hub.pulled import Pulled
from localllm.hub.url_files import pull_url, read_origin
from tests.hub.conftest import Place, noise
from tests.hub.local_hub import TOKEN, Fault
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf").read_bytes()


@pytest.fixture
def url(place: Place, model: bytes) -> str:
    return place.hub.add_plain("a tiny.gguf", model)


def _pull(place: Place, url: str) -> Pulled:
    place.cache.mkdir(exist_ok=True)
    return pull_url(UrlRef(url), place.options)


def _names(place: Place) -> list[str]:
    return sorted(path.name for path in place.cache.iterdir() if path.is_file())


def test_the_file_has_its_own_name_and_its_origin_beside_it(place: Place, url: str, model: bytes) -> None:
    pulled = _pull(place, f"{url}?key=secret")
    assert pulled.path == place.cache / "a tiny.gguf"
    assert pulled.path.read_bytes() == model
    written = json.loads((place.cache / "a tiny.gguf.json").read_text())
    digest = hashlib.sha256(model).hexdigest()
    assert written == {"url": url, "n_bytes": len(model), "etag": f'"{digest}"', "sha256": digest}
    assert _names(place) == ["a tiny.gguf", "a tiny.gguf.json"]


def test_what_is_there_is_not_fetched_again(place: Place, url: str) -> None:
    _pull(place, url)
    assert _pull(place, url).n_fetched_bytes == 0


def test_an_interrupted_one_goes_on(place: Place, url: str, model: bytes) -> None:
    place.hub.fail("/files/*", Fault(drop_after=len(model) // 2))
    place.hub.fail("/files/*", Fault(status=404))
    with pytest.raises(HubNotFound):
        _pull(place, url)
    assert "a tiny.gguf" not in _names(place)
    n_kept = (place.cache / "a tiny.gguf.partial").stat().st_size
    assert n_kept > 0
    pulled = _pull(place, url)
    assert pulled.n_fetched_bytes == len(model) - n_kept
    assert pulled.path.read_bytes() == model
    assert place.hub.asked("/files/*")[-1]["if-range"] == f'"{hashlib.sha256(model).hexdigest()}"'


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(place: Place, url: str, model: bytes) -> None:
    place.hub.add_plain("a tiny.gguf", noise(len(model) + 999))
    place.hub.fail("/files/*", Fault(drop_after=len(model) // 2))
    place.hub.fail("/files/*", Fault(status=404))
    with pytest.raises(HubNotFound):
        _pull(place, url)
    place.hub.add_plain("a tiny.gguf", model)
    assert _pull(place, url).path.read_bytes() == model


def test_without_a_validator_nothing_of_an_earlier_run_is_used(place: Place, url: str, model: bytes) -> None:
    place.hub.plain_has_etag = False
    place.hub.fail("/files/*", Fault(drop_after=len(model) // 2))
    place.hub.fail("/files/*", Fault(status=404))
    with pytest.raises(HubNotFound):
        _pull(place, url)
    assert _pull(place, url).n_fetched_bytes == len(model)


def test_a_page_is_refused_after_its_first_bytes(place: Place) -> None:
    url = place.hub.add_plain("page.gguf", b"<!doctype html>" * 100_000)
    with pytest.raises(InvalidModelFile, match="is no GGUF file; it begins with '<!do'"):
        _pull(place, url)
    assert _names(place) == []


def test_a_file_that_only_begins_like_a_model_is_deleted(place: Place) -> None:
    url = place.hub.add_plain("noise.gguf", noise(100_000))
    with pytest.raises(InvalidModelFile, match="no sound GGUF file"):
        _pull(place, url)
    assert _names(place) == []


def test_a_model_that_is_cut_at_its_source_is_deleted(place: Place, model: bytes) -> None:
    url = place.hub.add_plain("cut.gguf", model[:-100])
    with pytest.raises(InvalidModelFile):
        _pull(place, url)
    assert _names(place) == []


def test_a_file_of_the_same_name_is_never_overwritten(place: Place, url: str) -> None:
    place.cache.mkdir()
    mine = place.cache / "a tiny.gguf"
    mine.write_bytes(b"mine")
    with pytest.raises(RequestError, match="from another place"):
        _pull(place, url)
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=403), HubAccessDenied),
        (Fault(status=404), HubNotFound),
        (Fault(status=500), HubUnavailable),
        (Fault(status=204), HubError),
        (Fault(drop_after=0), HubUnavailable),
    ],
)
def test_failures_are_ours(place: Place, url: str, fault: Fault, kind: type[Exception]) -> None:
    place.hub.fail("/files/*", fault, times=None)
    with pytest.raises(kind):
        _pull(place, url)


def test_all_parts_come(place: Place, model: bytes) -> None:
    names = [f"tiny-0000{index}-of-00002.gguf" for index in (1, 2)]
    urls = [place.hub.add_plain(name, model) for name in names]
    assert [path.name for path in _pull(place, urls[1]).paths] == names


def test_the_hubs_token_is_not_sent_elsewhere(place: Place, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    _pull(place, url)
    assert not any("authorization" in headers for headers in place.hub.asked("/files/*"))


@pytest.mark.parametrize("name", ["..%2Fevil.gguf", ".hidden.gguf", "a%5Cb.gguf", "a%00b.gguf"])
def test_names_that_are_no_plain_names_are_refused(place: Place, name: str) -> None:
    with pytest.raises(RequestError, match="no name for a file"):
        _pull(place, f"{place.hub.endpoint}/files/{name}")


def test_a_record_that_is_damaged_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.gguf.json").write_text('{"url": 1, "other": 2}')
    assert read_origin(tmp_path / "x.gguf") is None
