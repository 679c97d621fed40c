# One image for the three services; the command names the one to run.
ARG RUST_IMAGE=rust:1.95.0-slim-trixie
ARG RUNTIME_IMAGE=debian:trixie-slim

# The manifests alone, with empty sources. What this stage leaves changes only when a manifest or
# the lock does, so the compiled dependencies below stay cached while the code is edited.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN mkdir /manifests \
    && find . -name Cargo.toml -exec cp --parents -t /manifests {} + \
    && cp Cargo.lock /manifests \
    && find crates -path '*/src/lib.rs' -o -path '*/src/main.rs' -o -path '*/src/bin/*.rs' \
        -o -path '*/tests/*.rs' -o -name build.rs \
        | while read -r file; do \
            mkdir -p "/manifests/${file%/*}" && echo 'fn main() {}' >"/manifests/$file"; \
        done

FROM ${RUST_IMAGE} AS build
# The queries were checked against crates/*/.sqlx; no database is needed to compile.
ENV SQLX_OFFLINE=true
WORKDIR /src
COPY --from=manifests /manifests .
RUN cargo build --release --locked -p paidonce
COPY . .
# The empty sources above are younger than the real ones: without this cargo would keep them.
RUN find crates -name '*.rs' -exec touch {} + && cargo build --release --locked -p paidonce

FROM ${RUNTIME_IMAGE}
# For TLS to the broker and the databases; the slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/paidonce /usr/local/bin/paidonce
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["/usr/local/bin/paidonce"]
