from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Identity',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('bucket', models.CharField(max_length=512, unique=True)),
                ('owner_id', models.CharField(max_length=64)),
                ('nonce', models.CharField(max_length=64)),
                ('renewed_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('command', models.CharField(max_length=40)),
                ('bucket', models.CharField(max_length=512)),
                ('state', models.CharField(choices=[('running', 'Running'), ('stopped', 'Stopped'), ('finished', 'Finished'), ('failed', 'Failed'), ('undone', 'Undone')], default='running', max_length=8)),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
                ('options', models.JSONField(default=dict)),
                ('summary', models.JSONField(default=dict)),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Change',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('run_id', models.CharField(max_length=40)),
                ('kind', models.CharField(choices=[('rewrite', 'Rewrite'), ('upload', 'Upload'), ('quarantine', 'Quarantine'), ('delete', 'Delete'), ('restore', 'Restore')], max_length=10)),
                ('state', models.CharField(choices=[('intended', 'Intended'), ('done', 'Done'), ('conflict', 'Conflict'), ('undone', 'Undone')], default='intended', max_length=8)),
                ('database', models.CharField(blank=True, default='', max_length=100)),
                ('model', models.CharField(blank=True, default='', max_length=200)),
                ('row', models.TextField(blank=True, default='')),
                ('field', models.CharField(blank=True, default='', max_length=200)),
                ('path', models.TextField(blank=True, default='')),
                ('old', models.TextField(blank=True, default='')),
                ('new', models.TextField(blank=True, default='')),
                ('old_key', models.TextField(blank=True, default='')),
                ('key', models.TextField(blank=True, default='')),
                ('sha256', models.CharField(blank=True, default='', max_length=64)),
                ('etag', models.CharField(blank=True, default='', max_length=255)),
                ('bytes', models.BigIntegerField(null=True)),
                ('extra', models.JSONField(default=dict)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['id'],
                'indexes': [models.Index(fields=['run_id', 'id'], name='r2maint_change_run'), models.Index(fields=['at'], name='r2maint_change_at')],
            },
        ),
        migrations.CreateModel(
            name='Sighting',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('bucket', models.CharField(max_length=512)),
                ('key', models.TextField()),
                ('key_digest', models.CharField(max_length=64)),
                ('etag', models.CharField(max_length=255)),
                ('modified_at', models.DateTimeField()),
                ('circumstances', models.CharField(max_length=64)),
                ('first_seen_at', models.DateTimeField()),
                ('last_seen_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('bucket', 'key_digest'), name='r2maint_sighting_once')],
            },
        ),
    ]
