"""The recipes of docs/recipes.md run exactly as they stand there, against a real server and a real model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.process import serving

pytestmark = pytest.mark.real

TEXT = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = {
    name: (language, body)
    for name, language, body in re.findall(r"<!-- recipe: (\S+) -->\n```(\w+)\n(.*?)```", TEXT, flags=re.S)
}
ADDRESS = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("served")
    with serving("--preload", "--n-ctx", "2048", name="smollm2", LOCALLLM_HOME=str(home)) as url:
        yield url


def run(name: str, server: str) -> str:
    """Run a recipe and return what it printed."""
    language, body = RECIPES[name]
    assert ADDRESS in body
    body = body.replace(ADDRESS, server)
    command = [sys.executable, "-c", body] if language == "python" else ["bash", "-euc", body]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_PROXY")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_recipe_of_curl(server: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    out = run("curl", server)
    assert "data: [DONE]" in out
    decoder = json.JSONDecoder()
    person = decoder.raw_decode(out, out.index("[DONE]") + len("[DONE]\n\n"))[0]
    assert set(json.loads(person["choices"][0]["message"]["content"])) == {"name", "age"}
    assert '"id":"smollm2"' in out


def test_recipe_of_openai(server: str) -> None:
    assert len(run("openai", server).split()) > 3


def test_recipe_of_openai_with_a_schema(server: str) -> None:
    assert re.fullmatch(r"sentiment='(good|bad|mixed)' certain=(True|False)\n", run("openai-schema", server))


def test_recipe_of_openai_with_tools(server: str) -> None:
    assert re.match(r"weather \{'city': '(Paris|Rome)'\}\nChatCompletionMessage", run("openai-tools", server))


def test_recipe_of_anthropic(server: str) -> None:
    if "/v1/messages" not in httpx.get(f"{server}/openapi.json").json()["paths"]:
        pytest.skip("this server has no /v1/messages")
    assert len(run("anthropic", server).split()) > 3


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_names_the_address_of_the_others(name: str) -> None:
    addresses = set(re.findall(r"https?://[\w.]+:\d+", RECIPES[name][1]))
    assert addresses == {ADDRESS}
