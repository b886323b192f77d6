"""Bulk HTTP: many requests at once, paced, tried again, guarded where strangers wrote the URL.

In: `Request`s with a label of the caller's. Out: each label with an `Answer` or a `Failure`, as
they arrive. The only importer of pycurl; knows no bucket, no rows and no Django settings.
"""

from r2maint.http.engine import Engine
from r2maint.http.fetch import Fetched, FetchError, FetchLimits, fetch, fetch_many
from r2maint.http.request import Answer, Credentials, Failure, Reason, Request, RequestOutcome
from r2maint.http.retry import Limiter, Pace
from r2maint.http.ssrf_guard import Guard

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
    "Pace",
    "Reason",
    "Request",
    "RequestOutcome",
    "fetch",
    "fetch_many",
]
