# Holdfast's API, worker and command line with the tools they run. See docs/installation.md.
ARG NODE=node:24-trixie-slim

FROM ${NODE} AS packages
WORKDIR /opt/holdfast
COPY package.json package-lock.json .npmrc ./
# The image brings its own Node.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/node-linux-* node_modules/.bin/node

FROM ${NODE}
# Versions are Debian's: older ones are not kept on its servers, so a pinned one would stop building.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends \
    ca-certificates postgresql-client-17 sqlite3 tini wget zstd \
  # Every container is a machine of its own.
  && rm -rf /var/lib/apt/lists/* /etc/machine-id /var/lib/dbus/machine-id \
  && install --directory --owner=node --group=node --mode=0700 /var/lib/holdfast
WORKDIR /opt/holdfast
COPY --from=packages /opt/holdfast/node_modules node_modules
COPY package.json LICENSE README.md ./
COPY bin bin
COPY model model
COPY engines engines
COPY hosts hosts
COPY storage storage
COPY catalog catalog
COPY activities activities
COPY workflows workflows
COPY api api
COPY cli cli
ENV NODE_ENV=production \
  PATH=/opt/holdfast/bin:$PATH \
  HOLDFAST_HOME=/var/lib/holdfast
# The image's user `node`.
USER 1000:1000
VOLUME /var/lib/holdfast
EXPOSE 7460
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
  CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:7460/healthz"]
# The tools' children need a first process that reaps them.
ENTRYPOINT ["tini", "--", "holdfast"]
CMD ["api"]
