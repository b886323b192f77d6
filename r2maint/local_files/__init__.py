"""Local media: reading a source safely, bringing a removed one back, and which storage serves what.

In: a path below a directory of LOCAL_MEDIA. Out: its bytes and type, or `UnusableSource` with a
reason of one word. Nothing outside the directory is ever opened.
"""

from r2maint.local_files.read_file import Locator, Source, UnusableSource, read_source
from r2maint.local_files.storage_locations import StorageLocation, StoragePlace, storage_location

__all__ = [
    "Locator",
    "Source",
    "StorageLocation",
    "StoragePlace",
    "UnusableSource",
    "read_source",
    "storage_location",
]
