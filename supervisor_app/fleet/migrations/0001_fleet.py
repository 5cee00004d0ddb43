import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import supervisor_app.core.status
import supervisor_app.fleet.models
import supervisor_app.fleet.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    # Those of the one app that had all models: a database that has some of them gets the rest first.
    replaces = [
        ('supervisor_app', '0001_initial'),
        ('supervisor_app', '0002_stall_seconds'),
        ('supervisor_app', '0003_rollback'),
        ('supervisor_app', '0004_evidence'),
        ('supervisor_app', '0005_alerts'),
        ('supervisor_app', '0006_canary_lease'),
        ('supervisor_app', '0007_gateway'),
        ('supervisor_app', '0008_poison'),
        ('supervisor_app', '0009_key_scopes'),
        ('supervisor_app', '0010_counts'),
        ('supervisor_app', '0011_model_list'),
        ('supervisor_app', '0012_endpoint'),
        ('supervisor_app', '0013_request_id'),
        ('supervisor_app', '0014_isolate_cache'),
        ('supervisor_app', '0015_server_key'),
        ('supervisor_app', '0016_download_failed'),
        ('supervisor_app', '0017_help_in_forms'),
    ]

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='LlamaServer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.SlugField(help_text='In addresses and logs. Letters, digits, - and _.', unique=True)),
                ('node', models.CharField(default=supervisor_app.fleet.models.this_node, help_text='The host whose supervisor runs it (its LLAMAPROXY_NODE).', max_length=100)),
                ('model_path', models.CharField(blank=True, default='./models/model.gguf', max_length=1000)),
                ('models_dir', models.CharField(blank=True, default='', max_length=1000)),
                ('host', models.CharField(default='localhost', max_length=253, validators=[supervisor_app.fleet.validators.validate_host])),
                ('port', models.PositiveIntegerField(default=8134, validators=[supervisor_app.fleet.validators.validate_port])),
                ('args', models.JSONField(blank=True, default=list, validators=[supervisor_app.fleet.validators.validate_args])),
                ('api_key', models.CharField(blank=True, default=None, max_length=200, null=True, validators=[supervisor_app.fleet.validators.validate_api_key])),
                ('own_key', models.CharField(default=supervisor_app.fleet.models.new_key, editable=False, help_text='The random key, unless api_key is said.', max_length=64)),
                ('max_retries', models.PositiveIntegerField(default=5)),
                ('retry_backoff_ms', models.PositiveIntegerField(default=1000, validators=[django.core.validators.MinValueValidator(1)])),
                ('max_backoff_ms', models.PositiveIntegerField(default=30000, validators=[django.core.validators.MinValueValidator(1)])),
                ('retry_forever', models.BooleanField(default=False)),
                ('stable_after_ms', models.PositiveIntegerField(default=60000)),
                ('stop_grace_ms', models.PositiveIntegerField(default=5000)),
                ('health_check_interval_ms', models.PositiveIntegerField(default=1000, validators=[django.core.validators.MinValueValidator(50)])),
                ('health_check_timeout_ms', models.PositiveIntegerField(default=5000, validators=[django.core.validators.MinValueValidator(50)])),
                ('max_health_checks', models.PositiveIntegerField(default=60, validators=[django.core.validators.MinValueValidator(1)])),
                ('max_load_seconds', models.PositiveIntegerField(default=600, validators=[django.core.validators.MinValueValidator(1)])),
                ('stall_seconds', models.PositiveIntegerField(default=180)),
                ('max_memory_mb', models.PositiveIntegerField(default=0)),
                ('canary_minutes', models.PositiveIntegerField(default=0)),
                ('hold_seconds', models.PositiveIntegerField(default=120)),
                ('idle_stop_seconds', models.PositiveIntegerField(default=0)),
                ('max_concurrent', models.PositiveIntegerField(default=0)),
                ('max_queue', models.PositiveIntegerField(default=256)),
                ('aliases', models.JSONField(blank=True, default=list, validators=[supervisor_app.fleet.validators.validate_names])),
                ('desired_running', models.BooleanField(default=True, editable=False)),
                ('stopped_for_idleness', models.BooleanField(default=False, editable=False)),
                ('generation', models.PositiveBigIntegerField(default=1, editable=False)),
                ('restart_generation', models.PositiveBigIntegerField(default=0, editable=False)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='LoginLink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('token_hash', models.CharField(max_length=64, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('used_at', models.DateTimeField(null=True)),
            ],
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
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('pid', models.PositiveBigIntegerField(null=True)),
                ('process_start', models.BigIntegerField(null=True)),
                ('boot_id', models.CharField(default='', max_length=100)),
                ('argv', models.JSONField(default=list, help_text='What it was started with; empty when it was adopted.')),
                ('launch', models.JSONField(default=dict, help_text='What was configured to launch it so.')),
                ('adopted', models.BooleanField(default=False)),
                ('retry', models.PositiveIntegerField(default=0, help_text='0: started by a wish. 1, 2, …: after a crash.')),
                ('started_at', models.DateTimeField()),
                ('ready_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('exit_code', models.IntegerField(null=True)),
                ('signal', models.PositiveSmallIntegerField(null=True)),
                ('failure_kind', models.CharField(blank=True, choices=[('binary_missing', 'binary_missing'), ('library_missing', 'library_missing'), ('bad_argument', 'bad_argument'), ('model_missing', 'model_missing'), ('model_unreadable', 'model_unreadable'), ('model_corrupt', 'model_corrupt'), ('model_unsupported', 'model_unsupported'), ('download_failed', 'download_failed'), ('port_taken', 'port_taken'), ('out_of_memory', 'out_of_memory'), ('oom_killed', 'oom_killed'), ('gpu_out_of_memory', 'gpu_out_of_memory'), ('gpu_lost', 'gpu_lost'), ('never_ready', 'never_ready'), ('hung', 'hung'), ('killed_by_signal', 'killed_by_signal'), ('exited', 'exited'), ('unknown', 'unknown')], default='', max_length=30)),
                ('failure_title', models.CharField(blank=True, default='', max_length=200)),
                ('failure_detail', models.TextField(blank=True, default='')),
                ('failure_hint', models.TextField(blank=True, default='')),
                ('last_lines', models.TextField(blank=True, default='', help_text='The last 50 lines of its output.')),
                ('evidence', models.JSONField(blank=True, default=dict, help_text='What was known just before it ended.')),
                ('note', models.TextField(blank=True, default='', help_text='Why it was asked to end.')),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='ServerState',
            fields=[
                ('server', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='state', serialize=False, to='supervisor_app.llamaserver')),
                ('version', models.PositiveBigIntegerField(default=0)),
                ('status', models.CharField(choices=[('initial', 'initial'), ('starting', 'starting'), ('ready', 'ready'), ('crashed', 'crashed'), ('error', 'error'), ('stopping', 'stopping')], default=supervisor_app.core.status.Status['INITIAL'], max_length=10)),
                ('detail', models.TextField(default='')),
                ('url', models.CharField(default='', max_length=300)),
                ('served', models.JSONField(default=list, help_text='The models it offers.')),
                ('last_error', models.TextField(null=True)),
                ('failure', models.JSONField(null=True)),
                ('retries', models.PositiveIntegerField(default=0)),
                ('max_retries', models.PositiveIntegerField(default=5)),
                ('started_at', models.DateTimeField(null=True)),
                ('ready_at', models.DateTimeField(null=True)),
                ('next_retry_at', models.DateTimeField(null=True)),
                ('progress', models.JSONField(null=True)),
                ('can_roll_back', models.BooleanField(default=False)),
                ('warnings', models.JSONField(default=list)),
                ('adopted', models.BooleanField(default=False)),
                ('pid', models.PositiveBigIntegerField(null=True)),
                ('process_start', models.BigIntegerField(null=True)),
                ('boot_id', models.CharField(default='', max_length=100)),
                ('endpoint', models.JSONField(help_text='Where the process was proved to listen.', null=True)),
                ('generation', models.PositiveBigIntegerField(default=0)),
                ('starts', models.PositiveBigIntegerField(default=0, help_text='Processes started so far.')),
                ('failures', models.JSONField(default=dict, help_text='Lives that ended in a failure so far, by its kind.')),
                ('seen_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.AddConstraint(
            model_name='llamaserver',
            constraint=models.CheckConstraint(condition=models.Q(('port__gte', 1), ('port__lte', 65535)), name='llamaserver_port_range', violation_error_message='The port must be 1 to 65535.'),
        ),
        migrations.AddConstraint(
            model_name='llamaserver',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('model_path', ''), _negated=True), models.Q(('models_dir', ''), _negated=True), _connector='OR'), name='llamaserver_has_a_model', violation_error_message='Set a model path or a models directory.'),
        ),
        migrations.AddConstraint(
            model_name='llamaserver',
            constraint=models.UniqueConstraint(fields=('node', 'port'), name='llamaserver_port_once_per_node', violation_error_message='Another server of this node has that port.'),
        ),
        migrations.AddConstraint(
            model_name='llamaserver',
            constraint=models.CheckConstraint(condition=models.Q(('restart_generation__lte', models.F('generation'))), name='llamaserver_restart_not_in_future'),
        ),
        migrations.AddField(
            model_name='run',
            name='server',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='supervisor_app.llamaserver'),
        ),
        migrations.AddConstraint(
            model_name='serverstate',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['initial', 'starting', 'ready', 'crashed', 'error', 'stopping'])), name='serverstate_status_known'),
        ),
        migrations.AddConstraint(
            model_name='serverstate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', supervisor_app.core.status.Status['READY']), _negated=True), ('started_at__isnull', False), _connector='OR'), name='serverstate_ready_has_a_process'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(fields=['server', '-started_at'], name='supervisor__server__97bd03_idx'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('server',), name='run_one_open_per_server'),
        ),
        migrations.AddConstraint(
            model_name='run',
            constraint=models.CheckConstraint(condition=models.Q(('exit_code', None), ('signal', None), _connector='OR'), name='run_exit_code_or_signal'),
        ),
    ]
