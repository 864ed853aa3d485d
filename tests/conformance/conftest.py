"""A good server, which tests may make a bad one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.fake.server import Fake, Running


@pytest.fixture(scope="session")
def _fake() -> Iterator[tuple[Fake, str]]:
    fake = Fake()
    with Running(fake.app) as url:
        yield fake, url


@pytest.fixture
def fake(_fake: tuple[Fake, str]) -> Fake:
    """The server, without a fault."""
    _fake[0].reset()
    return _fake[0]


@pytest.fixture
def url(_fake: tuple[Fake, str]) -> str:
    return _fake[1]
