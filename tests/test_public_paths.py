"""What projects import of r2maint stays where it is, whatever moves inside."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest
from django.apps import apps

PUBLIC = {
    "r2maint.conf": ["load"],
    "r2maint.keys": ["Addresses"],
    "r2maint.control": ["Control"],
    "r2maint.bucket": ["Headers", "Upload", "get", "head", "open_bucket", "put"],
    "r2maint.images": ["ImageError", "Recipe", "inspect", "reencode", "sniff"],
    "r2maint.references": ["Scope"],
    "r2maint.verify": ["verify_urls"],
    "r2maint.pricing": ["bill", "compare", "load_prices"],
    "r2maint.signals": ["rows_rewritten", "run_finished", "threshold_crossed", "upload_failed"],
    "r2maint.storage": ["R2Storage", "R2StorageService", "StorageError", "get_storage_service"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_path_is_there(module):
    assert [name for name in PUBLIC[module] if not hasattr(import_module(module), name)] == []


def test_no_public_name_is_hidden_by_a_module_of_that_name():
    # Every module is imported: a submodule becomes an attribute of its package.
    program = (
        "import django; django.setup(); import pkgutil, importlib, types, r2maint\n"
        "for found in pkgutil.walk_packages(r2maint.__path__, 'r2maint.'):\n"
        "    importlib.import_module(found.name)\n"
        f"for module, names in {PUBLIC!r}.items():\n"
        "    for name in names:\n"
        "        found = getattr(importlib.import_module(module), name)\n"
        "        assert not isinstance(found, types.ModuleType), (module, name)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings_test"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_the_app_keeps_its_label_and_its_migrations():
    assert apps.get_app_config("r2maint").label == "r2maint"
    first = import_module("r2maint.migrations.0001_initial")
    assert first.Migration.operations
