# Which model to propose for this machine. To be sourced.

# "MIB card" where the engine was built for a card whose driver tells its memory, else "MIB host": the memory that models get.
model_memory() {
  local mib= meminfo=${MEMINFO:-/proc/meminfo}
  if [[ $(sed -n 's/^variant: *//p' "${root:-.}/build/engine-variant" 2>/dev/null) != cpu* ]]; then
    if command -v nvidia-smi >/dev/null; then
      mib=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | sort -n | tail -n 1 | tr -cd 0-9 || true)
    elif compgen -G '/sys/class/drm/card*/device/mem_info_vram_total' >/dev/null; then
      mib=$(($(sort -n /sys/class/drm/card*/device/mem_info_vram_total | tail -n 1) / 1048576))
    fi
  fi
  if [[ $mib ]]; then printf '%s card\n' "$mib"; return; fi
  printf '%s host\n' "$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' "$meminfo") / 1024))"
}

# "a card with 24 GB", "this machine with 16 GB".
memory_text() {
  local gib=$(((${1% *} + 512) / 1024))
  if [[ ${1#* } == card ]]; then echo "a card with $gib GB"; else echo "this machine with $gib GB"; fi
}

# better_model "MIB card|host": a source for `llm-manager pull`. At four bits a model takes 0.6 bytes a parameter, and half of
# the memory is left for its context and for everybody else. Without a card a larger one fits too, but answers too slowly.
better_model() {
  local mib=${1% *} size
  if [[ ${1#* } == host ]] && ((mib > 10000)); then mib=10000; fi
  if ((mib >= 40000)); then size=32B; elif ((mib >= 22000)); then size=14B; elif ((mib >= 11000)); then size=8B
  elif ((mib >= 7000)); then size=4B; elif ((mib >= 3500)); then size=1.7B; else size=0.6B; fi
  echo "hf:Qwen/Qwen3-$size-GGUF"
}
