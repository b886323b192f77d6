"""The URLs of a site whose admin lies elsewhere than usual, with some of its models."""

from django.contrib.admin import AdminSite
from django.urls import path

from tests.appdirectory.models import AppSubmission
from tests.oddities.models import Gallery

office = AdminSite(name="office")
office.register([AppSubmission, Gallery])
urlpatterns = [path("back-office/", office.urls)]
