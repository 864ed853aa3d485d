"""A scripted server for each test."""

from tests.remotes.fixtures import client, lab, server

__all__ = ["client", "lab", "server"]
