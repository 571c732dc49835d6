#!/usr/bin/env python3
"""A web assistant for local, Ollama and OpenAI models. What holds the GPU is the daemon's business:
nothing here loads, unloads, counts or waits. LLM_MANAGER_URL says where the daemon is."""
import json
import os
import urllib.error
import urllib.request

from flask import Flask, Response, abort, render_template_string, request

DAEMON = os.environ.get("LLM_MANAGER_URL", "http://127.0.0.1:11435")
KEY = os.environ.get("LLM_MANAGER_API_KEY", "none")
FAMILIES = {"local": "On this machine", "ollama": "Ollama", "openai": "OpenAI-compatible"}
PAGE = """<!doctype html><meta charset="utf-8"><title>Assistant</title>
<style>body{font:16px sans-serif;max-width:44em;margin:2em auto}p{white-space:pre-wrap}#note,.user{color:#777}</style>
<form id="ask"><select id="model">{% for family, models in families.items() if models %}
<optgroup label="{{ titles[family] }}">{% for m in models %}
<option value="{{ m.id }}"{% if m.error %} disabled{% endif %}>{{ m.id }} ({{ m.state }})</option>
{% endfor %}</optgroup>{% endfor %}</select> <input id="text" size="50"> <button>Ask</button></form>
<div id="talk"></div><p id="note"></p>
<script>
const at = id => document.getElementById(id), messages = [];
const say = (role, content) => { const p = document.createElement("p"); p.className = role; p.textContent = content;
                                 messages.push({role, content}); return at("talk").appendChild(p); };
at("ask").onsubmit = async event => {
  event.preventDefault();
  say("user", at("text").value);
  const answer = await fetch("chat", {method: "POST", headers: {"Content-Type": "application/json"},
                                      body: JSON.stringify({model: at("model").value, messages})});
  const p = say("assistant", ""), mine = messages.at(-1), decoder = new TextDecoder();
  let rest = "";
  for (const reader = answer.body.getReader();;) {
    const {done, value} = await reader.read();
    const lines = (rest + decoder.decode(value, {stream: !done})).split("\\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith(":")) at("note").textContent = line.slice(1);  // what the daemon waits for
      if (!line.startsWith("data: {")) continue;
      const {error, choices} = JSON.parse(line.slice(6));
      if (error) at("note").textContent = error.message;
      else mine.content = p.textContent += choices[0]?.delta.content ?? "";
    }
    if (done) break;
  }
};
</script>"""
app = Flask(__name__)


def daemon(path, body=None):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "X-Client-Name": "flask example"}
    return urllib.request.urlopen(urllib.request.Request(DAEMON + path, body and json.dumps(body).encode(), headers))


@app.get("/")
def page():
    with daemon("/api/v1/models") as answer:
        chat_models = [m for m in json.load(answer)["models"] if m["kind"] == "generation"]
    families = {family: [m for m in chat_models if m["family"] == family] for family in FAMILIES}
    return render_template_string(PAGE, families=families, titles=FAMILIES)


@app.post("/chat")
def chat():
    if request.host.rsplit(":", 1)[0] not in ("127.0.0.1", "localhost"):
        abort(403)  # a page of somebody's whose name points at this machine
    asked = request.get_json()

    def stream():
        try:
            with daemon("/v1/chat/completions", {**asked, "stream": True}) as answer:
                yield from answer
        except urllib.error.HTTPError as error:  # its body says why, in a sentence
            yield b"data: " + error.read().replace(b"\n", b" ") + b"\n\n"
    return Response(stream(), mimetype="text/event-stream")


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
