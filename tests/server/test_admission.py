"""Counting who is inside."""

from __future__ import annotations

import pytest

from localllm.server.admission import Admission
from localllm.server.errors import Overloaded


def test_those_beyond_the_limit_are_sent_away_until_somebody_leaves() -> None:
    admission = Admission(2)
    with admission.place(), admission.place():
        with pytest.raises(Overloaded, match="2 are allowed") as caught, admission.place():
            pass
        assert caught.value.retry_after_s >= 1
        assert (admission.n_active, admission.n_refused) == (2, 1)
    with admission.place():
        assert admission.n_active == 1


def test_place_is_given_back_whatever_happens_inside() -> None:
    admission = Admission(1)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), admission.place():
            raise error
    assert admission.n_active == 0
