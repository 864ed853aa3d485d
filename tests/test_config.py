from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm import paths
from localllm.config import Settings, load_settings
from localllm.errors import RequestError
from localllm.hardware import KV_TYPES
from localllm.setting_values import KV_TYPE_NAMES


def write_config(text: str) -> Path:
    paths.ensure(paths.config_dir())
    paths.config_file().write_text(text)
    return paths.config_file()


def test_defaults_need_no_file_and_no_environment() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert {settings.source(name) for name in Settings.names()} == {"default"}


def test_flag_beats_environment_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_config("n_ctx = 1024\ntop_k = 10\nseed = 1\n")
    monkeypatch.setenv("LOCALLLM_N_CTX", "2048")
    monkeypatch.setenv("LOCALLLM_TOP_K", "20")
    settings = load_settings({"n_ctx": 4096, "top_k": None})
    assert (settings.n_ctx, settings.top_k, settings.seed, settings.min_p) == (4096, 20, 1, 0.05)
    assert [settings.source(name) for name in ("n_ctx", "top_k", "seed", "min_p")] == [
        "--n-ctx",
        "LOCALLLM_TOP_K",
        str(file),
        "default",
    ]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        load_settings().n_ctx = 1  # type: ignore[misc]


def test_every_setting_explains_itself() -> None:
    for name in Settings.names():
        assert Settings.help(name).endswith("."), name


def test_kv_type_is_for_both_or_for_each() -> None:
    both = load_settings({"kv_type": "q8_0"})
    each = load_settings({"kv_type": "q8_0,f16"})
    assert both.kv_types == ("q8_0", "q8_0")
    assert each.kv_types == ("q8_0", "f16")


def test_a_kv_type_for_one_side_goes_before_the_one_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"kv_type_v": "q4_0"}).kv_types == ("f16", "q4_0")
    assert load_settings({"kv_type": "q8_0", "kv_type_k": "bf16"}).kv_types == ("bf16", "q8_0")
    assert load_settings({"kv_type": "auto"}).kv_types == ("auto", "auto")
    monkeypatch.setenv("LOCALLLM_KV_TYPE_K", "q5_1")
    assert load_settings({"kv_type": "q8_0"}).kv_types == ("q5_1", "q8_0")
    assert load_settings({"kv_type": "q8_0", "kv_type_k": "same"}).kv_types == ("q8_0", "q8_0")


def test_kv_types_are_those_the_planner_knows() -> None:
    assert tuple(KV_TYPES) == KV_TYPE_NAMES


@pytest.mark.parametrize(
    ("name", "word"), [("n_ctx", "auto"), ("threads", "auto"), ("seed", "random"), ("max_tokens", "none")]
)
def test_a_word_overrides_a_weaker_number(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(f"{name} = 7\n")
    monkeypatch.setenv(f"LOCALLLM_{name.upper()}", word)
    assert getattr(load_settings(), name) is None


def test_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_N_CTX", "")
    assert load_settings().source("n_ctx") == "default"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LOCALLLM_N_CTX", "0", "an integer from 1"),
        ("LOCALLLM_N_CTX", "1" * 5000, "an integer from 1"),
        ("LOCALLLM_N_CTX", " 1_0", "an integer from 1"),
        ("LOCALLLM_THREADS", "-1", "from 1 to 512"),
        ("LOCALLLM_GPU_LAYERS", "most", "auto, all"),
        ("LOCALLLM_GPU_LAYERS", "-1", "auto, all"),
        ("LOCALLLM_KV_TYPE", "q8", "did you mean q8_0"),
        ("LOCALLLM_KV_TYPE", "f16,f16,f16", "K,V"),
        ("LOCALLLM_SEED", "4294967296", "from 0 to 4294967295, or random"),
        ("LOCALLLM_TEMPERATURE", "nan", "a number from 0"),
        ("LOCALLLM_TEMPERATURE", "hot", "a number from 0"),
        ("LOCALLLM_TOP_P", "1.5", "from 0 to 1"),
        ("LOCALLLM_LOG_LEVEL", "verbose", "debug, info, warning, error"),
    ],
)
def test_bad_variable_is_refused_with_what_is_allowed(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(RequestError) as caught:
        load_settings()
    assert variable in caught.value.message and said in caught.value.message
    assert len(caught.value.message) < 300


def test_bad_value_in_the_file_names_file_and_key() -> None:
    file = write_config("top_p = true\n")
    with pytest.raises(RequestError) as caught:
        load_settings({"top_p": 0.5})
    assert str(file) in caught.value.message and "top_p" in caught.value.message


def test_unknown_key_in_the_file_is_refused_with_the_nearest() -> None:
    file = write_config("n_ctxt = 4096\n")
    with pytest.raises(RequestError, match=r"Did you mean n_ctx\?") as caught:
        load_settings()
    assert str(file) in caught.value.message


def test_unknown_variable_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_TEMP", "1")
    with pytest.raises(RequestError, match="LOCALLLM_TEMPERATURE"):
        load_settings()


def test_unknown_flag_and_unknown_source_are_refused() -> None:
    with pytest.raises(RequestError, match="top_k"):
        load_settings({"topk": 1})
    with pytest.raises(RequestError, match="n_ctx"):
        load_settings().source("ctx")


def test_variables_of_the_tests_are_not_settings() -> None:
    assert load_settings(environ={"LOCALLLM_TEST_MODEL": "x", "LOCALLLM_HOME": "/h"}) == Settings()


@pytest.mark.parametrize("content", [b"n_ctx = ", b"\xff\xfe", b"[n_ctx]\na = 1\n"])
def test_a_file_that_is_not_settings_is_refused_by_name(content: bytes) -> None:
    file = write_config("")
    file.write_bytes(content)
    with pytest.raises(RequestError, match=r"config\.toml"):
        load_settings()


def test_a_directory_in_the_files_place_is_refused() -> None:
    paths.ensure(paths.config_file())
    with pytest.raises(RequestError, match="Cannot read"):
        load_settings()


def test_toml_is_not_imported_without_a_file() -> None:
    code = "import sys; from localllm.config import load_settings; load_settings(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "localllm.config" in done.stdout.split() and "tomllib" not in done.stdout.split()


@given(name=st.sampled_from(Settings.names()), text=st.text(min_size=1, max_size=40))
def test_any_text_is_a_value_or_a_request_error(name: str, text: str) -> None:
    variable = f"LOCALLLM_{name.upper()}"
    try:
        settings = load_settings(environ={variable: text}, file=Path("/nowhere/config.toml"))
    except RequestError:
        return
    assert settings.source(name) == variable
