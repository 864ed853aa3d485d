"""`localllm list`, `rm`, `import` and `verify`, and the names of models in other verbs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from localllm.config import load_settings
from tests.cli.conftest import Cli
from tests.store.layouts import HubCache, Ollama, tiny_gguf, write_file
from tests.tiny_model import write_tiny_model

pytestmark = pytest.mark.usefixtures("no_demo")


def test_list_shows_what_is_where(cli: Cli, hub: HubCache, ollama: Ollama, own: Path) -> None:
    hub.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(1))
    ollama.add("llama3.2", "1b", tiny_gguf(2))
    write_file(own / "mine.gguf")
    result = cli("list")
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[0] == ["model", "size", "weights", "quantization", "context", "kind", "place"]
    assert [(row[0], row[-1]) for row in rows[1:]] == [
        ("mine", "localllm"),
        ("org/repo:Q4_K_M", "huggingface"),
        ("llama3.2:1b", "ollama"),
    ]
    assert rows[2][3:7] == ["7B", "Q4_K_M", "4,096", "text"]
    assert result.code == 0 and "3 models" in result.err


def test_list_as_json_is_one_array(cli: Cli, hub: HubCache) -> None:
    link = hub.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(1))
    (model,) = json.loads(cli("list", "--json").out)
    assert model["ref"] == "org/repo:Q4_K_M" and model["paths"] == [str(link)]
    assert (model["place"], model["architecture"], model["kind"]) == ("huggingface", "llama", "text")
    assert (model["n_bytes"], model["n_ctx_train"]) == (len(tiny_gguf()), 4096)


def test_empty_list_says_how_to_begin(cli: Cli) -> None:
    result = cli("list")
    assert (result.code, result.out) == (0, "") and "localllm pull" in result.err
    assert json.loads(cli("list", "--json").out) == []


def test_damaged_file_is_listed_as_such(cli: Cli, own: Path) -> None:
    write_file(own / "bad.gguf", b"<html>")
    result = cli("list")
    assert "damaged" in result.out and "a web page" in result.err and result.code == 0


def test_escape_sequences_of_names_and_headers_reach_no_terminal(cli: Cli, own: Path) -> None:
    write_file(own / "\x1b[2Jevil.gguf", tiny_gguf(label="\x1b]0;x\x07"))
    for verb in (["list"], ["verify"], ["rm", "\x1b[2Jevil", "-y"]):
        result = cli(*verb)
        assert result.code == 0 and "\x1b" not in result.out + result.err


def test_flag_names_more_folders(cli: Cli, tmp_path: Path) -> None:
    write_file(tmp_path / "more" / "m.gguf")
    assert "folder" in cli("list", "--model-dirs", str(tmp_path / "more")).out


def test_rm_without_anybody_to_ask_deletes_nothing(cli: Cli, own: Path) -> None:
    path = write_file(own / "m.gguf")
    result = cli("rm", "m", stdin="y\n")
    assert result.code == 6 and "Add --yes" in result.err and path.is_file()


@pytest.mark.parametrize(("answer", "is_there"), [("y", False), ("n", True)])
def test_rm_asks_on_a_terminal(
    answer: str, is_there: bool, cli: Cli, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(own / "m.gguf")
    monkeypatch.setattr(click, "confirm", lambda *_, **__: answer == "y")
    result = cli("rm", "m")
    assert path.exists() is is_there and result.code == (130 if is_there else 0)
    assert "frees 4." in result.err


def test_rm_says_what_it_freed(cli: Cli, hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    result = cli("rm", "org/repo", "--yes")
    assert result.code == 0 and result.out.startswith("Freed 4.")
    assert "org/repo:Q4_0" in result.err


def test_rm_of_a_name_that_fits_several_models_is_refused(cli: Cli, hub: HubCache) -> None:
    for tag in ("Q4_K_M", "Q8_0"):
        hub.add("org/repo", f"x-{tag}.gguf", tiny_gguf(len(tag)))
    for ref in ("org/repo", "hf.co/org/repo"):
        result = cli("rm", ref, "-y")
        assert result.code == 6 and "fits 2 models: org/repo:Q4_K_M, org/repo:Q8_0." in result.err
    assert cli("rm", "org/repo:Q8_0", "-y").code == cli("rm", "org/repo", "-y").code == 0


def test_rm_dry_run_is_only_words(cli: Cli, own: Path) -> None:
    path = write_file(own / "m.gguf")
    said = json.loads(cli("rm", "m", "--dry-run", "--json").out)
    assert said == {"files": [str(path)], "freed_bytes": len(tiny_gguf()), "deleted": False, "remarks": []}
    assert path.is_file()


def test_rm_of_another_programs_model_needs_its_name(cli: Cli, ollama: Ollama) -> None:
    ollama.add("m", "1b", tiny_gguf(1))
    result = cli("rm", "m:1b", "-y")
    assert result.code == 6 and "--force ollama" in result.err and ollama.blob(tiny_gguf(1)).is_file()
    assert cli("rm", "m:1b", "-y", "--force", "ollama").code == 0
    assert not ollama.blob(tiny_gguf(1)).exists()


def test_rm_of_a_path_that_is_in_no_place_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = write_file(tmp_path / "m.gguf")
    result = cli("rm", str(path), "-y")
    assert result.code == 4 and "in none of the places" in result.err and path.is_file()


def test_import_prints_the_name_that_then_works(cli: Cli, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    result = cli("import", str(path), "--name", "coder", "--copy")
    assert (result.code, result.out) == (0, "coder\n")
    assert "Architecture  llama" in cli("show", "coder").out
    path.unlink()
    assert cli("verify", "coder").out == "ok       coder (sha256)\n"


def test_import_of_no_model_says_why(cli: Cli, tmp_path: Path) -> None:
    path = write_file(tmp_path / "m.gguf", b"<html>")
    result = cli("import", str(path))
    assert result.code == 3 and "a web page" in result.err


def test_verify_ends_with_an_error_if_one_is_damaged(cli: Cli, hub: HubCache, own: Path) -> None:
    write_file(own / "good.gguf")
    blob = hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1)).resolve()
    blob.write_bytes(tiny_gguf(2))
    result = cli("verify")
    assert result.code == 3 and "1 of 2 models are damaged" in result.err
    good, bad = result.out.splitlines()
    assert good == "ok       good (header)"
    assert bad.startswith("damaged  org/repo:Q4_0: ") and "localllm pull" in bad
    said = json.loads(cli("verify", "--json").out)
    assert [one["is_ok"] for one in said] == [True, False]
    assert cli("verify", "good").code == 0


@pytest.mark.parametrize(
    "command",
    [
        ["show", "m"],
        ["run", "m", "Hi"],
        ["run", "m"],
        ["run", "m", "--draft-model", "m", "Hi"],
        ["chat", "m"],
        ["eval", "m"],
        ["embed", "--model", "m", "text"],
        ["inspect", "m", "--outliers"],
        ["imatrix", "m", "out.gguf"],
        ["quantize", "m", "out.gguf", "--type", "Q8_0"],
        ["bench", "m"],
    ],
)
def test_verbs_find_models_by_name(
    command: list[str], cli: Cli, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_file(own / "m.gguf", b"GGUF\x03 and no more")
    monkeypatch.setattr("localllm.cli.model.load", real_load())
    result = cli(*command, stdin="Hi\n")
    assert result.code == 3 and "m.gguf: " in result.err, result.err


def real_load() -> Callable[..., object]:
    from localllm.llm import load

    return load


def test_misspelt_name_is_the_same_error_everywhere(cli: Cli, own: Path) -> None:
    write_file(own / "my-model.gguf")
    for arguments in (["show"], ["eval"], ["inspect", "--outliers"]):
        result = cli(*arguments, "my-modell")
        assert result.code == 4 and "Did you mean my-model?" in result.err


def test_name_alone_is_a_prompt_unless_a_model_has_it(cli: Cli, own: Path) -> None:
    write_file(own / "m.gguf")
    cli.says("Hello")
    assert cli("run", "m", stdin="Why?").code == 0
    cli.says("Hello")
    assert cli("run", "hello", stdin="Why?").code == 0
    assert [load["ref"] for load in cli.loads] == ["m", None]


def test_help_reads_no_place_and_imports_no_heavy_package() -> None:
    code = (
        "import sys\nsys.argv = ['localllm', '--help']\nfrom localllm.cli import main\nmain()\n"
        "heavy = {'huggingface_hub', 'numpy', 'localllm.store.inventory', 'localllm.gguf'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_list_imports_no_heavy_package(home: Path) -> None:
    code = (
        "import sys\nsys.argv = ['localllm', 'list']\nfrom localllm.cli import main\nmain()\n"
        "heavy = {'huggingface_hub', 'numpy', 'llama_cpp', 'gguf'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_list_with_two_hundred_models_opens_each_file_once(
    cli: Cli, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(200):
        write_file(own / f"m{i}.gguf", tiny_gguf(i))
    opened = SimpleNamespace(n=0)
    from localllm.store import facts

    def glancing(path: Path) -> object:
        opened.n += 1
        return facts_glance(path)

    facts_glance = facts.glance
    monkeypatch.setattr(facts, "glance", glancing)
    assert len(cli("list").out.splitlines()) == len(cli("list").out.splitlines()) == 201
    assert opened.n == 200


def test_settings_know_the_folders(tmp_path: Path) -> None:
    assert load_settings({"model_dirs": f"{tmp_path}"}).model_dirs == (tmp_path,)
    assert load_settings({"model_dirs": ["~/x"]}).model_dirs == (Path.home() / "x",)
