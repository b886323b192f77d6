"""URL <-> key <-> field value: what a stored text points at, and the URL or key to write. Pure.

In: texts as rows hold them, and the addresses of `conf`. Out: a `Target` (kind, key, spellings), a
URL for a key, a key from a template. Keys are opaque: one comes out exactly as the text spells it,
and is compared by `identity`. Nothing else quotes, joins, compares or makes keys.
"""

from r2maint.keys.addresses import Addresses, Kind, Target, Via
from r2maint.keys.globs import matches_glob
from r2maint.keys.key_templates import (
    DEFAULT_TEMPLATE,
    check_template,
    key_from_template,
    row_names,
    shared_template,
)
from r2maint.keys.text import (
    digest,
    host_of,
    identity,
    is_bare_name,
    is_composed,
    join,
    order,
    quote_key,
    redact,
    url_paths,
)

__all__ = [
    "DEFAULT_TEMPLATE",
    "Addresses",
    "Kind",
    "Target",
    "Via",
    "check_template",
    "digest",
    "host_of",
    "identity",
    "is_bare_name",
    "is_composed",
    "join",
    "key_from_template",
    "matches_glob",
    "order",
    "quote_key",
    "redact",
    "row_names",
    "shared_template",
    "url_paths",
]
