"""Uploads from application code, and a storage for Django's file fields.

Importing it loads neither the SDK nor the decoders of pictures; the first upload does.
"""

from r2maint.errors import StorageError
from r2maint.storage.filefields import R2Storage
from r2maint.storage.service import R2StorageService, get_storage_service, optimize_and_upload

__all__ = [
    "R2Storage",
    "R2StorageService",
    "StorageError",
    "get_storage_service",
    "optimize_and_upload",
]
