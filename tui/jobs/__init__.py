"""Long work in processes of its own: what is asked for, how far it is, what came of it.

This package knows no widgets. The interface holds a `Jobs`; the process is `tui.jobs.worker`.
"""

from tui.jobs.job import Job, JobPhase
from tui.jobs.jobs import Jobs
from tui.jobs.requests import CompareRequest, EvaluateRequest, JobKind, JobRequest, QuantizeRequest
from tui.jobs.stages import Stage

__all__ = [
    "CompareRequest",
    "EvaluateRequest",
    "Job",
    "JobKind",
    "JobPhase",
    "JobRequest",
    "Jobs",
    "QuantizeRequest",
    "Stage",
]
