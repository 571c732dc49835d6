#!/usr/bin/env bash
# install.sh FOLDER: puts the tests and the packages that they use into FOLDER, unless that is done already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder"
cp "$here"/*.mjs "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$folder/"
stamp=$(sha256sum <"$here/package-lock.json")
[[ -f $folder/node_modules/stamp && $(<"$folder/node_modules/stamp") == "$stamp" ]] && exit 0
cd "$folder"
npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1 ||
  { cat npm.log; echo "npm could not fetch the packages of tests/web: is there a network to npm's registry?"; exit 1; }
printf '%s\n' "$stamp" >node_modules/stamp
