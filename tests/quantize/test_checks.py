"""What cannot be done is refused before any work, with what to do instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.errors import ModelError, RequestError
from localllm.gguf import GGUFHeader, read_header
from localllm.quantize import Imatrix, check_imatrix, check_source, check_target, file_type, plan_mix
from tests.quantize.peer import Wanted, as_imatrix
from tests.quantize.skeleton import Skeleton

SKELETON = Skeleton(n_layer=2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return SKELETON.write(tmp_path / "source.gguf")


@pytest.fixture
def header(source: Path) -> GGUFHeader:
    return read_header(source)


def test_quantized_sources_need_leave(source: Path, tmp_path: Path) -> None:
    header = read_header(Wanted("Q8_0").by_us(source, tmp_path / "q8.gguf"))
    mix = plan_mix(header, file_type("Q4_K_M"))
    with pytest.raises(ModelError, match=r"q8\.gguf is quantized already: 16 tensors") as caught:
        check_source(header, mix)
    assert "--allow-requantize" in str(caught.value.hint)
    check_source(header, mix, allow_requantize=True)
    check_source(header, plan_mix(header, file_type("Q8_0")))


def test_matrices_of_integers_are_refused(tmp_path: Path) -> None:
    extra = {"blk.0.table.weight": np.ones((2, 256), dtype=np.int32)}
    header = read_header(SKELETON.write(tmp_path / "odd.gguf", extra=extra))
    with pytest.raises(ModelError, match=r"blk\.0\.table\.weight is of type I32"):
        check_source(header, plan_mix(header, file_type("Q4_K_M")), allow_requantize=True)


def test_the_source_is_never_the_target(source: Path, header: GGUFHeader, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(source)
    for target in (source, link):
        with pytest.raises(RequestError, match="is the source itself"):
            check_target(header, target, may_replace=True)


def test_a_file_is_replaced_only_with_leave(header: GGUFHeader, tmp_path: Path) -> None:
    target = tmp_path / "there.gguf"
    check_target(header, target, may_replace=False)
    target.touch()
    with pytest.raises(RequestError, match="is there already") as caught:
        check_target(header, target, may_replace=False)
    assert "--force" in str(caught.value.hint)
    check_target(header, target, may_replace=True)


def test_importance_of_another_model_is_refused(header: GGUFHeader) -> None:
    mix = plan_mix(header, file_type("Q4_K_M"))
    for other, message in (
        (Skeleton(n_layer=3), r"has an entry for blk\.2\..*, which the model does not have"),
        (Skeleton(n_ff=768), r"has 768 values for blk\.0\.ffn_down\.weight, which takes 512"),
        (Skeleton(n_embd=512), "has 512 values for .*, which takes 256"),
        (Skeleton(n_expert=4), r"has an entry for blk\.0\.ffn_gate_exps\.weight"),
    ):
        with pytest.raises(RequestError, match=message) as caught:
            check_imatrix(header, mix, as_imatrix(other.importance()))
        assert "another model" in str(caught.value.hint)


def test_tensors_without_importance_are_told(header: GGUFHeader) -> None:
    mix = plan_mix(header, file_type("Q4_K_M"))
    importance = SKELETON.importance()
    assert check_imatrix(header, mix, None) == ()
    assert check_imatrix(header, mix, as_imatrix(importance)) == ("output.weight",)
    del importance["blk.1.attn_q.weight"]
    assert check_imatrix(header, mix, as_imatrix(importance)) == ("output.weight", "blk.1.attn_q.weight")


def test_a_type_that_needs_importance_says_so(header: GGUFHeader) -> None:
    mix = plan_mix(header, file_type("Q2_K_S"), has_imatrix=True)
    importance = SKELETON.importance()
    check_imatrix(header, mix, as_imatrix(importance))
    del importance["blk.1.attn_q.weight"]
    for imatrix in (None, Imatrix({}), as_imatrix(importance)):
        with pytest.raises(RequestError, match="Q2_K_S is garbage without an importance matrix"):
            check_imatrix(header, mix, imatrix)
