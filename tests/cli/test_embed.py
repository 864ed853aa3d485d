"""`localllm embed`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli
from tests.scripted_backend import N_EMBD


def test_each_text_is_a_line_of_numbers(cli: Cli) -> None:
    result = cli("embed", "--model", "m.gguf", "bb", "ab")
    lines = [[float(number) for number in line.split()] for line in result.out.splitlines()]
    assert (result.code, result.err, cli.loads[0]["ref"]) == (0, "", "m.gguf")
    assert [len(line) for line in lines] == [N_EMBD] * 2
    assert lines[0] == [0, 0, 1, 0, 0, 0, 0, 0]
    assert cli.backend.closed


def test_json_is_one_object_of_this_shape(cli: Cli) -> None:
    fields = json.loads(cli("embed", "--json", "--dimensions", "3", "bb", "a").out)
    assert fields == {"model": "scripted", "vectors": [[0, 0, 1], [0, 1, 0]], "n_tokens": 3}


def test_lines_of_stdin_are_texts(cli: Cli) -> None:
    assert len(cli("embed", stdin="one\n\ntwo\nthree\n").out.splitlines()) == 3
    assert [request.inputs for request in cli.backend.vector_requests] == [("one", "two", "three")]  # type: ignore[union-attr]


@pytest.mark.parametrize("stdin", [None, "", "\n \n"])
def test_no_text_is_an_error_with_a_hint(cli: Cli, stdin: str | None) -> None:
    result = cli("embed", stdin=stdin)
    assert result.code != 0 and "There is no text." in result.err and "localllm embed" in result.err
    assert cli.loads == []
