"""Settings as one frozen value: the only reader of django.conf.settings and of the environment.

In: R2MAINT, R2_* variables and django-storages' settings. Out: `load()` returns a `Config`, checked
and without a default left open; a wrong setting is a ConfigError that says what to write instead.
"""

from r2maint.conf.bucket_connection import Connection
from r2maint.conf.config import (
    SETTINGS,
    Config,
    build,
    find_errors,
    load,
    read_surroundings,
    require_connection,
)
from r2maint.conf.setting_values import ExtraReferences, FieldRule, parse_duration

__all__ = [
    "SETTINGS",
    "Config",
    "Connection",
    "ExtraReferences",
    "FieldRule",
    "build",
    "find_errors",
    "load",
    "parse_duration",
    "read_surroundings",
    "require_connection",
]
