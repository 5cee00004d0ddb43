from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('supervisor_app', '0003_rollback'),
    ]

    operations = [
        migrations.AddField(
            model_name='llamaserver',
            name='max_memory_mb',
            field=models.PositiveIntegerField(default=0, help_text="Its own memory, without the model file's pages: over it, it is restarted once it is idle. Megabytes. 0: no limit."),
        ),
        migrations.AddField(
            model_name='run',
            name='evidence',
            field=models.JSONField(blank=True, default=dict, help_text='What was known just before it ended.'),
        ),
        migrations.AddField(
            model_name='run',
            name='note',
            field=models.TextField(blank=True, default='', help_text='Why it was asked to end.'),
        ),
        migrations.AddField(
            model_name='serverstate',
            name='warnings',
            field=models.JSONField(default=list),
        ),
    ]
