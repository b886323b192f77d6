"""Cloudflare's API: purging its caches, and what its analytics count of a bucket.

In: API_TOKEN, ACCOUNT_ID and ZONE_ID of the settings. Out: answers checked key by key; what cannot
be understood is a `CloudflareError`, never a number. Only this package imports requests.
"""

from r2maint.cloudflare.api import API_URL, MAX_URLS, Cloudflare

__all__ = ["API_URL", "MAX_URLS", "Cloudflare"]
