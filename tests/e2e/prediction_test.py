"""What `plan` predicts against what is then measured, over shapes: architectures, contexts, KV types, slots, and devices.
With LLM_MANAGER_TABLE=1 the table of docs/memory_model.md is printed."""
import os
import subprocess
import unittest

from daemon import program
from placement_test import PlacementTest
from real_engine_test import CACHE

MIB = 1 << 20
# A prediction may be too large by so much, and too small by so much.
OVER, UNDER = 0.10, 0.03
# The second time.
AGAIN = 0.02


class Shape:
    def __init__(self, name, vocabulary, make, config="", kind="generation"):
        self.name, self.vocabulary, self.make, self.config, self.kind = name, vocabulary, make.split(), config, kind


LLAMA = "--layers 16 --embd 512 --heads 8 --kv-heads 2 --ff 1536"
SHAPES = [
    Shape("llama, 2048 tokens", "llama-spm", LLAMA, "max_length: 2048, parallel: 1"),
    Shape("llama, 8192 tokens, 4 slots", "llama-spm", LLAMA + " --context 8192", "max_length: 8192, parallel: 4"),
    Shape("llama, 32768 tokens", "llama-spm", LLAMA + " --context 32768", "max_length: 32768, parallel: 1"),
    Shape("llama, 32768 tokens, q8_0", "llama-spm", LLAMA + " --context 32768", "max_length: 32768, parallel: 1, kv_type: q8_0"),
    Shape("llama, 32768 tokens, q4_0", "llama-spm", LLAMA + " --context 32768", "max_length: 32768, parallel: 1, kv_type: q4_0"),
    Shape("llama, unmapped", "llama-spm", LLAMA, "max_length: 2048, parallel: 1, mmap: false"),
    Shape("llama, wide, f16", "llama-bpe", "--layers 8 --embd 1024 --heads 16 --kv-heads 16 --ff 4096 --type f16",
          "max_length: 4096, parallel: 2"),
    Shape("qwen2, 8 slots", "qwen2", "--arch qwen2 --layers 12 --embd 768 --heads 12 --kv-heads 4", "max_length: 8192, parallel: 8"),
    Shape("qwen3, 16384 tokens", "qwen2", "--arch qwen3 --layers 12 --embd 512 --heads 8 --kv-heads 8 --context 16384",
          "max_length: 16384, parallel: 1"),
    Shape("gemma2", "llama-spm", "--arch gemma2 --layers 12 --embd 512 --heads 8 --kv-heads 4", "max_length: 4096, parallel: 1"),
    Shape("bert", "bert-bge", "--arch bert --layers 6 --embd 384 --heads 12 --context 512", "", "embedding"),
    Shape("bert, larger", "bert-bge", "--arch bert --layers 12 --embd 768 --heads 12 --context 512", "", "embedding"),
]


class Predictions(PlacementTest):
    def model_of(self, folder, number, shape):
        engine = sorted((CACHE / "engine").glob("src-*-plain"))
        if not engine:
            raise AssertionError(f"no engine source in {CACHE}: run scripts/bootstrap")
        file = folder / f"shape{number}.gguf"
        maker = os.path.join(os.path.dirname(program("LLM_MANAGER_REAL_WORKER")), "make-random-model")
        subprocess.run([maker, "--vocab", engine[-1] / "models" / f"ggml-vocab-{shape.vocabulary}.gguf", "--out", file, *shape.make],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        return file

    def plan(self, daemon, name):
        answer = daemon.post("/api/v1/models/plan", {"model": name})
        self.assertEqual(answer.status, 200, answer)
        return answer.json()

    def held(self, daemon, name, by_engine):
        instance = daemon.model(name)["instance"]
        if not by_engine:
            return instance["held_bytes"]
        # Of what is behind RPC servers there is only the engine's own account.
        return {device: sum(told[part] for part in ("weights", "context", "compute"))
                for device, told in instance["memory"].items() if device != "host"}

    def compare(self, daemon, shapes, by_engine=False):
        rows, wrong = [], []
        for number, shape in enumerate(shapes):
            name = f"shape{number}"
            for time in ("first", "second"):
                planned = self.plan(daemon, name)
                self.assertEqual(planned["source"], "predicted" if time == "first" else "measured", planned)
                loaded = daemon.load(name)
                self.assertEqual(loaded.status, 200, loaded)
                held = self.held(daemon, name, by_engine)
                needed = {row["device"]: row["needed"] for row in planned["devices"]}
                for device, bytes in held.items():
                    error = (needed.get(device, 0) - bytes) / bytes
                    over, under = (OVER, UNDER) if time == "first" else (AGAIN, AGAIN)
                    rows.append((shape.name, time, device, needed.get(device, 0), bytes, error))
                    if not -under <= error <= over:
                        wrong.append(f"{shape.name}, {time} time, {device}: {error:+.1%}")
                self.assertEqual(daemon.unload(name).status, 200)
        if os.environ.get("LLM_MANAGER_TABLE") == "1":
            for shape, time, device, needed, bytes, error in rows:
                print(f"| {shape} | {time} | {device} | {needed / MIB:.1f} | {bytes / MIB:.1f} | {error:+.1%} |")
        self.assertEqual(wrong, [])

    def entries(self, shapes, folder):
        lines = ""
        for number, shape in enumerate(shapes):
            file = self.model_of(folder, number, shape)
            config = f", {shape.config}" if shape.config else ""
            lines += f"  shape{number}: {{model_path: {file}, kind: {shape.kind}{config}}}\n"
        return lines

    def test_on_the_host(self):
        import pathlib
        lines = self.entries(SHAPES, pathlib.Path(self.folder()))
        daemon = self.start_real(config=f"models:\n{lines}")
        self.compare(daemon, SHAPES)

    def test_on_devices(self):
        import pathlib
        folder = pathlib.Path(self.folder())
        shapes = [SHAPES[0], SHAPES[2], SHAPES[3], SHAPES[6], SHAPES[8], SHAPES[9]]
        daemon = self.on_devices(self.devices(1), self.entries(shapes, folder))
        self.compare(daemon, shapes, by_engine=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
