# Pipeline steps, training pods and the MLflow server. Build from the repository's root: make images
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/immr
WORKDIR /app
COPY constraints.txt pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch's CUDA build depends on a Triton of its own
RUN sed -i '/^triton==/d' constraints.txt
RUN /opt/immr/bin/pip install --constraint constraints.txt --index-url ${TORCH_INDEX} torch==2.13.0
# editable, because packaging builds immr's wheel for Bentos from this source, with hatchling
RUN /opt/immr/bin/pip install --constraint constraints.txt hatchling --editable '.[train,serve,watch,pipeline,cluster]'

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="immr-pipeline" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.licenses="Apache-2.0"
# LightGBM's OpenMP
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# with GPU: Triton and torch.compile compile at run time
ARG GPU=
RUN if [ -n "${GPU}" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=build /opt/immr /opt/immr
COPY --from=build /app /app
COPY serving /app/serving
COPY components /app/components
COPY pipelines /app/pipelines
ENV PATH=/opt/immr/bin:$PATH IMMR_APP=/app HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python"]
