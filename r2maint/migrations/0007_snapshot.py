from django.db import migrations, models


def make_exact(apps, schema_editor):
    """Do for this table what 0005 did for those before it."""
    if schema_editor.connection.vendor == "mysql":
        table = schema_editor.quote_name(apps.get_model("r2maint", "Snapshot")._meta.db_table)
        schema_editor.execute(
            f"ALTER TABLE {table} ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )


class Migration(migrations.Migration):

    dependencies = [
        ('r2maint', '0006_encoding'),
    ]

    operations = [
        migrations.CreateModel(
            name='Snapshot',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('bucket', models.CharField(max_length=512)),
                ('day', models.DateField()),
                ('standard_bytes', models.BigIntegerField()),
                ('infrequent_access_bytes', models.BigIntegerField()),
                ('summary', models.JSONField(default=dict)),
                ('groups', models.JSONField(default=dict)),
                ('at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('bucket', 'day'), name='r2maint_snapshot_once')],
            },
        ),
        migrations.RunPython(make_exact, migrations.RunPython.noop, atomic=False),
    ]
