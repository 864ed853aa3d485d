"""The demo model, in the app."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.config import load_settings
from tests.demo_model import require_demo_model
from tests.tui.chat.talking import Chat
from tests.tui.driving import until
from tui.app import LocalLLM
from tui.first_run import mark_welcomed


@pytest.mark.real
async def test_the_demo_model_answers(home: Path) -> None:
    require_demo_model()
    mark_welcomed()
    app = LocalLLM(load_settings({"model": "smollm2", "n_ctx": 512, "max_tokens": 16}))
    async with app.run_test(size=(80, 24)) as pilot:
        chat = await Chat.opened(app, pilot)
        await chat.write("Hello there")
        await chat.press("enter")
        await until(pilot, lambda: len(chat.path) == 2 and chat.path[1].state != "writing", limit_s=120)
        answer = chat.path[1]
        assert answer.text and answer.state in ("done", "length") and answer.model == "smollm2"
        assert answer.facts["usage"]["prompt_tokens"] > 0 and answer.facts["timings"]["decode_tok_s"] > 0
