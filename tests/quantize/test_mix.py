"""Each tensor gets the type that llama.cpp's quantizer gives it, whatever the model and the file type."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localllm.errors import InvalidModelFile, RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, read_header
from localllm.quantize import FILE_TYPE_NAMES, MixOptions, file_type, plan_mix
from localllm.quantize.mix import fitting_type
from tests.quantize.peer import Wanted, types
from tests.quantize.skeleton import Skeleton

HEADS = ((2, 1), (4, 1), (4, 2), (8, 8), (8, 1))

skeletons = st.builds(
    lambda heads, **shape: Skeleton(n_head=heads[0], n_head_kv=heads[1], **shape),
    heads=st.sampled_from(HEADS),
    arch=st.sampled_from(["llama", "llama", "qwen2", "falcon", "gpt2"]),
    n_layer=st.sampled_from([1, 2, 4, 7, 8, 9, 16, 22, 33, 80]),
    n_embd=st.sampled_from([256, 512, 64, 320, 48]),
    n_ff=st.sampled_from([256, 512, 96, 80]),
    n_expert=st.sampled_from([0, 0, 0, 4, 8]),
    is_tied=st.booleans(),
    is_fused=st.booleans(),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(skeleton=skeletons, type_name=st.sampled_from(FILE_TYPE_NAMES), weighted=st.booleans(), is_pure=st.booleans())
def test_files_are_llama_cpps_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, skeleton: Skeleton, type_name: str, weighted: bool, is_pure: bool
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    source = skeleton.write(folder / "source.gguf")
    weighted = weighted or type_name == "Q2_K_S"
    wanted = Wanted(type_name, skeleton.importance() if weighted else {}, is_pure)
    theirs = wanted.by_llama_cpp(source, folder / "theirs.gguf")
    ours = wanted.by_us(source, folder / "ours.gguf")
    assert types(ours) == types(theirs)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("type_name", FILE_TYPE_NAMES)
@pytest.mark.parametrize("n_expert", [0, 8, 4])
def test_deep_models_have_the_same_mix(tmp_path: Path, type_name: str, n_expert: int) -> None:
    """32 layers: every eighth, sixteenth and third of the rules is seen. Shared experts stand beside others."""
    skeleton = Skeleton(n_layer=32, n_head=8, n_head_kv=2, n_expert=n_expert)
    shared = np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)
    extra = {f"blk.{layer}.ffn_down_shexp.weight": shared for layer in range(20) if n_expert}
    source = skeleton.write(tmp_path / "source.gguf", extra=extra)
    importance = skeleton.importance() | {name: np.ones(256, dtype=np.float32) for name in extra}
    for given_importance in ({}, importance):
        if type_name == "Q2_K_S" and not given_importance:
            continue
        wanted = Wanted(type_name, given_importance)
        theirs = types(wanted.by_llama_cpp(source, tmp_path / "theirs.gguf"))
        assert {name: kind.name for name, kind in wanted.mix(source).types.items()} == theirs


@pytest.mark.parametrize("type_name", FILE_TYPE_NAMES)
def test_a_model_of_the_shape_of_qwen_is_llama_cpps_byte_for_byte(tmp_path: Path, type_name: str) -> None:
    """Qwen2.5-Coder-1.5B with two rows in each matrix: super-blocks in all of them, six query heads to one of keys."""
    skeleton = Skeleton("qwen2", n_layer=28, n_embd=1536, n_ff=8960, n_head=12, n_head_kv=2, is_tied=True)
    source = skeleton.write(tmp_path / "source.gguf")
    wanted = Wanted(type_name, skeleton.importance())
    theirs = wanted.by_llama_cpp(source, tmp_path / "theirs.gguf")
    ours = wanted.by_us(source, tmp_path / "ours.gguf")
    assert types(ours) == types(theirs)
    assert ours.read_bytes() == theirs.read_bytes()


def test_models_of_80_layers_are_treated_as_70b(tmp_path: Path) -> None:
    for heads, expected in (((8, 1), "q5_K"), ((8, 8), "q4_K")):
        skeleton = Skeleton(n_layer=80, n_head=heads[0], n_head_kv=heads[1])
        source = skeleton.write(tmp_path / "source.gguf")
        wanted = Wanted("Q4_K_S")
        mix = wanted.mix(source)
        assert mix.types["blk.40.attn_v.weight"].name == expected
        assert types(wanted.by_llama_cpp(source, tmp_path / "theirs.gguf")) == {n: k.name for n, k in mix.types.items()}


@pytest.mark.parametrize(
    "options",
    [
        {"output_type": "q4_0"},
        {"embedding_type": "q8_0"},
        {"output_type": "f16", "embedding_type": "q2_K"},
        {"tensor_types": {"attn_v": "q6_K", r"blk\.[01]\.attn": "q3_K"}},
        {"tensor_types": {"token_embd": "q4_0", "ffn_(up|gate)": "bf16"}, "output_type": "q5_K"},
        {"tensor_types": {"attn_v": "q6_K"}, "is_pure": True},
    ],
)
@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("type_name", ["Q4_K_M", "Q3_K_M", "Q8_0", "F16"])
def test_exceptions_are_made_as_llama_cpp_makes_them(
    tmp_path: Path, options: dict[str, object], is_tied: bool, type_name: str
) -> None:
    source = Skeleton(n_layer=8, is_tied=is_tied).write(tmp_path / "source.gguf")
    wanted = Wanted(type_name, **options)  # type: ignore[arg-type]
    theirs = wanted.by_llama_cpp(source, tmp_path / "theirs.gguf")
    ours = wanted.by_us(source, tmp_path / "ours.gguf")
    assert types(ours) == types(theirs)
    assert ours.read_bytes() == theirs.read_bytes()


def test_odd_tensors_stay_as_they_are(tmp_path: Path) -> None:
    """Norms, routers, positions, one-column matrices and the like, by name."""
    rng = np.random.default_rng(0)
    names = (
        "blk.0.ffn_gate_inp.weight", "blk.0.attn_q_norm.weight", "blk.0.ssm_conv1d.weight", "blk.0.laurel_l.weight",
        "blk.0.time_mix_w1.weight", "blk.0.attn_rel_b.weight", "blk.0.indexer.k_proj.weight", "v.position_embd.weight",
        "per_layer_token_embd.weight", "per_layer_model_proj.weight", "blk.0.attn_kv_b.weight", "blk.0.attn_k_b.weight",
        "blk.0.something.weight", "blk.0.something.bias", "blk.0.ffn_down_shexp.weight", "blk.1.ffn_down.0.weight",
        "blk.0.shortconv.conv.weight", "blk.0.ffn_gate_tid2eid.weight", "blk.0.weight_like", "nextn.eh_proj.weight",
    )  # fmt: skip
    extra = {name: rng.standard_normal((3, 256)).astype(np.float32) for name in names}
    extra["blk.0.column.weight"] = rng.standard_normal((1, 256)).astype(np.float32)
    source = Skeleton(n_layer=8).write(tmp_path / "source.gguf", extra=extra)
    wanted = Wanted("Q4_K_M")
    theirs = wanted.by_llama_cpp(source, tmp_path / "theirs.gguf")
    ours = wanted.by_us(source, tmp_path / "ours.gguf")
    assert types(ours) == types(theirs)
    assert types(ours)["blk.0.ffn_gate_inp.weight"] == "f32" and types(ours)["blk.0.something.weight"] == "q4_K"
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("kind", "n_cols", "expected"),
    [
        ("q4_K", 512, "q4_K"), ("q4_K", 96, "q5_0"), ("q2_K", 96, "q4_0"), ("q3_K", 96, "q4_0"), ("q5_K", 96, "q5_1"),
        ("q6_K", 96, "q8_0"), ("iq4_xs", 96, "iq4_nl"), ("q4_K", 80, "f16"), ("q8_0", 80, "f16"), ("f16", 7, "f16"),
    ],
)  # fmt: skip
def test_types_fall_back_where_blocks_do_not_fit(kind: str, n_cols: int, expected: str) -> None:
    assert fitting_type(GGML_TYPES_BY_NAME[kind], n_cols).name == expected


def test_fallbacks_are_told(tmp_path: Path) -> None:
    header = read_header(Skeleton(n_layer=1, n_embd=64).write(tmp_path / "m.gguf"))
    mix = plan_mix(header, file_type("Q4_K_M"))
    assert "blk.0.attn_q.weight" in mix.fallbacks and "blk.0.ffn_down.weight" not in mix.fallbacks


def test_size_is_that_of_the_file(tmp_path: Path) -> None:
    source = Skeleton(n_layer=3).write(tmp_path / "m.gguf")
    wanted = Wanted("Q4_K_M")
    made = read_header(wanted.by_us(source, tmp_path / "q.gguf"))
    assert wanted.mix(source).n_bytes(read_header(source)) == sum(tensor.n_bytes for tensor in made.tensors)


def test_a_type_that_cannot_hold_what_it_was_asked_for_is_refused(tmp_path: Path) -> None:
    header = read_header(Skeleton(n_embd=64).write(tmp_path / "m.gguf"))
    with pytest.raises(
        RequestError, match=r"output\.weight has rows of 64 weights; Q6_K takes multiples of 256"
    ) as caught:
        plan_mix(header, file_type("Q4_K_M"), MixOptions(output_type=GGML_TYPES_BY_NAME["q6_K"]))
    assert "Q8_0" in str(caught.value.hint)


def test_the_first_pattern_counts(tmp_path: Path) -> None:
    header = read_header(Skeleton().write(tmp_path / "m.gguf"))
    patterns = (("attn", "q6_K"), ("attn_q", "q8_0"))
    options = MixOptions(tensor_types=tuple((re.compile(p), GGML_TYPES_BY_NAME[k]) for p, k in patterns))
    assert plan_mix(header, file_type("Q4_K_M"), options).types["blk.0.attn_q.weight"].name == "q6_K"


@pytest.mark.parametrize("name", ["Q4_K_XL", "IQ2_XXS", "", "4"])
def test_unknown_file_types_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="is no file type that can be made") as caught:
        file_type(name)
    assert "Q4_K_M" in str(caught.value.hint)


def test_file_types_have_short_names_in_any_case() -> None:
    assert [file_type(name).name for name in ("q4_k", "Q5_K", "q3_K", "q8_0")] == ["Q4_K_M", "Q5_K_M", "Q3_K_M", "Q8_0"]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = Skeleton(arch="clip").write(tmp_path / "m.gguf")
    with pytest.raises(InvalidModelFile, match="is not a language model"):
        plan_mix(read_header(path), file_type("Q4_K_M"))
