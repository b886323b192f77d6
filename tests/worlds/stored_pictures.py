"""Pictures in the bucket, and rows that name them."""

from __future__ import annotations

import io

from django.core.files.storage import Storage
from PIL import Image, ImageDraw

from r2maint.bucket import open_bucket
from r2maint.conf import load

BASE = "https://media.example.org/"


def picture(number: int = 0, size: tuple[int, int] = (240, 160), name: str = "PNG") -> bytes:
    """Return a soft picture that WebP halves; another one for every number."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    ImageDraw.Draw(image).ellipse((number * 7 % 90, 20, 120, 120), fill=(200, number % 256, 40))
    image = Image.blend(image, image.rotate(180), 0.3)
    out = io.BytesIO()
    image.save(out, name)
    return out.getvalue()


def keys() -> list[str]:
    return [item.key for page in open_bucket(load()).list_pages() for item in page]


class BucketStorage(Storage):
    """What a field's storage in the bucket looks like, as django-storages' does."""

    def __init__(self, bucket_name: str, location: str) -> None:
        self.bucket_name = bucket_name
        self.location = location
