from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('r2maint', '0003_health'),
    ]

    operations = [
        migrations.AlterField(
            model_name='change',
            name='kind',
            field=models.CharField(choices=[('rewrite', 'Rewrite'), ('upload', 'Upload'), ('quarantine', 'Quarantine'), ('delete', 'Delete'), ('restore', 'Restore'), ('remove', 'Remove'), ('discard', 'Discard'), ('abort', 'Abort')], max_length=10),
        ),
    ]
