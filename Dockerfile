# syntax=docker/dockerfile:1

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

# This image has glibc, whose allocator returns memory after a peak. It has no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /build/target/release/radio-istic /radio-istic
# A new volume takes its owner from this directory.
COPY --from=builder --chown=nonroot:nonroot /data /data
ENV HOST=0.0.0.0 SQLITE_PATH=/data/radio-istic.db
VOLUME /data
EXPOSE 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/radio-istic", "health"]
ENTRYPOINT ["/radio-istic"]
