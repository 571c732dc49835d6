#!/usr/bin/env bash
# Installs the library, builds examples/cpp against the installed tree with g++, and lets it ask TinyLlama.
#   cpp_example.sh SOURCE BUILD CMAKE
set -euo pipefail
source=$1 build=$2 cmake=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
models=${XDG_CACHE_HOME:-$HOME/.cache}/llm-manager/models

"$cmake" --install "$build" --prefix "$folder/installed" >"$folder/install.log"
"$cmake" -S "$source/examples/cpp" -B "$folder/build" -DCMAKE_CXX_COMPILER=g++ -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$folder/installed" >"$folder/configure.log" || { cat "$folder/configure.log"; exit 1; }
"$cmake" --build "$folder/build"
cat >"$folder/llm-manager.yaml" <<YAML
models:
  llm: {model_path: "$models/tinyllama-1.1b-chat-iq2_xxs.gguf", max_length: 1024}
  embedding: {model_path: "$models/all-minilm-l6-v2.gguf"}
ollama: {url: "http://127.0.0.1:9"}
YAML
# Nothing of the build is to be needed: not its programs, not a daemon that runs.
mkdir "$folder/home"
said=$(env -u LLM_MANAGER_PROGRAM -u LLM_MANAGER_URL -u XDG_DATA_HOME -u XDG_RUNTIME_DIR HOME="$folder/home" \
  "$folder/build/ask" "$folder/llm-manager.yaml")
echo "$said"
expect() { grep -qE "$1" <<<"$said" || { echo "it did not say: $1" >&2; exit 1; }; }
expect '^daemon: unix:.*process [1-9]'
expect '^answer: .*Paris'
expect '^cancelled: yes$'
expect '^embeddings: 2 of 384 numbers$'
expect '^model: .* is ready with a context of 1024 tokens$'
expect '^unloaded: [1-9][0-9]* bytes freed, proved: yes$'
expect '^loaded again: yes$'
expect '^closed: yes$'
daemon=$(sed -n 's/^daemon: .* process //p' <<<"$said")
if kill -0 "$daemon" 2>/dev/null; then echo "its daemon $daemon is left behind" >&2; exit 1; fi
