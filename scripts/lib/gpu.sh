# Which card is here, and which variant of the engine can be built for it. To be sourced after say.sh.

# Sets card_kind (nvidia, amd or empty) and card_name.
detect_card() {
  card_kind= card_name=
  local file
  if compgen -G '/proc/driver/nvidia/gpus/*/information' >/dev/null; then
    card_kind=nvidia
    card_name=$(sed -n 's/^Model:[[:space:]]*//p' /proc/driver/nvidia/gpus/*/information | head -n 1)
  elif [[ -e /dev/nvidia0 ]] || { command -v lspci >/dev/null && lspci -n | grep -qE ' 03(00|02): 10de:'; }; then
    card_kind=nvidia
  else
    for file in /sys/class/drm/card*/device/vendor; do
      if [[ -r $file && $(<"$file") == 0x1002 && $(readlink -f "${file%/vendor}/driver" 2>/dev/null) == */amdgpu ]]; then
        card_kind=amd
        [[ -r ${file%/vendor}/product_name ]] && card_name=$(<"${file%/vendor}/product_name")
        break
      fi
    done
  fi
  if [[ $card_kind == nvidia && ! $card_name ]]; then card_name="NVIDIA card"; fi
  if [[ $card_kind == amd && ! $card_name ]]; then card_name="AMD card"; fi
}

find_nvcc() {
  local place
  for place in "$(command -v nvcc || true)" "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"; do
    if [[ $place && -x $place ]]; then printf '%s\n' "$place"; return 0; fi
  done
  return 1
}

# The toolkit's version, as 13.0; empty where nvcc does not say.
nvcc_release() { "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1; }
nvcc_needed=12

# What the cards here can compute, as "8.6;9.0"; empty where no driver tells.
card_capabilities() {
  command -v nvidia-smi >/dev/null || return 0
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -E '^[0-9]+\.[0-9]+$' | sort -u | paste -sd ';' || true
}

# The number of the Vulkan headers, as 1.3.NUMBER; 0 where there are none.
vulkan_headers() {
  local header number=0
  for header in "${VULKAN_SDK:-/nonexistent}/include/vulkan/vulkan_core.h" /usr/local/include/vulkan/vulkan_core.h /usr/include/vulkan/vulkan_core.h; do
    if [[ -r $header ]]; then
      # 1.4's own count begins anew; all of it is new enough.
      if grep -q '^#define VK_API_VERSION_1_4' "$header"; then number=9999; else
        number=$(sed -n 's/^#define VK_HEADER_VERSION \([0-9]*\)$/\1/p' "$header")
      fi
      break
    fi
  done
  printf '%s\n' "${number:-0}"
}
vulkan_header_needed=272

# choose_variant WISH: sets variant (cpu, cuda, vulkan) and the lines variant_notes, each "key: text". WISH: auto, none, cuda,
# vulkan; a wish that cannot be granted stops.
choose_variant() {
  local wish=$1 nvcc headers why release old_nvcc=
  variant=cpu
  detect_card
  variant_notes=("card: ${card_name:-none}")
  nvcc=$(find_nvcc) || nvcc=
  if [[ $nvcc ]]; then
    release=$(nvcc_release "$nvcc")
    if ((${release%%.*} < nvcc_needed)) 2>/dev/null; then old_nvcc="$nvcc is of CUDA $release" nvcc=; fi
  fi
  headers=$(vulkan_headers)
  local vulkan_ready=
  if ((headers >= vulkan_header_needed)) && command -v glslc >/dev/null; then vulkan_ready=1; fi
  local mend_cuda="install NVIDIA's CUDA toolkit 12 or newer, then run scripts/bootstrap again"
  local mend_vulkan="sudo apt-get install -y glslc libvulkan-dev spirv-headers, with headers of at least 1.3.$vulkan_header_needed (LunarG's SDK has them), then run scripts/bootstrap again"

  case $wish in
    none)
      if [[ $card_kind ]]; then variant_notes+=("note: the card is left unused, as --gpu none asks"); fi
      return ;;
    cuda)
      [[ $nvcc ]] || stop_with "--gpu cuda needs nvcc of CUDA $nvcc_needed or newer, and ${old_nvcc:-there is none here}." "$mend_cuda"
      [[ $card_kind == nvidia ]] || warn "there is no NVIDIA card here: what is built with CUDA then runs on the host"
      variant=cuda
      return ;;
    vulkan)
      [[ $vulkan_ready ]] || stop_with "--gpu vulkan needs glslc and Vulkan headers of at least 1.3.$vulkan_header_needed; here are 1.3.$headers." "$mend_vulkan"
      variant=vulkan
      return ;;
  esac
  [[ $card_kind ]] || return 0
  if [[ $card_kind == nvidia && $nvcc ]]; then
    variant=cuda
  elif [[ $vulkan_ready ]]; then
    variant=vulkan
  else
    if [[ $card_kind == nvidia ]]; then
      why="${old_nvcc:-there is no nvcc}, and Vulkan's headers (1.3.$headers) are older than 1.3.$vulkan_header_needed or glslc is missing"
      variant_notes+=("warning: the card is not used: $why" "mend: $mend_cuda")
    else
      why="Vulkan's headers (1.3.$headers) are older than 1.3.$vulkan_header_needed or glslc is missing"
      variant_notes+=("warning: the card is not used: $why" "mend: $mend_vulkan")
    fi
  fi
}
