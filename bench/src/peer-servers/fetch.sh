#!/usr/bin/env bash
# Puts the servers that `npm run bench:peers` runs beside Naru into the cache of peers; what is there already stays as it is.
#
#   Apache Kafka and its tools   Maven Central     needs mvn and Java 17
#   librdkafka's client          npm               needs a C++ compiler, python3 and headers (test/interop/librdkafka/build.sh)
#   NATS                         Go module proxy   needs go
#   Redis, RabbitMQ              Debian trixie, in a directory of its own, run by chroot   needs debootstrap, and root
#
# What cannot be fetched is said; the bench goes on without it, or with a redis-server and rabbitmq-server of the machine.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${NARU_PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/naru-peers}
nats_version=2.15.2
debian_release=trixie
failed=0
mkdir -p "$cache"
half=$(mktemp -d "$cache/.half.XXXXXX")
trap 'rm -rf "$half"' EXIT

fetch_nats() {
  [ -d "$cache/nats-$nats_version" ] && return
  GOBIN="$half/nats" go install "github.com/nats-io/nats-server/v2@v$nats_version" && mv -T "$half/nats" "$cache/nats-$nats_version"
}

fetch_debian() {
  [ -d "$cache/debian-$debian_release" ] && return
  debootstrap --variant=minbase --include=redis-server,rabbitmq-server "$debian_release" "$half/debian" &&
    mv -T "$half/debian" "$cache/debian-$debian_release"
}

for what in "$root/test/interop/java-tools/resolve.sh" "$root/test/interop/librdkafka/build.sh" fetch_nats fetch_debian; do
  if "$what" >&2; then echo "there: ${what##*/interop/}"; else
    failed=1
    echo "NOT there: ${what##*/interop/}"
  fi
done
exit "$failed"
