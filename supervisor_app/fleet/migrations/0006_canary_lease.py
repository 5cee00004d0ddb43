from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('supervisor_app', '0005_alerts'),
    ]

    operations = [
        migrations.AddField(
            model_name='llamaserver',
            name='canary_minutes',
            field=models.PositiveIntegerField(default=0, help_text='Idle for so long: it is asked for one token. None, twice in a row: it hangs. Minutes. 0: never.'),
        ),
        migrations.CreateModel(
            name='NodeLease',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('node', models.CharField(max_length=100, unique=True)),
                ('holder', models.CharField(max_length=400)),
                ('token', models.CharField(max_length=32)),
                ('renewed_at', models.DateTimeField(help_text="By the database's clock: those of hosts differ.")),
            ],
        ),
    ]
