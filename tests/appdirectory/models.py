"""A directory of apps that developers submit, in English and Arabic."""

from django.db import models


class AppSubmission(models.Model):
    """What a developer sends in; its media live behind URLs."""

    class Status(models.TextChoices):
        PENDING = "pending"
        UNDER_REVIEW = "under_review"
        APPROVED = "approved"
        REJECTED = "rejected"

    tracking_id = models.CharField(max_length=12, unique=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PENDING)
    submitter_email = models.EmailField(blank=True)
    app_name_en = models.CharField(max_length=200)
    app_name_ar = models.CharField(max_length=200, blank=True)
    description_en = models.TextField(blank=True)
    description_ar = models.TextField(blank=True)
    google_play_link = models.URLField(blank=True)
    app_store_link = models.URLField(blank=True)
    website_link = models.URLField(blank=True)
    app_icon_url = models.URLField(blank=True)
    main_image_en = models.URLField(blank=True)
    main_image_ar = models.URLField(blank=True)
    screenshots_en = models.JSONField(default=list, blank=True)
    screenshots_ar = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "app_submissions"

    def __str__(self) -> str:
        return self.tracking_id


class App(models.Model):
    """An app that was accepted; its media are files of the default storage."""

    name_en = models.CharField(max_length=200)
    name_ar = models.CharField(max_length=200, blank=True)
    application_icon = models.ImageField(
        upload_to="apps/icons/",
        blank=True,
        width_field="icon_width",
        height_field="icon_height",
    )
    icon_width = models.PositiveIntegerField(null=True, blank=True, editable=False)
    icon_height = models.PositiveIntegerField(null=True, blank=True, editable=False)
    main_image_en = models.ImageField(upload_to="apps/main/", max_length=500, blank=True)
    main_image_ar = models.ImageField(upload_to="apps/main/", max_length=500, blank=True)
    submission = models.OneToOneField(
        AppSubmission, null=True, blank=True, on_delete=models.SET_NULL, related_name="app"
    )

    def __str__(self) -> str:
        return self.name_en
