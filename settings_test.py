"""The example project: an app directory in English and Arabic, on SQLite and a `file:` bucket.

`manage.py` runs it as it is; the test suite adds a PostgreSQL database
of its own, and one of MariaDB where that is installed.
"""

import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
VAR = BASE_DIR / "var"
VAR.mkdir(exist_ok=True)

SECRET_KEY = "only for the example project"
DEBUG = True
USE_TZ = True
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
# Django 6.1 asks for it before it sends mail; older ones do not know it.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "r2maint",
    "tests.appdirectory",
    "tests.oddities",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / "demo.sqlite3",
        "OPTIONS": {"timeout": 30},
        # A file, so that a second connection can edit rows while a run is under way; one for each
        # process, so that two suites may run at once.
        "TEST": {"NAME": VAR / f"test-{os.getpid()}.sqlite3"},
    }
}
if "pytest" in sys.modules:
    from tests.servers import mariadb, postgresql

    DATABASES["postgres"] = postgresql.database()
    if not mariadb.missing():
        DATABASES["mariadb"] = mariadb.database()

MEDIA_URL = "/media/"
MEDIA_ROOT = VAR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

R2MAINT = {
    "BUCKET": "file:var/bucket",
    "PUBLIC_URL": "https://media.example.org/",
    "ALIASES": ["https://pub-0123456789abcdef.r2.dev/"],
    "SITE_HOSTS": ["apps.example.org"],
    "MANAGED_PREFIXES": ["submissions/", "apps/"],
    "PROTECTED": ["apps/*.json"],
    "FIELDS": {
        "appdirectory.AppSubmission": {
            "app_icon_url": {"key": "submissions/{tracking_id}/icons/{stem}.{hash}{ext}"},
            "main_image_en": {"key": "submissions/{tracking_id}/main_en/{stem}.{hash}{ext}"},
            "main_image_ar": {"key": "submissions/{tracking_id}/main_ar/{stem}.{hash}{ext}"},
            "screenshots_en": {"key": "submissions/{tracking_id}/screens_en/{stem}.{hash}{ext}"},
            "screenshots_ar": {"key": "submissions/{tracking_id}/screens_ar/{stem}.{hash}{ext}"},
        },
    },
}
