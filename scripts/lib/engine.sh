# The engine: fetched, patched, built once for each version, set of patches, compiler, machine and variant. To be sourced
# after npm.sh. CACHE and ROOT are set by the caller.

engine_version=0.5.0

# "plain" where there are none, else a short hash of all of them in their order.
engine_patches() {
  local patches=("$ROOT"/engine/patches/*.patch)
  if [[ -e ${patches[0]} ]]; then
    cat "${patches[@]}" | sha256sum | cut -c 1-8
  else
    printf 'plain\n'
  fi
}

engine_source() { printf '%s/engine/src-%s-%s\n' "$CACHE" "$engine_version" "$1"; }

fetch_engine() {
  local source work
  source=$(engine_source plain)
  [[ -d $source ]] && return 0
  mkdir -p "$CACHE/engine"
  work=$(mktemp -d "$CACHE/engine/fetch.XXXXXX")
  npm_file node-llama-cpp package/llama/gitRelease.bundle "$work/bundle" || { rm -rf "$work"; return 1; }
  git -c advice.detachedHead=false clone --quiet "$work/bundle" "$work/src" || { rm -rf "$work"; return 1; }
  mv -T "$work/src" "$source"
  rm -rf "$work"
}

patch_engine() {
  local patches=$1 source work patch
  source=$(engine_source "$patches")
  [[ -d $source ]] && return 0
  work=$(mktemp -d "$CACHE/engine/patch.XXXXXX")
  cp -a "$(engine_source plain)" "$work/src"
  for patch in "$ROOT"/engine/patches/*.patch; do
    git -C "$work/src" apply --whitespace=nowarn "$patch" || { rm -rf "$work"; say "$patch does not apply to llama.cpp v$engine_version"; return 1; }
  done
  mv -T "$work/src" "$source"
  rm -rf "$work"
}

# For which cards kernels are made: LLM_MANAGER_CUDA_ARCHITECTURES as CMake takes it ("86;90"), else those that are here, else
# every generation that this toolkit knows, which takes long.
cuda_architectures() {
  local here
  here=$(card_capabilities)
  here=$(sed 's/\.//g; s/[0-9]\+/&-real/g' <<<"$here")
  printf '%s\n' "${LLM_MANAGER_CUDA_ARCHITECTURES:-${here:-all-major}}"
}

# What the build depends on besides its sources: machine code is made for this very processor.
engine_key() {
  local variant=$1 patches=$2
  {
    printf '%s %s %s\n' "$engine_version" "$patches" "$variant"
    clang++-19 --version | head -n 1
    if [[ $variant == cuda ]]; then
      "$(find_nvcc)" --version | tail -n 1
      cuda_architectures
    fi
    sed -n '/^\(flags\|Features\)[[:space:]]*:/{p;q}' /proc/cpuinfo
    cat "$ROOT/engine/CMakeLists.txt" "$ROOT/engine/CMakePresets.json"
  } | sha256sum | cut -c 1-12
}

# The worker's own sources go beside the build, so that a build folder belongs to no checkout and every checkout, CI's too,
# finds the engine built. What differs from the last checkout's is as new as this moment, and what does not is as old as the
# objects made of it: a checkout's own times would leave objects of another one's newer file where they are.
copy_worker_sources() {
  local tree=$1 path file
  rm -rf "$tree.partial" && mkdir -p "$tree.partial/bench" "$tree.partial/src/os" || return 1
  cp -a "$ROOT/engine" "$tree.partial/" && cp -a "$ROOT/bench/models" "$tree.partial/bench/" || return 1
  for path in base domain wire; do cp -a "$ROOT/src/$path" "$tree.partial/src/" || return 1; done
  cp -a "$ROOT/src/os/sandbox" "$ROOT"/src/os/system_error.* "$tree.partial/src/os/" || return 1
  while IFS= read -r -d '' file; do
    if cmp -s "$tree/$file" "$tree.partial/$file"; then touch -r "$tree/$file" "$tree.partial/$file"; else touch "$tree.partial/$file"; fi
  done < <(cd "$tree.partial" && find . -type f -print0)
  rm -rf "$tree" && mv -T "$tree.partial" "$tree"
}

# build_engine VARIANT PATCHES PEER_ONLY TARGET...: prints nothing; the programs are in $CACHE/engine/build-KEY/bin.
build_engine() {
  local variant=$1 patches=$2 peer_only=$3 key tree build extra=()
  shift 3
  key=$(engine_key "$variant" "$patches")
  tree=$CACHE/engine/tree-$key build=$CACHE/engine/build-$key
  local version=$engine_version
  [[ $patches == plain ]] || version+=-$patches
  if [[ $variant == cuda ]]; then
    # The toolkit is looked for before its compiler is known: both must be the same one.
    local nvcc
    nvcc=$(readlink -f "$(find_nvcc)")
    extra+=(-DCMAKE_CUDA_COMPILER="$nvcc" -DCUDAToolkit_ROOT="${nvcc%/bin/nvcc}" -DCMAKE_CUDA_ARCHITECTURES="$(cuda_architectures)")
  fi
  # Under this name the compiler sees the source relative to the build folder, so that ccache knows a file again whatever the
  # set of patches that it was not touched by.
  mkdir -p "$build" && ln -sfn "$(engine_source "$patches")" "$build/source" || return 1
  export CCACHE_BASEDIR=$build CCACHE_NOHASHDIR=1
  copy_worker_sources "$tree" &&
    cmake --preset "$variant" -S "$tree/engine" -B "$build" -DLLM_MANAGER_ENGINE_SOURCE="$build/source" \
      -DLLM_MANAGER_ENGINE_VERSION="$version" -DLLM_MANAGER_ENGINE_PEER_ONLY="$peer_only" "${extra[@]}" &&
    NINJA_STATUS='[%f/%t] ' ninja -C "$build" "$@"
}

# place_program FROM NAME: into build/release/bin, replaced at once, so that one that runs is not disturbed.
place_program() {
  local bin=$ROOT/build/release/bin
  mkdir -p "$bin"
  [[ $1 -ef $bin/$2 ]] && return 0
  ln -f "$1" "$bin/.$2.new" 2>/dev/null || cp -f "$1" "$bin/.$2.new"
  mv -f "$bin/.$2.new" "$bin/$2"
}
