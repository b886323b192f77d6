from django.db import migrations


def make_exact(apps, schema_editor):
    """Keep any text, compared byte for byte, whatever the database's defaults are."""
    if schema_editor.connection.vendor != "mysql":
        return
    quote = schema_editor.quote_name
    for model in apps.get_app_config("r2maint").get_models():
        table = quote(model._meta.db_table)
        schema_editor.execute(
            f"ALTER TABLE {table} ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )


class Migration(migrations.Migration):

    dependencies = [
        ('r2maint', '0004_removals'),
    ]

    operations = [
        migrations.RunPython(make_exact, migrations.RunPython.noop, atomic=False),
    ]
