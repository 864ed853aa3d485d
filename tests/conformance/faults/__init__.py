"""What servers do wrong, and the checks that must notice. Every check is named at least once."""

from __future__ import annotations

from tests.conformance.faults import conversations, other_apis, outcomes, requests, streams_and_tools
from tests.conformance.faults.making import Case

CASES: list[Case] = [
    case for module in (streams_and_tools, requests, conversations, outcomes, other_apis) for case in module.CASES
]
