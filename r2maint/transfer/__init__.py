"""Bulk HTTP: many requests at once, paced, tried again, guarded where strangers wrote the URL."""

from r2maint.transfer.engine import Engine
from r2maint.transfer.fetch import Fetched, FetchError, FetchLimits, fetch, fetch_many
from r2maint.transfer.guard import Guard
from r2maint.transfer.pacing import Limiter, Pace
from r2maint.transfer.values import Answer, Credentials, Failure, Outcome, Reason, Request

__all__ = [
    "Answer",
    "Credentials",
    "Engine",
    "Failure",
    "FetchError",
    "FetchLimits",
    "Fetched",
    "Guard",
    "Limiter",
    "Outcome",
    "Pace",
    "Reason",
    "Request",
    "fetch",
    "fetch_many",
]
