"""Settings of a server, each declared once.

The keys of the config file, the columns of `LlamaServer`, the admin's form and the table in the documents are
derived from these declarations. A rule's default is that of the policy which the setting feeds.
"""

from __future__ import annotations

from supervisor_app.core.setting import Kind, Section, Setting
from supervisor_app.core.spec import Claim, HealthPolicy, RestartPolicy

SETTINGS = (
    Setting(
        key="llama_model_path",
        section=Section.LAUNCH,
        stored_as="model_path",
        kind=Kind.TEXT,
        default="./models/model.gguf",
        longest=1000,
        help="GGUF file, absolute or relative to where the supervisor was started.",
    ),
    Setting(
        key="llama_models_dir",
        section=Section.LAUNCH,
        stored_as="models_dir",
        kind=Kind.TEXT,
        default="",
        longest=1000,
        help="A directory of models instead of one file: llama-server runs in router mode.",
        note="The bundled engine has no router mode.",
    ),
    Setting(
        key="engine",
        section=Section.LAUNCH,
        kind=Kind.TEXT,
        default="",
        longest=100,
        help="Name of one of the `[engines]` of `llamaproxy.toml`. Empty: the default one.",
        note="Forms choose among these names. Programs and their variables are set in that file alone.",
    ),
    Setting(
        key="llama_server_host",
        section=Section.LAUNCH,
        stored_as="host",
        kind=Kind.TEXT,
        default="localhost",
        longest=253,
        required=True,
        help="Address to listen on. `0.0.0.0` offers it to the network: set an API key.",
    ),
    Setting(
        key="llama_server_port",
        section=Section.LAUNCH,
        stored_as="port",
        default=8134,
        least=1,
        most=65535,
        help="Port to listen on.",
    ),
    Setting(
        key="llama_server_args",
        section=Section.LAUNCH,
        stored_as="args",
        kind=Kind.LIST,
        default=(),
        help="More flags for llama-server.",
        note='A list of words: `["-c", "8192", "-ngl", "99"]`. `LLAMA_ARG_*` variables are not passed on.',
    ),
    Setting(
        key="llama_api_key",
        section=Section.LAUNCH,
        stored_as="api_key",
        kind=Kind.TEXT,
        default=None,
        longest=200,
        secret=True,
        help="Key that llama-server asks its clients for.",
        note="Handed over in the environment, never on the command line. Without a key each server that "
        "llamaproxy starts gets a random one, which the gateway knows and its page shows to admins: nobody "
        'gets past the gateway. With `""` the server asks for no key and is open to every program that '
        "reaches it.",
    ),
    Setting(
        key="keep_context",
        section=Section.LAUNCH,
        kind=Kind.SWITCH,
        default=False,
        help="Its idle conversations are saved before a planned end, and restored at the next start.",
        note="They lie in the data directory as files that only its user can read, and contain prompts and "
        "answers: see [what is kept](models-and-memory.md#conversations-that-go-on). Routers, servers that "
        "embed, and models that see keep none, and say so.",
    ),
    Setting(
        key="llama_server_binary",
        section=Section.NODE,
        kind=Kind.TEXT,
        default="",
        help="The `llama-server` to run: a path, or a name on `PATH`.",
        note="Wins over `LLAMA_SERVER_BINARY`; only the file and the environment can set it.",
    ),
    Setting(
        key="llama_server_users",
        section=Section.NODE,
        kind=Kind.LIST,
        default=(),
        help="Users beside the supervisor's own and root whose llama-servers may be taken over.",
        note="Names or numbers. These users get to see all requests. No other user's server is taken over, "
        "whatever it says it is.",
    ),
    Setting(
        key="max_retries",
        section=Section.RESTART,
        default=RestartPolicy.max_retries,
        help="Restarts after a crash before giving up.",
        zero="none",
    ),
    Setting(
        key="retry_backoff_ms",
        section=Section.RESTART,
        default=RestartPolicy.retry_backoff_ms,
        least=1,
        help="Wait before the first retry; it doubles each time.",
    ),
    Setting(
        key="max_backoff_ms",
        section=Section.RESTART,
        default=RestartPolicy.max_backoff_ms,
        least=1,
        help="The longest wait before a retry.",
    ),
    Setting(
        key="retry_forever",
        section=Section.RESTART,
        kind=Kind.SWITCH,
        default=RestartPolicy.retry_forever,
        help="Once the retries are used up, go on ten times more slowly instead of giving up.",
        note="The pause is the longest wait (`max_backoff_ms`) times 10. A failure that no retry mends waits "
        "for its cause to go, as always.",
    ),
    Setting(
        key="stable_after_ms",
        section=Section.RESTART,
        default=RestartPolicy.stable_after_ms,
        help="Ready for so long without a break: retries count from 0 again.",
    ),
    Setting(
        key="drain_seconds",
        section=Section.RESTART,
        default=RestartPolicy.drain_seconds,
        help="Before a planned end, requests in flight have so long.",
        zero="no time",
        note="New requests wait in the gateway meanwhile, or are refused before a stop. In a "
        "[restart without a gap](operate.md#restart-without-a-gap) the old process has 20 times as long, as "
        "nobody waits for its end. See [stop and restart](operate.md#stop-and-restart).",
    ),
    Setting(
        key="stop_grace_ms",
        section=Section.RESTART,
        default=RestartPolicy.stop_grace_ms,
        help="From SIGTERM to SIGKILL.",
    ),
    Setting(
        key="health_check_interval_ms",
        section=Section.HEALTH,
        fed_as="interval_ms",
        default=HealthPolicy.interval_ms,
        least=50,
        help="Between two looks at `/health`.",
        note="After three misses in a row the server counts as hung.",
    ),
    Setting(
        key="health_check_timeout_ms",
        section=Section.HEALTH,
        fed_as="timeout_ms",
        default=HealthPolicy.timeout_ms,
        least=50,
        help="How long `/health` may take to answer.",
    ),
    Setting(
        key="max_health_checks",
        section=Section.HEALTH,
        fed_as="max_checks",
        default=HealthPolicy.max_checks,
        least=1,
        help="A start that has not answered for so many intervals has failed.",
    ),
    Setting(
        key="max_load_seconds",
        section=Section.HEALTH,
        default=HealthPolicy.max_load_seconds,
        least=1,
        help="How much longer it may say that it is loading its model.",
    ),
    Setting(
        key="stall_seconds",
        section=Section.HEALTH,
        default=HealthPolicy.stall_seconds,
        help="Its work has not moved for so long: it hangs, whatever `/health` says.",
        zero="never",
        note="A busy CPU gets five times as long.",
    ),
    Setting(
        key="max_memory_mb",
        section=Section.HEALTH,
        default=HealthPolicy.max_memory_mb,
        help="Memory of its own, over which it is restarted once it is idle.",
        zero="no limit",
        note="Swapped memory counts, the model file's pages do not. A server that is never idle is restarted "
        "after 60 s.",
    ),
    Setting(
        key="canary_minutes",
        section=Section.HEALTH,
        default=HealthPolicy.canary_minutes,
        help="Idle for so long: asked for one token. None, twice in a row: it hangs.",
        zero="never",
        note="The token costs a slot its cached prompt. It must come within `stall_seconds`, or 180 s where "
        "that is 0. A server that sleeps is not woken, but a server whose `--sleep-idle-seconds` are longer "
        "is kept awake; routers and embedding servers are not asked.",
    ),
    Setting(
        key="model_aliases",
        section=Section.GATEWAY,
        stored_as="aliases",
        kind=Kind.LIST,
        default=(),
        help="More names under which clients may ask the gateway for it.",
    ),
    Setting(
        key="presets",
        section=Section.GATEWAY,
        kind=Kind.TABLE,
        default={},
        help="Names under which clients may ask for it with other parameters.",
        note="A table for each name: see [presets](#presets).",
    ),
    Setting(
        key="hold_seconds",
        section=Section.GATEWAY,
        default=120,
        help="How long the gateway lets a request wait while it starts or restarts.",
    ),
    Setting(
        key="seamless",
        section=Section.GATEWAY,
        kind=Kind.SWITCH,
        default=False,
        help="A change of what to run comes into force without a gap, where both processes fit.",
        note="For servers of `llamaproxy.toml` without `port`: see "
        "[restart without a gap](operate.md#restart-without-a-gap).",
    ),
    Setting(
        key="max_concurrent",
        section=Section.GATEWAY,
        default=0,
        help="Requests that the gateway sends it at once; the others wait.",
        zero="as many as it has slots",
    ),
    Setting(
        key="max_queue",
        section=Section.GATEWAY,
        default=256,
        help="Requests that may wait for it in the gateway; more are refused.",
    ),
    Setting(
        key="idle_stop_seconds",
        section=Section.GATEWAY,
        default=0,
        help="Not asked for so long, it is stopped; the next request starts it.",
        zero="never",
        note="Requests through the gateway count. Up to 11 seconds more may pass.",
    ),
    Setting(
        key="group",
        section=Section.MEMORY,
        kind=Kind.TEXT,
        default=Claim.group,
        longest=100,
        help="Servers of a group share a limit of how many are loaded at once.",
        note="The limit is set in `[memory.groups]` of `llamaproxy.toml`. As soon as a server has a group, "
        "room is made for servers.",
    ),
    Setting(
        key="pinned",
        section=Section.MEMORY,
        kind=Kind.SWITCH,
        default=Claim.pinned,
        help="Once loaded it stays: it never makes room for another.",
    ),
    Setting(
        key="priority",
        section=Section.MEMORY,
        default=Claim.priority,
        help="Where not all fit, servers with a higher number are loaded first.",
    ),
)


def settings_of(section: Section) -> tuple[Setting, ...]:
    return tuple(setting for setting in SETTINGS if setting.section is section)


BY_KEY = {setting.key: setting for setting in SETTINGS}
BY_FIELD = {setting.field: setting for setting in SETTINGS if setting.section is not Section.NODE}
