# Debian's packages. To be sourced after say.sh.

# Everything that engine, manager, tests and scripts need; versions as Debian 12 has them.
debian_packages=(
  git ca-certificates curl python3 openssl pkg-config cmake ninja-build ccache
  clang-19 clang-tidy-19 clang-format-19 lld-19 libclang-rt-19-dev g++
  libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev libssl-dev libseccomp-dev
  libyaml-cpp-dev libspdlog-dev libfmt-dev libcli11-dev libsqlite3-dev zlib1g-dev libncurses-dev
  libhnswlib-dev libopencc-dev prometheus-cpp-dev pybind11-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  python3-flask
)

# What the Python module is built with and tested with (scripts/bootstrap --python).
python_packages=(python3-dev python3-numpy python3-yaml)

# What the dashboard is looked at with (scripts/bootstrap --browser): a browser, and letters of the three languages.
browser_packages=(chromium fonts-dejavu-core fonts-wqy-microhei)

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done
}

install_packages() {
  local wanted=("${debian_packages[@]}")
  command -v npm >/dev/null || wanted+=(nodejs npm)
  if ! command -v dpkg-query >/dev/null; then
    stop_with "this is no Debian: the packages cannot be installed here." \
      "Made for Debian 12. Install what matches these yourself, then run with --no-packages:" "${wanted[*]}"
  fi
  local missing
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  ((${#missing[@]})) || return 0

  local system
  system=$(. /etc/os-release && printf '%s %s' "${ID:-?}" "${VERSION_ID:-?}")
  [[ $system == "debian 12" ]] || warn "made for Debian 12, this is $system: packages may have other names"
  local root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      stop_with "${#missing[@]} packages are missing and this user may not install them without a password." \
        "Run this once, then start again:" "sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    root=(sudo -n)
  fi
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
  step "Reading Debian's package lists" "${apt[@]}" update || true
  if ! step "Installing ${#missing[@]} Debian packages" "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; then
    stop_with "Debian's packages could not be installed: is there a network, and space on the disk?" \
      "The whole story: $LOG" "By hand: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
  fi
}
