"""Engines on other machines that speak OpenAI's API: which there are, and asking them."""

from localllm.remotes.client import RemoteClient
from localllm.remotes.deltas import CallPiece, Delta, End, ReasoningPiece, Silence, TextPiece, TokenCounts
from localllm.remotes.engines import Engine
from localllm.remotes.registry import Remote, Remotes, remote_of

__all__ = [
    "CallPiece",
    "Delta",
    "End",
    "Engine",
    "ReasoningPiece",
    "Remote",
    "RemoteClient",
    "Remotes",
    "Silence",
    "TextPiece",
    "TokenCounts",
    "remote_of",
]
