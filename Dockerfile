# One static binary and nothing else. `./dev image` builds it with the arguments named below, as does
#   podman build --build-arg VERSION=... --build-arg REVISION=... --build-arg CREATED=... --timestamp ... .
# The same source, arguments and Debian packages give the same image, to the byte.

# The machine that builds; for another one the compiler makes the code. Docker knows this argument by itself.
ARG BUILDPLATFORM
FROM --platform=$BUILDPLATFORM docker.io/library/debian:12-slim AS builder
ARG TARGETARCH
WORKDIR /src
# The list of packages is in ./dev, for every machine that builds a release.
COPY dev ./
RUN ./dev setup release "$TARGETARCH"
COPY . .
# For `sluice --version`: there is no git here.
ARG REVISION=unknown
RUN SLUICE_COMMIT="$(printf %.12s "$REVISION")" ./dev release "$TARGETARCH" && cp build/*/sluice /sluice

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="Captures a pod's traffic for its sidecar proxy" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=builder /sluice /sluice
ENTRYPOINT ["/sluice"]
