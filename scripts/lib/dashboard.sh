# The dashboard, made of web/ into the files that the daemon carries. To be sourced after node.sh.

# What the files depend on: what web/ has, and nothing else.
dashboard_key() {
  (cd "$ROOT/web" && find . \( -name node_modules -o -name dist \) -prune -o -type f -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -c1-20)
}

# Builds it beside the checkout's other outputs, out of a copy: nothing is installed into the checkout.
build_dashboard() {
  local key=$1 work=$ROOT/build/web folder file stamp
  install_node || return 1
  folder=$(node_folder)
  [[ $folder ]] && local PATH=$folder:$PATH
  mkdir -p "$work"
  find "$work" -mindepth 1 -maxdepth 1 ! -name node_modules -exec rm -rf {} +
  (cd "$ROOT/web" && find . \( -name node_modules -o -name dist \) -prune -o -type f -print0 | xargs -0 cp --parents -t "$work")
  stamp=$(sha256sum <"$work/package-lock.json")
  if [[ ! -f $work/node_modules/stamp || $(<"$work/node_modules/stamp") != "$stamp" ]]; then
    if ! (cd "$work" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund); then
      say "npm could not fetch what the dashboard is built with: is there a network to npm's registry?"
      return 1
    fi
    printf '%s\n' "$stamp" >"$work/node_modules/stamp"
  fi
  (cd "$work" && node node_modules/vite/bin/vite.js build --outDir dist --emptyOutDir) || return 1
  local packed=$CACHE/dashboard/fetch.$key
  rm -rf "$packed" && mkdir -p "$packed" || return 1
  while IFS= read -r file; do
    mkdir -p "$packed/$(dirname "$file")"
    gzip -9 --no-name --stdout "$work/dist/$file" >"$packed/$file.gz" || return 1
  done < <(cd "$work/dist" && find . -type f -printf '%P\n')
  printf '%s\n' "$key" >"$packed/stamp"
  rm -rf "${CACHE:?}/dashboard/$key" && mv "$packed" "$CACHE/dashboard/$key"
}

# Puts it where the manager's build looks for it, unless it is there.
place_dashboard() {
  local key=$1 place=$ROOT/build/dashboard
  [[ -f $place/stamp && $(<"$place/stamp") == "$key" ]] && return 0
  rm -rf "$place" && cp -r "$CACHE/dashboard/$key" "$place" && touch "$place/stamp"
}
