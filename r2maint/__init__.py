"""Keep a Cloudflare R2 bucket and a Django database telling the same story."""

__version__ = "0.1.0"
