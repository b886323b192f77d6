from django.apps import AppConfig


class AppDirectoryConfig(AppConfig):
    name = "tests.appdirectory"
    label = "appdirectory"
