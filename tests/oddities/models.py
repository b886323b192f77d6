"""Models of every shape that has lost somebody data before."""

import uuid

from django.db import models


class Listing(models.Model):
    """A parent whose column children inherit through a join; saving it is forbidden."""

    cover_url = models.URLField(blank=True)
    notes = models.TextField(blank=True)

    def save(self, *args, **kwargs):
        if self.pk is not None:
            raise AssertionError("rows never pass through save()")
        super().save(*args, **kwargs)


class PromotedListing(Listing):
    """Multi-table inheritance: `cover_url` lives in the parent's table."""

    banner_url = models.URLField(blank=True)


class ListingProxy(Listing):
    class Meta:
        proxy = True


class VisibleManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(deleted=False)


class SoftDeleted(models.Model):
    """Rows that every manager hides once they are marked deleted."""

    deleted = models.BooleanField(default=False)
    picture_url = models.URLField(blank=True)

    visible = VisibleManager()

    class Meta:
        base_manager_name = "visible"
        default_manager_name = "visible"


class Gallery(models.Model):
    """A UUID key and JSON of any depth."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    content = models.JSONField(default=dict, blank=True)


class Article(models.Model):
    """Free text that nobody configured."""

    body = models.TextField(blank=True)


class LegacyBanner(models.Model):
    """A table that somebody else owns."""

    path = models.CharField(max_length=300)

    class Meta:
        managed = False
        db_table = "legacy_banner"
