"""What Django needs to know of r2maint."""

from __future__ import annotations

from django.apps import AppConfig


class R2MaintConfig(AppConfig):
    name = "r2maint"
    label = "r2maint"
    verbose_name = "R2 maintenance"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from r2maint import checks

        checks.register()
