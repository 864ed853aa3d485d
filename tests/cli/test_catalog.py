"""`localllm catalog` lists, filters, and shows what fits the terminal."""

from __future__ import annotations

import json
import sys

import pytest

from localllm import paths
from localllm.cli.catalog import WIDE, context, file_size
from localllm.cli.catalog_page import PATH, page
from localllm.cli.tables import cut
from localllm.hub.catalog import shipped_catalog
from localllm.hub.preference import ORDER
from tests.cli.conftest import Cli

NAMES = list(shipped_catalog().entries)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", f"{width}")


def write_own(text: str) -> None:
    (paths.ensure(paths.config_dir()) / "models.toml").write_text(text, encoding="utf-8")


def test_every_model_has_a_line(cli: Cli) -> None:
    result = cli("catalog")
    assert (result.code, result.err) == (0, "")
    head, *lines = result.out.splitlines()
    assert head.split("  ")[0] == "name" and head.endswith("good at")
    assert [line.split()[0] for line in lines] == NAMES
    (line,) = (line for line in lines if line.startswith("qwen3-8b "))
    assert line.split()[1:6] == ["8.19B", "40K", "4.7", "GiB", "Apache-2.0"]


def test_words_and_kind_choose(cli: Cli) -> None:
    lines = cli("catalog", "qwen", "coder", "--kind", "code").out.splitlines()[1:]
    assert lines and all(line.startswith("qwen") and "coder" in line for line in lines)


def test_json_has_all_that_is_known(cli: Cli) -> None:
    result = cli("catalog", "gpt-oss", "--json")
    (record,) = json.loads(result.out)
    assert (record["name"], record["default_tag"], record["n_layers"]) == ("gpt-oss-20b", "MXFP4", 24)
    assert record["files"]["MXFP4"][0]["path"] == "gpt-oss-20b-MXFP4.gguf"
    assert record["sampling"]["temperature"] == 1.0


def test_nothing_found_is_an_error_and_in_json_an_empty_array(cli: Cli) -> None:
    result = cli("catalog", "no-such-model")
    assert (result.code, result.out) == (4, "")
    assert result.err.splitlines()[0] == "error: No model of the catalog fits that."
    result = cli("catalog", "no-such-model", "--json")
    assert (result.code, json.loads(result.out), result.err) == (0, [], "")


def test_unknown_kind_is_a_usage_error(cli: Cli) -> None:
    result = cli("catalog", "--kind", "talk")
    assert (result.code, result.out) == (2, "")
    assert "'talk' is none of chat, code, reasoning, embedding, rerank." in result.err


@pytest.mark.parametrize("width", [40, 80, WIDE, 200])
def test_no_line_is_wider_than_the_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    on_a_terminal(monkeypatch, width)
    lines = cli("catalog").out.splitlines()
    assert max(map(len, lines)) <= width
    assert ("licence" in lines[0]) == (width >= WIDE)
    assert len(lines) == len(NAMES) + 1


def test_mistakes_in_the_users_file_are_warnings_here(cli: Cli) -> None:
    write_own("[qwen3-8b]\nn_ctx = -1\n[mine]\nrepo = 'me/x'\nkind = 'chat'\n")
    result = cli("catalog")
    assert result.code == 0
    assert result.err.startswith("warning: ") and "line 2: qwen3-8b: n_ctx is -1" in result.err
    names = [line.split()[0] for line in result.out.splitlines()[1:]]
    assert "mine" in names and "qwen3-8b" not in names


def test_model_of_which_little_is_known_has_empty_cells(cli: Cli) -> None:
    write_own("[mine]\nrepo = 'me/x'\nkind = 'chat'\ngated = true\n")
    assert cli("catalog", "mine").out.splitlines()[1].split() == ["mine", "(gated)"]


def test_numbers_are_written_as_people_call_them() -> None:
    assert [context(n) for n in (None, 8192, 40960, 131072, 1000)] == ["", "8K", "40K", "128K", "1,000"]
    assert [file_size(n) for n in (None, 98_362_432, 5_027_783_488)] == ["", "93.8 MiB", "4.7 GiB"]


def test_line_is_cut_after_a_whole_word() -> None:
    assert cut("one two three four", 18) == "one two three four"
    assert cut("one two three four", 17) == "one two three…"
    assert cut("one twothreefourfivesix", 12) == "one twothre…"
    assert [len(cut("one two three", width)) for width in (1, 2, 3)] == [1, 2, 3]


def test_page_of_models_is_up_to_date() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert text == page(text), "Run: python -m localllm.cli.catalog_page"
    assert all(f"`{name}`" in text for name in NAMES)
    assert ", ".join(ORDER[:2]) in " ".join(text.split())
