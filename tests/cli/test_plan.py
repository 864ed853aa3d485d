"""`localllm plan`, with tiny models on this machine and on a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm import paths
from tests.cli.conftest import Cli
from tests.hub.commands import Commands
from tests.hub.local_hub import LocalHub
from tests.hub.test_remote_header import Files
from tests.store.layouts import HubCache
from tests.tiny_model import write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf")


@pytest.fixture(autouse=True)
def busy_cores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What other programs take of this machine, whatever they really do."""
    cores = [0.0]
    monkeypatch.setattr("localllm.runtime.speed.n_busy_cores", lambda: cores[0])
    return cores


def test_a_plan_says_what_it_takes_and_how_fast_it_is(cli: Cli, model: Path) -> None:
    result = cli("plan", str(model), "--threads", "1", "--slots", "2", "--n-ctx", "512")
    assert (result.code, result.err) == (0, "")
    for word in ("tiny.gguf", "512 tokens, shared by 2", "Weights", "KV cache", "In RAM", "tokens/s", "Also fits"):
        assert word in result.out


def test_programs_get_numbers(cli: Cli, model: Path) -> None:
    fields = json.loads(cli("plan", str(model), "--threads", "1", "--kv-type", "q8_0", "--json").out)
    plan = fields["plan"]
    assert (fields["fits"], plan["kv_type_k"], plan["n_threads"]) == (True, "q8_0", 1)
    parts = plan["estimate"]
    assert parts["total_bytes"] == parts["weights_bytes"] + parts["kv_bytes"] + parts["compute_bytes"]
    assert plan["speed"]["decode_tok_s"] > plan["speed"]["decode_full_tok_s"] > 0
    assert {"flags", "n_ctx", "estimate"} <= set(fields["alternatives"][0])


def test_what_does_not_fit_is_exit_code_5_with_what_would(cli: Cli, model: Path) -> None:
    result = cli("plan", str(model), "--n-ctx", "2000000000", "--threads", "1")
    assert result.code == 5
    assert "What would fit" in result.out and "--n-ctx" in result.out
    assert result.err.startswith("error: Needs ")


def test_without_speed_nothing_is_measured(cli: Cli, model: Path, home: Path) -> None:
    fields = json.loads(cli("plan", str(model), "--no-speed", "--json").out)
    assert fields["plan"]["speed"] is None
    assert not (home / "cache" / "speed.json").exists()


def test_a_measurement_is_recalled_unless_asked_again(cli: Cli, model: Path, home: Path) -> None:
    cli("plan", str(model), "--threads", "1")
    file = home / "cache" / "speed.json"
    (key, costs), *_ = json.loads(file.read_text()).items()
    file.write_text(json.dumps({key: costs | {"decode_layers_s": 1000.0}}))
    assert "0.001 tokens/s" in cli("plan", str(model), "--threads", "1").out
    assert "0.001 tokens/s" not in cli("plan", str(model), "--threads", "1", "--again").out


def test_what_is_measured_beside_busy_programs_is_said_so_and_not_kept(
    cli: Cli, model: Path, home: Path, busy_cores: list[float]
) -> None:
    busy_cores[0] = 1.5
    assert "Ask again when they are done." in cli("plan", str(model), "--threads", "1").out
    assert json.loads(cli("plan", str(model), "--threads", "1", "--json").out)["is_disturbed"]
    assert not (home / "cache" / "speed.json").exists()
    busy_cores[0] = 0.0
    assert "Ask again" not in cli("plan", str(model), "--threads", "1").out
    busy_cores[0] = 1.5
    assert not json.loads(cli("plan", str(model), "--threads", "1", "--json").out)["is_disturbed"], "recalled"


def test_a_file_on_a_server_is_planned_like_one_on_this_disk(cli: Cli, model: Path, tmp_path: Path) -> None:
    files = Files(tmp_path)
    try:
        far, near = (
            json.loads(cli("plan", ref, "--no-speed", "--json").out) for ref in (f"{files.url}/tiny.gguf", str(model))
        )
    finally:
        files.server.shutdown()
        files.server.server_close()
    assert far["plan"]["estimate"] == near["plan"]["estimate"]
    assert (far["model"], files.n_sent) == ("tiny.gguf", model.stat().st_size)


def test_a_draft_model_is_counted(cli: Cli, model: Path) -> None:
    alone, both = (
        json.loads(cli("plan", str(model), "--no-speed", "--json", *more).out)["plan"]["estimate"]["total_bytes"]
        for more in ((), ("--draft-model", str(model)))
    )
    assert both > alone + model.stat().st_size // 2


def test_a_repository_is_planned_by_the_file_that_would_be_pulled(tmp_path: Path) -> None:
    with LocalHub() as hub:
        small, large = write_tiny_model(tmp_path / "a.gguf"), write_tiny_model(tmp_path / "b.gguf", n_layer=4)
        hub.add("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": small, "tiny-Q8_0.gguf": large})
        commands = Commands(hub, tmp_path / "hf")
        for ref, n_layers in (("org/tiny-GGUF", 2), ("org/tiny-GGUF:Q8_0", 4)):
            code, out, err = commands.run("plan", ref, "--no-speed")
            assert (code, err) == (0, ""), err
            assert f"{n_layers} layers" in out
        assert commands.run("plan", "org/none-GGUF", "--no-speed")[0] == 13
        assert not commands.snapshots, "nothing is downloaded"


def test_a_name_of_the_catalog_has_its_other_files(cli: Cli, model: Path, home: Path) -> None:
    n_bytes = model.stat().st_size
    own = paths.ensure(paths.config_dir()) / "models.toml"
    files = "".join(
        f'{tag} = {{ path = "tiny-{tag}.gguf", size_bytes = {size} }}\n'
        for tag, size in (("Q4_K_M", n_bytes), ("Q8_0", 2 * n_bytes))
    )
    table = '[tiny]\ntitle = "Tiny"\nkind = "chat"\nrepo = "org/tiny-GGUF"\n'
    own.write_text(f"{table}[tiny.files]\n{files}", encoding="utf-8")
    HubCache(home / "huggingface" / "hub").add("org/tiny-GGUF", "tiny-Q4_K_M.gguf", model.read_bytes())
    result = cli("plan", "tiny", "--threads", "1", "--n-ctx", "512", "--json")
    fields = json.loads(result.out)
    assert [file["name"] for file in fields["files"]] == ["tiny:Q8_0"]
    ratio = fields["files"][0]["estimate"]["weights_bytes"] / fields["plan"]["estimate"]["weights_bytes"]
    assert ratio > 1.9
    assert "tiny:Q8_0" in cli("plan", "tiny", "--threads", "1", "--n-ctx", "512").out


def test_rpc_is_refused_where_llama_cpp_has_none(cli: Cli, model: Path) -> None:
    result = cli("plan", str(model), "--rpc", "127.0.0.1:1")
    assert result.code != 0
    assert "RPC" in result.err
