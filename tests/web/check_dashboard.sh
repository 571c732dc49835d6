#!/usr/bin/env bash
# check_dashboard.sh FOLDER: the types of the dashboard's source, looked at in FOLDER with what its lock file pins for that.
set -euo pipefail
web=$(cd "$(dirname "$0")/../../web" && pwd)
folder=$(realpath -m "$1")
mkdir -p "$folder"
find "$folder" -mindepth 1 -maxdepth 1 ! -name node_modules -exec rm -rf {} +
(cd "$web" && find . \( -name node_modules -o -name dist \) -prune -o -type f -print0 | xargs -0 cp --parents -t "$folder")
cd "$folder"
stamp=$(sha256sum <package-lock.json)
if [[ ! -f node_modules/stamp || $(<node_modules/stamp) != "$stamp" ]]; then
  npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1 ||
    { cat npm.log; echo "npm could not fetch the packages of web: is there a network to npm's registry?"; exit 1; }
  printf '%s\n' "$stamp" >node_modules/stamp
fi
node node_modules/svelte-check/bin/svelte-check --tsconfig ./tsconfig.json --fail-on-warnings
