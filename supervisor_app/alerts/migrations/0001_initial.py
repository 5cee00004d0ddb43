import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from supervisor_app.fleet.carry_over import MakeUnlessThere, TakeOver


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('contenttypes', '0002_remove_content_type_name'),
        ('supervisor_app', '0001_fleet'),
    ]

    operations = [
        MakeUnlessThere(
            'supervisor_app_alertchannel',
            [
                migrations.CreateModel(
                    name='AlertChannel',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('name', models.CharField(help_text='For you: ops chat, my phone.', max_length=100, unique=True)),
                        ('url', models.CharField(help_text='Where to send. It often holds a password or token, so it is not shown again.', max_length=1000, verbose_name='address')),
                        ('enabled', models.BooleanField(default=True)),
                        ('on_crashed', models.BooleanField(default=True, help_text='It went down and will be retried.', verbose_name='crashed')),
                        ('on_hung', models.BooleanField(default=True, help_text='It lived but did not answer or move.', verbose_name='hung')),
                        ('on_given_up', models.BooleanField(default=True, help_text='It stays down until somebody does something.', verbose_name='given up')),
                        ('on_recovered', models.BooleanField(default=True, help_text='It is up again, and has been for its “stable after”.', verbose_name='recovered')),
                        ('resend_hours', models.PositiveIntegerField(default=0, help_text='While it stays down. 0: never.', verbose_name='say it again every … hours')),
                        ('servers', models.ManyToManyField(blank=True, help_text='Only these. None chosen: all, also those to come.', related_name='alert_channels', to='supervisor_app.llamaserver')),
                    ],
                    options={
                        'db_table': 'supervisor_app_alertchannel',
                        'ordering': ['name'],
                    },
                ),
                migrations.CreateModel(
                    name='Incident',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('opened_at', models.DateTimeField()),
                        ('recovered_at', models.DateTimeField(help_text='Ready since then; empty while it is not.', null=True)),
                        ('closes_at', models.DateTimeField(help_text='Over, if it stays ready until then.', null=True)),
                        ('closed_at', models.DateTimeField(null=True)),
                        ('ending', models.CharField(blank=True, choices=[('recovered', 'recovered'), ('stopped', 'stopped')], default='', max_length=10)),
                        ('worst', models.CharField(choices=[('initial', 'initial'), ('starting', 'starting'), ('ready', 'ready'), ('crashed', 'crashed'), ('error', 'error'), ('stopping', 'stopping')], max_length=10)),
                        ('failure', models.JSONField(help_text='The latest one.', null=True)),
                        ('failure_kind', models.CharField(blank=True, choices=[('binary_missing', 'binary_missing'), ('library_missing', 'library_missing'), ('bad_argument', 'bad_argument'), ('model_missing', 'model_missing'), ('model_unreadable', 'model_unreadable'), ('model_corrupt', 'model_corrupt'), ('model_unsupported', 'model_unsupported'), ('download_failed', 'download_failed'), ('port_taken', 'port_taken'), ('out_of_memory', 'out_of_memory'), ('oom_killed', 'oom_killed'), ('gpu_out_of_memory', 'gpu_out_of_memory'), ('gpu_lost', 'gpu_lost'), ('never_ready', 'never_ready'), ('hung', 'hung'), ('killed_by_signal', 'killed_by_signal'), ('exited', 'exited'), ('unknown', 'unknown')], default='', max_length=30)),
                        ('said', models.JSONField(default=list, help_text='What has happened in it.')),
                        ('changed_at', models.DateTimeField(auto_now=True)),
                        ('server', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='incidents', to='supervisor_app.llamaserver')),
                    ],
                    options={
                        'db_table': 'supervisor_app_incident',
                        'ordering': ['-opened_at', '-pk'],
                    },
                ),
                migrations.CreateModel(
                    name='Delivery',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('event', models.CharField(choices=[('crashed', 'crashed'), ('hung', 'hung'), ('given_up', 'given_up'), ('still_down', 'still_down'), ('recovered', 'recovered'), ('test', 'test')], max_length=20)),
                        ('sequence', models.PositiveIntegerField(default=0, help_text='Counts what is said again.')),
                        ('state', models.CharField(choices=[('pending', 'Pending'), ('sent', 'Sent'), ('failed', 'Failed')], default='pending', max_length=10)),
                        ('alert', models.JSONField(help_text='What to send: the body of a webhook.')),
                        ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                        ('attempts', models.PositiveIntegerField(default=0)),
                        ('next_try_at', models.DateTimeField(default=django.utils.timezone.now)),
                        ('claimed_at', models.DateTimeField(null=True)),
                        ('claimed_by', models.CharField(blank=True, default='', max_length=200)),
                        ('sent_at', models.DateTimeField(null=True)),
                        ('last_error', models.TextField(blank=True, default='')),
                        ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='alerts.alertchannel')),
                        ('incident', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='alerts.incident')),
                    ],
                    options={
                        'verbose_name_plural': 'deliveries',
                        'db_table': 'supervisor_app_delivery',
                        'ordering': ['-created_at', '-pk'],
                    },
                ),
                migrations.AddConstraint(
                    model_name='alertchannel',
                    constraint=models.CheckConstraint(condition=models.Q(('resend_hours__lte', 8784)), name='alertchannel_resend_within_a_year', violation_error_message='At most 8784 hours.'),
                ),
                migrations.AddIndex(
                    model_name='incident',
                    index=models.Index(condition=models.Q(('closed_at', None)), fields=['closes_at'], name='incident_to_close'),
                ),
                migrations.AddConstraint(
                    model_name='incident',
                    constraint=models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('server',), name='incident_one_open_per_server'),
                ),
                migrations.AddIndex(
                    model_name='delivery',
                    index=models.Index(condition=models.Q(('state', 'pending')), fields=['next_try_at'], name='delivery_to_send'),
                ),
                migrations.AddConstraint(
                    model_name='delivery',
                    constraint=models.UniqueConstraint(fields=('channel', 'incident', 'event', 'sequence'), name='delivery_once'),
                ),
                migrations.AddConstraint(
                    model_name='delivery',
                    constraint=models.UniqueConstraint(condition=models.Q(('event__in', ['crashed', 'hung'])), fields=('channel', 'incident'), name='delivery_down_once'),
                ),
            ],
        ),
        TakeOver('alertchannel', 'delivery', 'incident'),
    ]
