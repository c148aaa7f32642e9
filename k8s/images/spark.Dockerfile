# Governance on Spark: the pipeline's image, Java and pyspark. Run `make images` first, then `make image-spark`.
ARG PIPELINE_IMAGE=immr/pipeline-python:0.1.0
ARG SPARK_IMAGE=docker.io/apache/spark:4.0.1-scala2.13-java17-ubuntu
# only for its entrypoint, which starts drivers and executors and is not in pip's pyspark
FROM ${SPARK_IMAGE} AS spark

FROM ${PIPELINE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG PIPELINE_IMAGE
LABEL org.opencontainers.image.title="immr-spark" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PIPELINE_IMAGE}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER root
# Hadoop's login needs a user name
RUN apt-get update \
 && apt-get install --yes --no-install-recommends default-jre-headless procps tini \
 && rm -rf /var/lib/apt/lists/* \
 && echo 'immr:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd
# spark-submit recognizes Python by the suffix .py
RUN /opt/immr/bin/pip install --no-cache-dir --constraint constraints.txt --editable '.[spark]' \
 && ln -s immr /opt/immr/bin/immr-cli.py
COPY --from=spark /opt/entrypoint.sh /opt/entrypoint.sh
ENV SPARK_HOME=/opt/immr/lib/python3.11/site-packages/pyspark JAVA_HOME=/usr/lib/jvm/default-java \
    PYSPARK_PYTHON=/opt/immr/bin/python PYSPARK_DRIVER_PYTHON=/opt/immr/bin/python
USER 10001:10001
ENTRYPOINT ["/opt/entrypoint.sh"]
