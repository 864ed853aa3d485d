"""Loading, facts, and errors that say why."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.errors import ModelLoadFailed, UnsupportedModel
from localllm.llama import Model, ModelParams, build_info, last_log_errors, list_devices
from localllm.llama.library import system_info
from localllm.llama.model import load_error
from tests.tiny_model import vocabulary, write_tiny_model


def test_facts_are_those_of_the_file(model: Model, tiny_path: Path) -> None:
    assert (model.n_layer, model.n_embd, model.n_embd_out, model.n_ctx_train) == (2, 64, 64, 512)
    assert model.description == "llama ?B all F32"
    assert 0 < model.size_bytes < tiny_path.stat().st_size
    assert model.n_params == model.size_bytes // 4
    assert model.has_decoder and not model.has_encoder and model.can_roll_back


def test_metadata_by_key_and_enumerated(model: Model) -> None:
    items = dict(model.metadata_items())
    assert items["general.name"] == model.metadata("general.name") == "tiny"
    assert items["llama.block_count"] == "2"
    assert model.metadata("no.such.key") is None


def test_long_metadata_is_whole(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", extra={"general.description": "é" * 3000}, chat_template=None)
    with Model(path, ModelParams(vocab_only=True)) as model:
        assert model.metadata("general.description") == "é" * 3000
        assert dict(model.metadata_items())["general.description"] == "é" * 3000
        assert model.chat_template() is None


def test_loads_again_after_close(tiny_path: Path) -> None:
    for _ in range(2):
        model = Model(tiny_path)
        model.close()
        model.close()


USES: dict[str, Callable[[Model], object]] = {
    "handle": lambda m: m.handle,
    "n_params": lambda m: m.n_params,
    "metadata": lambda m: m.metadata("general.name"),
    "metadata_items": lambda m: list(m.metadata_items()),
    "chat_template": lambda m: m.chat_template(),
    "tokenize": lambda m: m.vocab.tokenize("x", add_special=False, parse_special=False),
    "piece": lambda m: m.vocab.piece(0),
    "is_eog": lambda m: m.vocab.is_eog(1),
    "bos": lambda m: m.vocab.bos,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_use_after_close_raises(tiny_path: Path, use: Callable[[Model], object]) -> None:
    model = Model(tiny_path)
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        use(model)


def test_progress_rises_to_one(tiny_path: Path) -> None:
    shares: list[float] = []
    Model(tiny_path, on_progress=lambda share: shares.append(share) or True).close()
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_progress_that_returns_false_stops_the_load(tiny_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="stopped"):
        Model(tiny_path, on_progress=lambda share: False)


def test_exception_in_progress_is_raised(tiny_path: Path) -> None:
    def interrupt(share: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Model(tiny_path, on_progress=interrupt)


def test_unknown_architecture_is_unsupported(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", arch="llama")
    data = path.read_bytes().replace(b"llama", b"lxama")
    path.write_bytes(data)
    with pytest.raises(UnsupportedModel, match="unknown model architecture: 'lxama'") as caught:
        Model(path)
    assert caught.value.hint is not None and "update" in caught.value.hint


def test_unknown_pre_tokenizer_is_unsupported(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"gpt-2", b"gpt-x"))
    with pytest.raises(UnsupportedModel, match="gpt-x"):
        Model(path)


def test_wrong_shape_names_the_tensor(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(path, "r+")
    reader.fields["llama.feed_forward_length"].parts[-1][0] = 96
    reader.data.flush()
    with pytest.raises(ModelLoadFailed, match=r"blk\.0\.ffn_gate\.weight.*wrong shape"):
        Model(path)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    with pytest.raises(ModelLoadFailed, match=r"blk\.1\.ffn_up\.weight"):
        Model(path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="No such file"):
        Model(tmp_path / "none.gguf")


@pytest.mark.skipif(os.name != "posix", reason="names that are not text")
def test_file_name_need_not_be_text(tmp_path: Path, tiny_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.gguf"))
    path.write_bytes(tiny_path.read_bytes())
    with Model(path) as model:
        assert model.n_layer == 2


def test_log_errors_belong_to_their_thread(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def fail() -> None:
        with pytest.raises(ModelLoadFailed):
            Model(tmp_path / "none.gguf")
        seen.append(last_log_errors())

    last_log_errors(clear=True)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert seen == [[]]
    assert last_log_errors() == []


def test_load_error_without_a_log_still_says_something() -> None:
    assert "no reason given" in load_error(Path("x.gguf"), []).message


def test_devices_and_build() -> None:
    devices = list_devices()
    assert any(device.kind == "cpu" and device.memory_total_bytes > 0 for device in devices)
    assert build_info()
    assert "=" in system_info()


def test_vocab_only_has_no_weights(tiny_path: Path) -> None:
    with Model(tiny_path, ModelParams(vocab_only=True)) as model:
        assert model.vocab.n_tokens == len(vocabulary())


def test_without_mmap_the_same_logits(tiny_path: Path) -> None:
    from localllm.llama import Context, ContextParams
    from tests.llama.running import feed

    logits = []
    for use_mmap in (True, False):
        with (
            Model(tiny_path, ModelParams(use_mmap=use_mmap)) as model,
            Context(model, ContextParams(n_ctx=256, n_threads=1)) as context,
        ):
            logits.append(feed(context))
    np.testing.assert_array_equal(*logits)
