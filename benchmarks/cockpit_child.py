"""The app with a scripted model, for benchmarks/cockpit.py: python benchmarks/cockpit_child.py TOKENS_PER_SECOND

The app, the chat and the store of conversations are the real ones; only the model is not: it says varied Markdown for
ever, byte by byte, so that there are four events for each token of a real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from localllm.config import load_settings
from localllm.engine.request import GenerationRequest
from localllm.llm.model import LLM
from localllm.runtime.backend import Sink, TextControls
from tui.app import LocalLLM
from tui.first_run import mark_welcomed

N_BYTES_A_TOKEN = 4
MARKDOWN = """## A heading of some words

A paragraph with *emphasis*, `code` and **strong words**, long enough to be wrapped at eighty columns and more.

1. one thing, and then some words about it
2. another thing
   - with something inside it

| name | number |
|------|-------:|
| one  |      1 |
| two  |      2 |

```python
def total(numbers):
    return sum(number for number in numbers if number > 0)  # what is left
```

"""


def open_llm(ref: str, *, on_progress: Callable[[float], None], **options: Any) -> LLM:
    """Load a model that says Markdown for ever."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.scripted_backend import Script, ScriptedBackend

    class Forgetful(ScriptedBackend):
        """Keeps none of the prompts that it was given: a real model's process would not keep them here."""

        def submit(self, request: GenerationRequest, controls: TextControls, sink: Sink) -> int:
            for call in self.calls:
                call.request = msgspec.structs.replace(call.request, prompt=())
            return super().submit(request, controls, sink)

    on_progress(1.0)
    delay_s = 1 / (N_BYTES_A_TOKEN * float(sys.argv[1]))
    return LLM(Forgetful(Script(MARKDOWN, delay_s=delay_s, endless=True), n_ctx=1 << 20, n_cells=1 << 20))


if __name__ == "__main__":
    mark_welcomed()
    LocalLLM(load_settings(), open_llm=open_llm).run()
