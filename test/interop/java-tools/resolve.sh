#!/usr/bin/env bash
# Puts the jars of Apache Kafka's tools, and of a Kafka broker to compare with, into the cache of peers. Does nothing when they
# are there. Needs mvn and Java 17 or later. Prints the directory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${NARU_PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/naru-peers}
version=$(sed -n 's:.*<version>\([0-9]*\.[0-9.]*\)</version>.*:\1:p' "$here/pom.xml" | head -1)
target=$cache/java-tools-$version
if [ ! -d "$target" ]; then
  mkdir -p "$cache"
  half=$(mktemp -d "$cache/.java-tools.XXXXXX")
  trap 'rm -rf "$half"' EXIT
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$half/jars" >&2
  mv -T "$half/jars" "$target"
fi
echo "$target"
