# The worker's image: the wheel in an environment of its own, without build tools, run by a user without rights.
FROM python:3.12.13-slim-bookworm AS base

FROM base AS build
WORKDIR /source
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY activities activities
COPY cache cache
COPY workers workers
COPY workflows workflows
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels . \
    && /opt/venv/bin/pip install --constraint constraints.txt /wheels/*.whl \
    && /opt/venv/bin/pip uninstall --yes pip

FROM base
RUN useradd --uid 10001 --home-dir /var/lib/datanadhi --create-home --shell /usr/sbin/nologin datanadhi
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_ADDRESS=0.0.0.0:8080 \
    METRICS_ADDRESS=0.0.0.0:9090
USER 10001
# Failures are kept in ./failures where no store is named.
WORKDIR /var/lib/datanadhi
EXPOSE 8080 9090
# Alive, not ready: a worker that waits for Temporal is well. Restarting it would not help.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/livez', timeout=4)"]
ENTRYPOINT ["datanadhi-worker"]
CMD ["run"]
