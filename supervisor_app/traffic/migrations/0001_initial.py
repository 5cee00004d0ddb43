import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import supervisor_app.fleet.validators
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
            'supervisor_app_apikey',
            [
                migrations.CreateModel(
                    name='ApiKey',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('name', models.CharField(help_text='Who uses it: chat UI, nightly job.', max_length=100, unique=True)),
                        ('prefix', models.CharField(editable=False, max_length=20)),
                        ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                        ('enabled', models.BooleanField(default=True)),
                        ('expires_at', models.DateTimeField(blank=True, help_text='Empty: never.', null=True, verbose_name='expires')),
                        ('allowed_models', models.JSONField(blank=True, default=list, help_text='What it may ask for, one name a line: a server, a model or an alias. Empty: all.', validators=[supervisor_app.fleet.validators.validate_names], verbose_name='models')),
                        ('may_read', models.BooleanField(default=False, help_text='Also see how servers are configured and what they do for others: /slots, /props, …', verbose_name='may read')),
                        ('may_change', models.BooleanField(default=False, help_text='Also change servers for everybody and act through them: slots, /lora-adapters, /models/…, /tools (which run commands), /cors-proxy, and every path that llamaproxy does not know.', verbose_name='may change')),
                        ('requests_per_minute', models.PositiveIntegerField(default=0, help_text='A whole minute’s worth may come at once. 0: no limit.', validators=[django.core.validators.MaxValueValidator(1000000000)], verbose_name='requests per minute')),
                        ('tokens_per_minute', models.PositiveIntegerField(default=0, help_text='How many tokens, of prompts and answers together. 0: no limit.', validators=[django.core.validators.MaxValueValidator(1000000000)], verbose_name='tokens per minute')),
                        ('max_concurrent', models.PositiveIntegerField(default=0, help_text='How many may be in flight. 0: no limit.', validators=[django.core.validators.MaxValueValidator(1000000000)], verbose_name='requests at once')),
                        ('capture', models.BooleanField(default=False, help_text='What is asked with this key and what is answered can be read in the admin by staff, until the record is pruned.', verbose_name='keep prompts and answers')),
                        ('isolate_cache', models.BooleanField(default=False, help_text='Servers that it may use answer nobody from their cache of prompts: else other keys could read its prompts from counts of cached tokens. It costs computing each prompt anew, for all keys.', verbose_name='isolate its prompts')),
                        ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                        ('last_used_at', models.DateTimeField(editable=False, null=True, verbose_name='last used')),
                    ],
                    options={
                        'verbose_name': 'API key',
                        'db_table': 'supervisor_app_apikey',
                        'ordering': ['name'],
                    },
                ),
                migrations.CreateModel(
                    name='ModelList',
                    fields=[
                        ('server', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='model_list', serialize=False, to='supervisor_app.llamaserver')),
                        ('launch', models.TextField(help_text='What it was started with when it said so.')),
                        ('said', models.TextField(help_text='The list, as JSON.')),
                        ('read_at', models.FloatField(help_text='Unix seconds.')),
                    ],
                    options={
                        'db_table': 'supervisor_app_modellist',
                    },
                ),
                migrations.CreateModel(
                    name='ServerUse',
                    fields=[
                        ('server', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='use', serialize=False, to='supervisor_app.llamaserver')),
                        ('last_request_at', models.DateTimeField()),
                    ],
                    options={
                        'db_table': 'supervisor_app_serveruse',
                    },
                ),
                migrations.CreateModel(
                    name='QuarantinedRequest',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('server', models.CharField(max_length=50)),
                        ('body_hash', models.CharField(max_length=64)),
                        ('incident', models.CharField(help_text='The crash, as its client was told.', max_length=200)),
                        ('reason', models.TextField()),
                        ('key', models.PositiveBigIntegerField(editable=False, help_text='Primary key of the API key that it was sent with.', null=True)),
                        ('deaths', models.JSONField(default=list, editable=False, help_text='What died of it: names of servers, each with a pid.')),
                        ('at', models.DateTimeField()),
                        ('until', models.DateTimeField()),
                    ],
                    options={
                        'db_table': 'supervisor_app_quarantinedrequest',
                        'ordering': ['-at', '-pk'],
                        'constraints': [models.UniqueConstraint(fields=('server', 'body_hash'), name='quarantined_once_per_server')],
                    },
                ),
                migrations.CreateModel(
                    name='RequestRecord',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('at', models.DateTimeField()),
                        ('server', models.CharField(blank=True, default='', max_length=50)),
                        ('model', models.CharField(blank=True, default='', max_length=200)),
                        ('key', models.CharField(blank=True, default='', help_text='Empty: none was asked for.', max_length=100)),
                        ('method', models.CharField(max_length=10)),
                        ('route', models.CharField(max_length=200)),
                        ('status', models.PositiveSmallIntegerField(help_text='Empty: it left before there was one.', null=True)),
                        ('outcome', models.CharField(choices=[('ok', 'Answered'), ('held', 'Answered after waiting'), ('replayed', 'Answered after a crash'), ('client_left', 'Client left'), ('refused', 'Refused'), ('upstream_error', 'Server error'), ('upstream_crashed', 'Server died'), ('unavailable', 'Unavailable'), ('quarantined', 'Quarantined')], max_length=20)),
                        ('streamed', models.BooleanField(default=False)),
                        ('held_ms', models.FloatField(default=0.0, verbose_name='held')),
                        ('ttft_ms', models.FloatField(null=True, verbose_name='first token after')),
                        ('duration_ms', models.FloatField(default=0.0, verbose_name='duration')),
                        ('replays', models.PositiveSmallIntegerField(default=0)),
                        ('prompt_tokens', models.PositiveIntegerField(null=True)),
                        ('cached_tokens', models.PositiveIntegerField(null=True)),
                        ('generated_tokens', models.PositiveIntegerField(null=True)),
                        ('tokens_per_second', models.FloatField(null=True)),
                        ('incident', models.CharField(blank=True, default='', max_length=200)),
                        ('request_id', models.CharField(blank=True, default='', help_text='As its client was told: X-Request-Id.', max_length=40, verbose_name='request')),
                        ('captured_request', models.TextField(null=True)),
                        ('captured_answer', models.TextField(null=True)),
                    ],
                    options={
                        'verbose_name': 'request',
                        'db_table': 'supervisor_app_requestrecord',
                        'ordering': ['-at', '-pk'],
                        'indexes': [models.Index(fields=['-at'], name='request_at'), models.Index(fields=['server', '-at'], name='request_server_at')],
                    },
                ),
            ],
        ),
        TakeOver('apikey', 'modellist', 'quarantinedrequest', 'requestrecord', 'serveruse'),
    ]
