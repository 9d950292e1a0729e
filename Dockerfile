# The server alone. Build: docker build --tag sidelight .
# Run: docker run --read-only --tmpfs /tmp --publish 8461:8461 --volume "$PWD/models:/models:ro" sidelight

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Without pip: the image that runs has nothing to install with.
RUN python -m venv --without-pip /opt/sidelight \
    && pip install --no-cache-dir "pip>=25.1,<27"
COPY pyproject.toml LICENSE README.md ./
COPY engines engines
COPY service service
COPY clients/python clients/python
# Bytecode is made here, because the root file system of a running container may be read-only.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels . \
    && pip --python /opt/sidelight/bin/python install --compile /wheels/*.whl
COPY deploy/healthcheck.py /opt/sidelight/healthcheck.py

FROM python:3.11-slim
LABEL org.opencontainers.image.title="Sidelight" \
      org.opencontainers.image.description="A gRPC sidecar that explains the predictions of served ONNX and SavedModel models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/sidelight-dev/sidelight"
COPY --from=build /opt/sidelight /opt/sidelight
# Whatever libraries cache goes to /tmp, the one place that has to be writable.
ENV PATH=/opt/sidelight/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    SIDELIGHT_MODELS=/models
# A mount point, so that a server without models starts and says that it has none.
RUN mkdir /models
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
# 8461: gRPC. 8462: metrics.
EXPOSE 8461 8462
# For Docker and Compose; Kubernetes ignores it and has gRPC probes of its own (deploy/kubernetes).
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "/opt/sidelight/healthcheck.py", "127.0.0.1:8461"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sidelight"]
CMD ["serve"]
