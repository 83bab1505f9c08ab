# syntax=docker/dockerfile:1
# Two stages: the image has Python and Penstock; pip and what it needs stay in the first.

FROM python:3.13-slim AS build
WORKDIR /src
# .dockerignore lets only the package's own files through.
COPY . .
# Says which interpreter it is: PGO and LTO, which these images have, spare a tenth of CPU.
RUN python -c "import sys, sysconfig as s; a = s.get_config_var('CONFIG_ARGS') or ''; \
        sys.exit('--enable-optimizations' not in a and 'this Python was built without PGO'); \
        " && python -c "import sys, sysconfig; print(sys.version, sysconfig.get_config_var('CONFIG_ARGS'))"
RUN python -m venv /opt/penstock \
    && /opt/penstock/bin/pip install --no-cache-dir --disable-pip-version-check \
        -c constraints.txt .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent penstock
COPY --from=build /opt/penstock /opt/penstock
# Nothing is written, so the file system may be read-only. pip has compiled the bytecode.
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PENSTOCK_HTTP_HOST=0.0.0.0 \
    PENSTOCK_HTTP_PORT=8080
USER 10001:10001
# A penstock.toml mounted here is read.
WORKDIR /etc/penstock
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=3)"]
ENTRYPOINT ["penstock"]
CMD ["run"]
