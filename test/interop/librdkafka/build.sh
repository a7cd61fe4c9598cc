#!/usr/bin/env bash
# Builds @confluentinc/kafka-javascript, with the librdkafka that it brings, for the Node that runs the tests, into the cache of
# peers. Does nothing when it is there. Its prebuilt binary would come from GitHub; this needs npm's registry only, and a C++
# compiler, make, python3 and the headers of zlib, OpenSSL and zstd. Takes three minutes on two cores. Prints the directory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${NARU_PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/naru-peers}
node=$("$root/node_modules/.bin/node" -p process.execPath)
version=$(sed -n 's/.*"@confluentinc\/kafka-javascript": "\(.*\)".*/\1/p' "$here/package.json")
target=$cache/librdkafka-$version-node-$("$node" -p process.version)
if [ ! -d "$target" ]; then
  # Node's headers come in the same package as its binary.
  headers=$(cd "$(dirname "$node")/.." && pwd)
  export PATH="$headers/bin:$PATH" CKJS_LINKING=dynamic
  # The rules of its own build cannot run in parallel.
  unset MAKEFLAGS
  mkdir -p "$cache"
  half=$(mktemp -d "$cache/.librdkafka.XXXXXX")
  trap 'rm -rf "$half"' EXIT
  cp "$here/package.json" "$half"
  cd "$half"
  {
    npm install --ignore-scripts --no-audit --no-fund
    cd node_modules/@confluentinc/kafka-javascript
    node ../../node-gyp/bin/node-gyp.js rebuild --nodedir="$headers"
  } >&2
  chmod 755 "$half"
  mv -T "$half" "$target"
fi
echo "$target"
