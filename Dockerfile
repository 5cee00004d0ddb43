# llamaproxy in one container: pages, API, WebSocket, gateway and the supervisor with its llama-server.
#
#   docker build -t llamaproxy .
#   docker run -p 127.0.0.1:8000:8000 -v llamaproxy:/data -v "$PWD":/srv:ro --stop-timeout 60 llamaproxy
#
# /srv is where you would start it without Docker: .llama-proxy-config.json and ./models are looked for there.
FROM python:3.11-slim

# "engine" is the bundled llama.cpp. With one of your own, mounted and named by LLAMA_SERVER_BINARY:
# --build-arg EXTRAS=postgres,sso
ARG EXTRAS="engine,postgres,sso"

# tini: children that llama-server leaves behind become process 1's, and somebody must reap them.
# libgomp1: what the bundled engine wants of the system, and most builds of llama-server that you may mount.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/*

# uv holds what it installs against the hashes of the lock file, also for a part of it; pip can only take all.
COPY pyproject.toml deploy/requirements.lock /build/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==0.13.9 \
    && cd /build \
    && uv pip install --system --no-cache --compile-bytecode --constraint requirements.lock \
        -r pyproject.toml $(echo "$EXTRAS" | sed 's/[^,][^,]*/--extra &/g; s/,/ /g') \
    && pip uninstall -y --root-user-action=ignore uv \
    && rm -rf /build

COPY manage.py /app/
COPY llamaproxy /app/llamaproxy
COPY supervisor_app /app/supervisor_app
COPY templates /app/templates
COPY static /app/static
RUN python -m compileall -q /app \
    && useradd --system --uid 10001 --user-group --home-dir /data --no-create-home llamaproxy \
    && install -d -o llamaproxy -g llamaproxy -m 700 /data \
    && install -d /srv

ENV PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    LLAMAPROXY_DATA_DIR=/data
USER llamaproxy
WORKDIR /srv
VOLUME /data
# 8134 only matters with "llama_server_host": "0.0.0.0".
EXPOSE 8000 8001 8134
STOPSIGNAL SIGTERM

# Asks as the first of ALLOWED_HOSTS: any other name gets a 400. With --no-web there is nothing to ask.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import http.client, os, sys; \
host = os.environ.get('ALLOWED_HOSTS', '').split(',')[0].strip().lstrip('.*') or 'localhost'; \
connection = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); \
connection.request('GET', '/livez', headers={'Host': host}); \
sys.exit(connection.getresponse().status != 200)"]

ENTRYPOINT ["tini", "--"]
CMD ["python", "/app/manage.py", "runsupervisor", "--bind", "0.0.0.0:8000"]
