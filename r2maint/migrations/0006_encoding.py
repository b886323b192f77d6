from django.db import migrations, models


def make_exact(apps, schema_editor):
    """Do for this table what 0005 did for those before it."""
    if schema_editor.connection.vendor == "mysql":
        table = schema_editor.quote_name(apps.get_model("r2maint", "Encoding")._meta.db_table)
        schema_editor.execute(
            f"ALTER TABLE {table} ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )


class Migration(migrations.Migration):

    dependencies = [
        ('r2maint', '0005_mariadb'),
    ]

    operations = [
        migrations.CreateModel(
            name='Encoding',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('bucket', models.CharField(max_length=512)),
                ('key', models.TextField()),
                ('key_digest', models.CharField(max_length=64)),
                ('etag', models.CharField(max_length=255)),
                ('fingerprint', models.TextField()),
                ('made_by', models.TextField(blank=True, default='')),
                ('reason', models.CharField(max_length=32)),
                ('min_saving', models.FloatField()),
                ('width', models.IntegerField(default=0)),
                ('height', models.IntegerField(default=0)),
                ('bytes_before', models.BigIntegerField()),
                ('bytes_after', models.BigIntegerField(null=True)),
                ('source_sha256', models.CharField(max_length=64)),
                ('at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('bucket', 'key_digest'), name='r2maint_encoding_once')],
            },
        ),
        migrations.RunPython(make_exact, migrations.RunPython.noop, atomic=False),
    ]
