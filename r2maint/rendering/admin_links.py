"""Where the admin shows a row, on sites that have one."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from django.apps import apps
from django.urls import reverse
from django.utils.http import RFC3986_SUBDELIMS

_PK = "r2maint-pk"
_SAFE = RFC3986_SUBDELIMS + "/~:@"
"""What `reverse` leaves as it is."""


def admin_url(model: str, pk: str) -> str | None:
    """Return the path of a row's page in the admin; None when there is no such page.

    `model` is "app.Model". Costs a look-up of URLs once per model and process.
    """
    page = _page_of(model)
    if page is None:
        return None
    before, after = page
    return f"{before}{quote(_quoted(pk), safe=_SAFE)}{after}"


@lru_cache(maxsize=1024)
def _page_of(model: str) -> tuple[str, str] | None:
    """Return the path before and after the primary key."""
    if not apps.is_installed("django.contrib.admin"):
        return None
    try:
        named = apps.get_model(model)._meta
        path = reverse(f"admin:{named.app_label}_{named.model_name}_change", args=[_PK])
    except Exception:
        # Not registered, no admin among the URLs, or URLs that cannot be imported, which raises
        # whatever their modules raise. A report is complete without these paths.
        return None
    before, _, after = path.partition(_PK)
    return before, after


def _quoted(pk: str) -> str:
    # Importable only where the admin is installed.
    from django.contrib.admin.utils import quote as admin_quote

    return str(admin_quote(pk))
