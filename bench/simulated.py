"""What `llm-manager simulate` says of requests that are played for real beside it."""
import csv
import json
import subprocess
from pathlib import Path

from servers import BIN, Trouble


def simulated(folder: Path, requests: list[dict], model: dict, *options: str) -> dict:
    """`requests` in order of time: "at" (seconds), "model", "context" and "generated" (tokens), and "client" where that one asks one
    after the other. `model` is what each of them is, as --models FILE has it; one of them fits. Gives the run's figures, as --json."""
    trace, machine = folder / "asked.csv", folder / "machine.yaml"
    with open(trace, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["t_s", "model", "context_tokens", "generated_tokens", "client"])
        out.writerows([f"{each['at']:.3f}", each["model"], each["context"], each["generated"], each.get("client", "")] for each in requests)
    machine.write_text(json.dumps({"devices": {"gpu": {"memory": "10GB"}}, "default": {"memory": "8GB", **model}}))
    done = subprocess.run([BIN / "llm-manager", "simulate", "--trace", trace, "--models", machine, "--json", *options],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(f"simulate: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)["runs"][0]
