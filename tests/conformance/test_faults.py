"""Every check can fail: a server that does one thing wrong is noticed by the checks that are there for it."""

from __future__ import annotations

import pytest

from localllm.conformance.checks import all_checks
from tests.conformance.examining import HASTY, examine
from tests.conformance.fake.server import KEY, Fake
from tests.conformance.faults import CASES
from tests.conformance.faults.making import Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault_is_noticed(fake: Fake, url: str, case: Case) -> None:
    fake.reset(case.fault, thinks=case.thinks)
    checks = [check for check in all_checks() if check.name in case.noticed_by]
    results = examine(url, checks, key=KEY, disrupt=True, patience=HASTY)
    outcomes = {name: (result.outcome, result.reason) for name, result in results.items()}
    assert outcomes == dict.fromkeys(case.noticed_by, ("failed", ""))


def test_every_check_notices_something() -> None:
    noticing = {name for case in CASES for name in case.noticed_by}
    assert {check.name for check in all_checks()} - noticing == set()


def test_names_of_faults_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
