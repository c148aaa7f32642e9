# The A/B gateway and the web page, whose pods may read a test but not change deployments.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/immr
WORKDIR /build
COPY constraints.txt pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
# mlflow: the page and `immr experiment` use the registry
RUN /opt/immr/bin/pip install --constraint constraints.txt '.[watch]' aiohttp confluent-kafka httptools mlflow uvloop \
 && /opt/immr/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="immr-gateway" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/immr /opt/immr
COPY serving /app/serving
COPY dashboards /app/dashboards
ENV PATH=/opt/immr/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python"]
CMD ["-m", "serving.gateway", "--host", "0.0.0.0", "--port", "8080"]
