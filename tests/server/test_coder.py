"""A real code model behind /infill, Ollama's suffix and Ollama's tools.

Its file comes from LOCALLLM_TEST_CODER: Qwen2.5-Coder-1.5B-Instruct, in any quantization.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from tests.server.running import Running, serving_files

pytestmark = pytest.mark.slow

ADD = {"input_prefix": "def add(a: int, b: int) -> int:\n    return ", "input_suffix": "\n\n\nprint(add(1, 2))\n"}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    path = os.environ.get("LOCALLLM_TEST_CODER")
    if path is None:
        pytest.skip("LOCALLLM_TEST_CODER names no code model")
    with serving_files({"coder": Path(path)}, n_ctx=256) as running:
        running.http.timeout = 300
        yield running


def test_a_gap_in_code_is_filled(server: Running) -> None:
    body = server.post("/infill", **ADD, n_predict=8, temperature=0, stop=["\n"]).json()
    assert body["content"].strip() == "a + b" and body["truncated"] is False


def test_other_files_help(server: Running) -> None:
    extra = [{"filename": "geometry.py", "text": "def area_of_disc(radius):\n    return 3.14159 * radius**2\n"}]
    gap = {"input_prefix": "import geometry\n\n\ndef pizza(radius):\n    return geometry.", "input_suffix": "\n"}
    body = server.post("/infill", **gap, input_extra=extra, n_predict=8, temperature=0, stop=["\n", "("]).json()
    assert body["content"] == "area_of_disc"


def test_a_long_file_is_cut_far_from_the_gap(server: Running) -> None:
    prefix = "# filler line\n" * 200 + ADD["input_prefix"]
    body = server.post(
        "/infill", input_prefix=prefix, input_suffix=ADD["input_suffix"], n_predict=8, temperature=0
    ).json()
    assert body["content"].startswith("a + b") and body["truncated"] is True and body["tokens_dropped"] > 300


def test_ollamas_suffix_and_tools(server: Running) -> None:
    client = ollama.Client(host=server.url, timeout=300)
    assert set(client.show("coder").capabilities or ()) == {"completion", "tools", "insert"}
    options = {"temperature": 0, "num_predict": 8, "stop": ["\n"]}
    filled = client.generate(model="coder", prompt=ADD["input_prefix"], suffix=ADD["input_suffix"], options=options)
    assert (filled.response or "").strip() == "a + b"

    def get_weather(city: str) -> str:
        """Get the weather in a city.

        Args:
            city: its name
        """
        return city

    answer = client.chat(
        model="coder",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[get_weather],
        options={"temperature": 0, "num_predict": 64},
    )
    [call] = answer.message.tool_calls or ()
    assert call.function.name == "get_weather" and call.function.arguments == {"city": "Paris"}
