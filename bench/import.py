"""A checkpoint into a GGUF file, beside llama-quantize on the same tensors: it reads a GGUF of half precision that was made of
the same checkpoint before, which ours does in the same go.

The checkpoint has the shape of Qwen3-0.6B, random weights in bfloat16, and a made-up tokenizer of the same size.
"""
import json
import os
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import servers

WIDTH, INNER, VOCABULARY, HEADS, KV_HEADS, HEAD = 1024, 3072, 151936, 16, 8, 128
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tokenizer() -> dict:
    """256 letters, all pairs of them, and as many triples as there is room for."""
    letters = [chr(0x100 + i) for i in range(256)]
    tokens, merges = list(letters), []
    for first in letters + [a + b for a in letters for b in letters]:
        for second in letters:
            if len(tokens) == VOCABULARY:
                break
            tokens.append(first + second)
            merges.append([first, second])
    return {"added_tokens": [], "normalizer": None, "post_processor": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]},
            "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}}


def write_checkpoint(folder: Path, layers: int):
    shapes = {"model.embed_tokens.weight": [VOCABULARY, WIDTH], "model.norm.weight": [WIDTH]}
    for i in range(layers):
        for name, shape in {
                "input_layernorm": [WIDTH], "post_attention_layernorm": [WIDTH], "self_attn.q_norm": [HEAD],
                "self_attn.k_norm": [HEAD], "self_attn.q_proj": [HEADS * HEAD, WIDTH],
                "self_attn.k_proj": [KV_HEADS * HEAD, WIDTH], "self_attn.v_proj": [KV_HEADS * HEAD, WIDTH],
                "self_attn.o_proj": [WIDTH, HEADS * HEAD], "mlp.gate_proj": [INNER, WIDTH], "mlp.up_proj": [INNER, WIDTH],
                "mlp.down_proj": [WIDTH, INNER]}.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    # Numbers about as large as a trained model's, of both signs; a block of them again and again.
    block = bytearray(1 << 24)
    block[0::2] = os.urandom(1 << 23)
    block[1::2] = os.urandom(1 << 23).translate(bytes([0x3C, 0xBC] * 128))
    with (folder / "model.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            at -= out.write(block[:min(at, len(block))])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD, "vocab_size": VOCABULARY, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000, "tie_word_embeddings": True}))


def timed(*command) -> tuple[float, float]:
    """Seconds, and the most memory that it or its children held, in MB."""
    began = time.monotonic()
    process = subprocess.Popen([str(each) for each in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status != 0:
        raise servers.Trouble(f"{Path(command[0]).name} failed: {said.decode(errors='replace')[-500:]}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def run(quick: bool, say) -> list[dict]:
    importer, quantizer = servers.BIN / "llm-importer", servers.BIN / "llama-quantize"
    servers.need(importer, quantizer)
    threads = str(len(os.sched_getaffinity(0)))
    rows = []
    folder = Path(tempfile.mkdtemp(prefix="bench-import-", dir=servers.CACHE))
    try:
        write_checkpoint(folder, 4 if quick else 28)
        size = (folder / "model.safetensors").stat().st_size
        half, ours, theirs = (folder / f"{name}.gguf" for name in ("half", "ours", "theirs"))
        timed(importer, folder, half, "--quantize", "none")
        for option, name in (("8bit", "Q8_0"), ("4bit", "Q4_K_M")):
            times = []
            for _ in range(1 if quick else 3):
                us = timed(importer, folder, ours, "--quantize", option, "--threads", threads)
                peer = timed(quantizer, half, theirs, name, threads)
                times.append((us, peer))
                say(f"  {option}: {us[0]:.2f} s, {us[1]:.0f} MB; llama-quantize {peer[0]:.2f} s, {peer[1]:.0f} MB; "
                    f"{ours.stat().st_size / 1e6:.0f} and {theirs.stat().st_size / 1e6:.0f} MB of {size / 1e6:.0f}")
            for which, what, unit in ((0, "time", "s"), (1, "memory", "MB")):
                a = statistics.median(us[which] for us, _ in times)
                b = statistics.median(peer[which] for _, peer in times)
                rows.append({"name": f"import/{option}_{what}", "ours": a, "peer": b, "ratio": a / b, "unit": unit})
    finally:
        shutil.rmtree(folder)
    return rows
