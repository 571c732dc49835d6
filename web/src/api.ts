// The daemon's answers, as docs/api.md describes them, as far as the page shows them.
export type State = "unloaded" | "loading" | "ready" | "unloading" | "failed";

export interface Failure {
  message: string;
  code: string;
}

export interface ExpectedWait {
  position: number;
  wait_s: number;
  holder: string | null;
  held_for_s: number | null;
}

export interface Instance {
  id: number;
  model: string;
  state: State;
  detail: string;
  reason: string;
  slots: number;
  context: number;
  active: number;
  waiting: number;
  expected_wait: ExpectedWait | null;
  held_bytes: Record<string, number>;
  expires_in_s: number | null;
  retry_in_s: number | null;
  context_train: number | null;
  memory: Record<string, { weights: number; mapped: number; context: number; compute: number }> | null;
}

export interface Model {
  id: string;
  kind: "generation" | "embedding" | "rerank";
  family: "local" | "ollama" | "openai";
  aliases: string[];
  roles: string[];
  state: State;
  detail: string;
  reason: string;
  pinned: boolean;
  held: { by: string; since_ms: number } | null;
  path: string;
  size: number;
  origin: string;
  progress: { stage: string; fraction: number | null } | null;
  instance: Instance | null;
  upstream: { id: string; held_bytes: Record<string, number>; active?: number; waiting?: number } | null;
  error: Failure | null;
}

export interface Demand {
  wanted: number;
  fit: number;
  advice: string;
  models: { model: string; requests_per_s: number; wanted: number; fits: boolean }[];
}

export interface Holder {
  pid: number;
  name: string;
  bytes: number;
}

export interface Device {
  id: string;
  kind: string;
  name: string;
  capacity: number;
  headroom: number;
  limit: number | null;
  reserved: number;
  used: number;
  external: number;
  available: number;
  free: number | null;
  holders: Holder[];
  usable?: boolean;
  unknown?: string;
  utilization?: number;
  celsius?: number;
  watts?: number;
}

export interface Release {
  devices: { device: string; before: number; after: number; freed: number; expected: number; residual: number }[];
  before: number;
  after: number;
  freed: number;
  expected: number;
  residual: number;
  reclaimable: number;
  holders: Holder[];
  proved: boolean;
  outcome: string;
  method: string;
  took_s: number;
}

export interface Switch {
  id: number;
  from: string;
  to: string;
  from_model: string;
  to_model: string;
  who: string;
  stage: "began" | "released" | "loading" | "done" | "failed" | "cancelled";
  release: Release | null;
  took_s: number;
  error: Failure | null;
  at_ms?: number;
}

export interface Upstream {
  id: string;
  family: string;
  url: string;
  shares_devices: boolean;
  reachable: boolean;
  residents: { name: string; kind: string; bytes: number }[];
  instance: Instance | null;
  stuck: Failure | null;
}

export interface Decision {
  at_ms: number;
  kind: string;
  model: string;
  why: string;
}

export interface Situation {
  state: State;
  detail: string;
  waiting: number;
  expected_wait: ExpectedWait | null;
  why: string;
}

export interface Plan {
  verdict: "fits" | "fits_after_others" | "does_not_fit";
  source: "predicted" | "measured";
  needed: number;
  evicts: string[];
}

export interface Pull {
  id: number;
  source: string;
  state: "waiting" | "running" | "paused" | "done" | "failed" | "cancelled";
  stage: string;
  done: number;
  total: number;
  bytes_per_s: number;
  left_s: number | null;
  who: string;
  asked_at_ms: number;
  note: string;
  error: Failure | null;
  models: string[];
}

export interface System {
  version: string;
  engine: string;
  pid: number;
  uptime_s: number;
  data: string;
  log_file: string;
  config_file: string;
  listening: string[];
  warnings: string[];
}

export interface Setting {
  key: string;
  meaning: string;
  type: string;
  value: string | null;
  otherwise: string | null;
  written: boolean;
  line: number;
  restart: boolean;
}

export interface Check {
  name: string;
  status: "ok" | "warning" | "problem";
  message: string;
  fix: string;
}

// What the daemon refused, in its own words.
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
  ) {
    super(message);
  }
}

// A key is only needed where the daemon listens wider than this machine. It stays in this tab.
const kKey = "llm-manager.key";
export const key = {
  get: () => sessionStorage.getItem(kKey) ?? "",
  set: (text: string) => (text ? sessionStorage.setItem(kKey, text) : sessionStorage.removeItem(kKey)),
};

export async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  headers.set("X-Client-Name", "dashboard");
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  if (options.body) headers.set("Content-Type", "application/json");
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const error = (await response.json().catch(() => null))?.error;
  throw new Refused(error?.message ?? `${response.status} ${response.statusText}`, response.status, error?.code ?? "");
}

export async function get<T>(path: string): Promise<T> {
  return (await ask(path)).json();
}

export async function post<T>(path: string, body: object = {}): Promise<T> {
  return (await ask(path, { method: "POST", body: JSON.stringify(body) })).json();
}

export interface ServerEvent {
  kind: string;
  data: string;
  id: string;
}

// The events of a stream, as they come. Comments come as events of the kind "", so that silence can be told from rest.
export async function* eventsOf(response: Response): AsyncGenerator<ServerEvent> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event: ServerEvent = { kind: "message", data: "", id: "" };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          if (event.data) yield event;
          event = { kind: "message", data: "", id: "" };
        } else if (line.startsWith(":")) {
          yield { kind: "", data: line.slice(1).trim(), id: "" };
        } else {
          const colon = line.indexOf(":");
          const value = line.slice(colon + 1).replace(/^ /, "");
          if (line.startsWith("event:")) event.kind = value;
          if (line.startsWith("id:")) event.id = value;
          if (line.startsWith("data:")) event.data += (event.data ? "\n" : "") + value;
        }
      }
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

export interface Piece {
  text?: string;
  thought?: string;
}

// An answer, piece by piece.
export async function* chat(
  model: string,
  messages: { role: string; content: string }[],
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    body: JSON.stringify({ model, messages, stream: true }),
    signal,
  });
  let ended = false;
  for await (const { kind, data } of eventsOf(response)) {
    if (kind === "") continue;
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message, 0, chunk.error.code ?? "");
    const delta = chunk.choices?.[0]?.delta;
    if (delta?.content) yield { text: delta.content };
    if (delta?.reasoning_content) yield { thought: delta.reasoning_content };
    if (chunk.choices?.[0]?.finish_reason) ended = true;
  }
  if (!ended) throw new Refused("the answer was cut", 0, "cut");
}
