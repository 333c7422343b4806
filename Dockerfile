# The gateway as one static binary, its plugins and policies inside, in an image that holds nothing else.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make plugins
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/nexus ./cmd/nexus
RUN mkdir -p -m 0700 /out/cache

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/nexus /nexus
# Compiled plugins are kept in /cache, the only place written to: mount a volume there, and the root file
# system can be read-only.
COPY --from=build --chown=65532:65532 /out/cache /cache
ENV XDG_CACHE_HOME=/cache
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/nexus"]
CMD ["serve"]
