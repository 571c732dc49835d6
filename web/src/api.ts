// The daemon's answers, as docs/api.md describes them, as far as the page shows them.
export interface Instance {
  id: number;
  detail: string;
  slots: number;
  active: number;
  waiting: number;
  held_bytes: Record<string, number>;
  expires_in_s: number | null;
}

export interface Model {
  id: string;
  kind: "generation" | "embedding" | "rerank";
  family: string;
  state: "unloaded" | "loading" | "ready" | "unloading" | "failed";
  reason: string;
  pinned: boolean;
  size: number;
  origin: string;
  progress: { stage: string; fraction: number | null } | null;
  instance: Instance | null;
  upstream: { id: string; held_bytes: Record<string, number> } | null;
}

export interface Device {
  id: string;
  name: string;
  capacity: number;
  used: number;
  external: number;
  available: number;
}

export interface Release {
  before: number;
  after: number;
  freed: number;
  residual: number;
  proved: boolean;
  took_s: number;
}

async function fails(response: Response): Promise<never> {
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `${response.status} ${response.statusText}`);
}

export async function get<T>(path: string): Promise<T> {
  const response = await fetch(path);
  return response.ok ? response.json() : fails(response);
}

export async function post<T>(path: string, body: object): Promise<T> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Client-Name": "dashboard" },
    body: JSON.stringify(body),
  });
  return response.ok ? response.json() : fails(response);
}

export interface Message {
  role: "user" | "assistant";
  content: string;
}

// The text of an answer, piece by piece.
export async function* chat(model: string, messages: Message[], signal: AbortSignal): AsyncGenerator<string> {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, messages, stream: true }),
    signal,
  });
  if (!response.ok || !response.body) await fails(response);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      const piece = chunk.choices?.[0]?.delta?.content;
      if (piece) yield piece;
    }
  }
}
