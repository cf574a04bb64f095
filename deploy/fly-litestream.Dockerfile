# syntax=docker/dockerfile:1
# The image of ../Dockerfile with Litestream as the parent of the server. Build it from the root:
# docker build -f deploy/fly-litestream.Dockerfile .

FROM rust:1-slim-bookworm AS builder
WORKDIR /build
# Dependencies form a layer of their own, built with stubs. It stays valid until these two files change.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/load \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs benches/load/ \
    && cp src/main.rs benches/micro.rs \
    && cargo build --release --locked
COPY src src
# A module includes this file as its documentation.
COPY docs/conversations.md docs/
# Cargo compares file times, and the stubs may be newer than the source.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked \
    && mkdir /data

# A static binary, in the version that deploy/README.md names as checked.
FROM litestream/litestream:0.5.17-scratch AS litestream

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=litestream /usr/local/bin/litestream /usr/local/bin/litestream
COPY deploy/litestream.yml /etc/litestream.yml
COPY --from=builder /build/target/release/radio-istic /radio-istic
# A new volume takes its owner from this directory.
COPY --from=builder --chown=nonroot:nonroot /data /data
ENV HOST=0.0.0.0 SQLITE_PATH=/data/radio-istic.db
VOLUME /data
EXPOSE 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/radio-istic", "health"]
# On an empty volume, Litestream restores the file before the server starts. It forwards the stop signal,
# and copies the server's last changes after the server has stopped.
ENTRYPOINT ["/usr/local/bin/litestream", "replicate", "-restore-if-db-not-exists", "-exec", "/radio-istic"]
