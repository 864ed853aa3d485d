"""What models are on this disk: where they lie, what they are called, and which file a name means."""

from localllm.store.demo import DEMO_NAME, demo_model
from localllm.store.resolve import knows, resolve

__all__ = ["DEMO_NAME", "demo_model", "knows", "resolve"]
