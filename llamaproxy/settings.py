"""All settings. Those that an installation may change come from the environment: see docs/configure.md."""

from __future__ import annotations

import os
import sys
import warnings
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from llamaproxy.data_dir import secured, secured_file
from llamaproxy.env import env_bool, env_list, secret_key, sub_path
from llamaproxy.options import read_ahead
from supervisor_app.web.sign_on import sign_on_of

PACKAGE = Path(__file__).resolve().parent
FILES_DIR = PACKAGE if (PACKAGE / "templates").is_dir() else PACKAGE.parent
"""Directory of `templates/` and `static/`: beside the packages in a checkout, in this one of a wheel."""
DATA_DIR = Path(os.environ.get("LLAMAPROXY_DATA_DIR") or "var").absolute()
"""Database, logs, secret key, locks."""
DATA_DIR_MENDED = secured(DATA_DIR)
"""Sentences for the console: which files were open to other users and are closed now."""
PLACE = read_ahead(sys.argv[1:], node=os.environ.get("LLAMAPROXY_NODE") or "local")

# --- Core ---

DEBUG = env_bool("DEBUG", False)
OWN_NAMES = ["localhost", "127.0.0.1", "[::1]"]
SECRET_KEY = secret_key(DATA_DIR / "secret-key")
LLAMAPROXY_HOSTS = [*OWN_NAMES, *(name for name in env_list("ALLOWED_HOSTS", []) if name not in OWN_NAMES)]
"""Names by which people reach the pages, and browsers the gateway."""
ALLOWED_HOSTS = list(dict.fromkeys([*LLAMAPROXY_HOSTS, *PLACE.hosts]))
FORCE_SCRIPT_NAME = sub_path(os.environ.get("FORCE_SCRIPT_NAME", ""))
"""The path of a proxy under which the pages are: no slash at its end, None for the root."""
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [])

INSTALLED_APPS = [
    "llamaproxy.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "channels",
    "django_htmx",
    "supervisor_app.fleet",
    "supervisor_app.traffic",
    "supervisor_app.alerts",
    "supervisor_app.modelfiles",
    "supervisor_app.pages",
    "supervisor_app.roles",
]
MIDDLEWARE = [
    "llamaproxy.middleware.api_errors_in_json",
    "django.middleware.security.SecurityMiddleware",
    "llamaproxy.middleware.content_security_policy",
    "llamaproxy.middleware.own_pages_only",
    "llamaproxy.middleware.compressed_files",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "llamaproxy.middleware.acts_of_users",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "llamaproxy.urls"
ASGI_APPLICATION = "llamaproxy.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [FILES_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "supervisor_app.web.rights.in_templates",
            ],
        },
    }
]
LANGUAGE_CODE = "en"
LOCALE_PATHS = [FILES_DIR / "locale"]
"""Catalogues of translations, where there are any: see CONTRIBUTING.md."""
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database: SQLite in the data directory, or DATABASE_URL ---

SQLITE_OPTIONS = {
    "timeout": 5,
    # Without IMMEDIATE a fifth of the read-then-write transactions of two processes fail at once with
    # "database is locked", however long the timeout.
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Time limits of libpq and the kernel, in seconds; the last in milliseconds. A query of DATABASE_URL wins."""
try:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Not kept: under ASGI each request has a thread of its own, and would leave a connection behind.
        DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
except (ValueError, UserWarning) as error:
    raise ImproperlyConfigured(
        f"DATABASE_URL cannot be understood: {error} Use postgres://user:password@host:5432/name."
    ) from error
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
    _file = Path(DATABASES["default"]["NAME"])
    _file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    DATA_DIR_MENDED += secured_file(_file)
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Without these a database whose host is gone holds every page, and our own end, up for minutes.
    for _option, _value in POSTGRES_OPTIONS.items():
        DATABASES["default"].setdefault("OPTIONS", {}).setdefault(_option, _value)

# --- Channel layer: in memory for one process, Redis for several ---

REDIS_URL = os.environ.get("REDIS_URL", "")
CHANNEL_LAYERS: dict[str, dict[str, object]] = {
    "default": {
        "BACKEND": "channels.layers.InMemoryChannelLayer",
        # The default drops a group's members after 24 h: a page left open would go silent.
        "CONFIG": {"group_expiry": 10**9},
    }
}
if REDIS_URL:
    # The pub/sub layer: the core one loses every idle consumer with redis-py 8, and all when Redis restarts.
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "llamaproxy"},
    }

# --- Static files: served by the process itself, nothing to collect ---

STATIC_URL = f"{FORCE_SCRIPT_NAME or ''}/static/"
STATICFILES_DIRS = [FILES_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

# --- Security ---

SECURE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Below the sub-path alone: what else this host serves neither gets our cookies nor has its own replaced.
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = FORCE_SCRIPT_NAME or "/"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# Cookies only over TLS: for an installation behind a TLS proxy that sets X-Forwarded-Proto.
BEHIND_TLS = env_bool("LLAMAPROXY_BEHIND_TLS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
if BEHIND_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = (
        365 * 24 * 3600
    )  # of this name alone: what else its domain serves is not ours to say
CSRF_FAILURE_VIEW = "supervisor_app.web.errors.csrf_failure"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
LLAMAPROXY_SSO = sign_on_of(
    issuer=os.environ.get("LLAMAPROXY_SSO_ISSUER", ""),
    client_id=os.environ.get("LLAMAPROXY_SSO_CLIENT_ID", ""),
    client_secret=os.environ.get("LLAMAPROXY_SSO_CLIENT_SECRET", ""),
    roles=os.environ.get("LLAMAPROXY_SSO_ROLES", ""),
    others=os.environ.get("LLAMAPROXY_SSO_OTHERS", ""),
    groups_claim=os.environ.get("LLAMAPROXY_SSO_GROUPS_CLAIM", ""),
    scopes=os.environ.get("LLAMAPROXY_SSO_SCOPES", ""),
    label=os.environ.get("LLAMAPROXY_SSO_LABEL", ""),
    is_installed=find_spec("mozilla_django_oidc") is not None,
)
"""Provider of logins; None: passwords alone."""
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    *(["supervisor_app.fleet.sign_on.SignOnBackend"] if LLAMAPROXY_SSO else []),
]
# Failed logins are counted by all web processes together: once one refuses, a guess writes nothing anywhere.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}
AXES_HANDLER = "supervisor_app.fleet.login_counts.SharedHandler"
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
# By address, which a success sets back; and by account and address, which only that account's does: nobody
# guesses at another account for long by logging in to his own in between. Never by account alone, since a
# stranger could keep its owner out.
AXES_LOCKOUT_PARAMETERS = ["ip_address", ["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "llamaproxy.login_throttle.client_address"
AXES_LOCKOUT_CALLABLE = "llamaproxy.login_throttle.locked_out"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# --- llamaproxy ---

LLAMAPROXY_NODE = PLACE.node
"""Name of this host among those that share a database."""
LLAMAPROXY_ADVERTISE = os.environ.get("LLAMAPROXY_ADVERTISE", "")
"""Name or address of this host for gateways on other hosts."""
LLAMAPROXY_GATEWAY_URL = os.environ.get("LLAMAPROXY_GATEWAY_URL") or PLACE.gateway_url
"""Address of the gateway for programs, as the pages say it."""
# Gets the requests that name no model, where there are several servers.
LLAMAPROXY_DEFAULT_SERVER = os.environ.get("LLAMAPROXY_DEFAULT_SERVER", "default")
LLAMAPROXY_ALLOWED_ORIGINS = env_list("LLAMAPROXY_ALLOWED_ORIGINS", [])
"""Apps and pages that may ask the gateway although no API key exists."""
LLAMAPROXY_CONFIG_NAMED = bool(os.environ.get("LLAMAPROXY_CONFIG"))
_FOUND = "llamaproxy.toml" if Path("llamaproxy.toml").exists() else ".llama-proxy-config.json"
LLAMAPROXY_CONFIG = Path(os.environ.get("LLAMAPROXY_CONFIG") or _FOUND).absolute()
LLAMAPROXY_PUBLIC_STATUS = env_bool("LLAMAPROXY_PUBLIC_STATUS", True)
LLAMAPROXY_STATUS_SERVERS = env_list("LLAMAPROXY_STATUS_SERVERS", [])
"""Status page, its JSON, events and metrics readable without login."""
LLAMAPROXY_TRUST_ADMIN_FLAGS = env_bool("LLAMAPROXY_TRUST_ADMIN_FLAGS", False)
"""Forms take any flag of llama-server: every admin then has a shell on the machine."""

# --- Logging: the console is for people, so only our own words and other people's warnings ---

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"console": {"()": "supervisor_app.common.console.ConsoleFormatter"}},
    "handlers": {
        "console": {"class": "supervisor_app.common.console.ConsoleHandler", "formatter": "console"}
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "supervisor_app": {"level": "DEBUG" if DEBUG else "INFO"},
        "django": {"handlers": [], "level": "WARNING"},
        # A request that stops half-way or asks for a missing page is no news for the operator.
        "django.request": {"level": "ERROR"},
        # The page says which name was wrong; whoever asks for it could fill the log.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "daphne": {"level": "WARNING"},
        # While Redis is away it prints a traceback every second; the publisher says it once.
        "channels_redis": {"level": "CRITICAL"},
    },
}
