"""Which files of a repository are meant."""

from __future__ import annotations

import pytest

from localllm.errors import HubNotFound, RequestError
from localllm.hub import RepoRef
from localllm.hub.choice import choose, models_of
from localllm.hub.client import RepoFile
from localllm.hub.preference import ORDER


def _files(*names: str) -> list[RepoFile]:
    return [RepoFile(name, 100, "0" * 64) for name in names]


def _chosen(ref: RepoRef, *names: str) -> list[str]:
    return [file.name for file in choose(ref, _files(*names)).files]


ANY = RepoRef("org/x")


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["x-Q8_0.gguf", "x-Q4_K_M.gguf", "x-Q2_K.gguf"], "x-Q4_K_M.gguf"),
        (["x-Q8_0.gguf", "x-Q5_K_M.gguf", "x-Q3_K_L.gguf"], "x-Q5_K_M.gguf"),
        (["x-F16.gguf", "x-Q2_K.gguf"], "x-F16.gguf"),
        (["x-Q2_K.gguf", "plain.gguf"], "plain.gguf"),
        (["x-UD-Q4_K_M.gguf", "x-Q4_K_M.gguf"], "x-Q4_K_M.gguf"),
        (["mmproj-f16.gguf", "x-Q8_0.gguf", "README.md", "x.imatrix.gguf"], "x-Q8_0.gguf"),
    ],
)
def test_the_best_is_taken(names: list[str], best: str) -> None:
    assert _chosen(ANY, *names) == [best]


def test_no_quantization_is_twice_in_the_order() -> None:
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("q8_0", "x-q8_0.gguf"),
        ("fp16", "x-f16.gguf"),
        ("UD-Q4_K_XL", "x-UD-Q4_K_XL.gguf"),
        ("Q4_K_XL", "x-UD-Q4_K_XL.gguf"),
    ],
)
def test_a_tag_is_read_in_any_case(tag: str, name: str) -> None:
    assert _chosen(RepoRef("org/x", tag), "x-q8_0.gguf", "x-f16.gguf", "x-UD-Q4_K_XL.gguf") == [name]


def test_a_split_model_comes_whole_and_in_order() -> None:
    names = [f"Q8_0/x-0000{index}-of-00003.gguf" for index in (3, 1, 2)]
    assert _chosen(RepoRef("org/x", "Q8_0"), *names, "x-Q4_0.gguf") == sorted(names)
    assert _chosen(RepoRef("org/x", file=names[0]), *names) == sorted(names)


def test_a_split_model_that_lacks_parts_is_not_the_best_and_refused_by_name() -> None:
    names = ["x-Q4_K_M-00001-of-00002.gguf", "x-Q8_0.gguf"]
    assert _chosen(ANY, *names) == ["x-Q8_0.gguf"]
    with pytest.raises(HubNotFound, match="has 1 of the 2 parts"):
        choose(RepoRef("org/x", "Q4_K_M"), _files(*names))


def test_what_is_not_there_is_guessed_and_listed() -> None:
    with pytest.raises(HubNotFound, match=r"has no Q4_K_N\. Did you mean Q4_K_M\?") as caught:
        choose(RepoRef("org/x", "Q4_K_N"), _files("x-Q4_K_M.gguf", "x-Q8_0.gguf"))
    assert caught.value.hint == "It has Q4_K_M, Q8_0."


def test_a_repository_without_models_says_so() -> None:
    with pytest.raises(HubNotFound, match="holds no GGUF model"):
        choose(ANY, _files("mmproj-f16.gguf"))


def test_several_models_of_one_quantization_are_the_callers_choice() -> None:
    with pytest.raises(RequestError, match="2 models in Q4_0") as caught:
        choose(ANY, _files("a-Q4_0.gguf", "b-Q4_0.gguf"))
    assert "hf://org/x/a-Q4_0.gguf" in str(caught.value.hint)


def test_parts_are_one_model() -> None:
    models = models_of(_files("x-Q8_0-00001-of-00002.gguf", "x-Q8_0-00002-of-00002.gguf"))
    assert [(model.n_bytes, model.n_missing) for model in models] == [(200, 0)]
