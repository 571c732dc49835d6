// What the daemon is doing, kept up to date by its events. One for the page.
import {
  ask, eventsOf, get, Refused,
  type Decision, type Demand, type Device, type Model, type Pull, type Release, type Switch, type Upstream,
} from "./api";

const kSamples = 301; // five minutes of them
const kBetween = 1000; // milliseconds between two
const kKept = 200; // decisions, marks
const kSilence = 25_000; // the daemon says something every ten seconds
const kPatience = [200, 400, 800, 1600, 3000]; // milliseconds before it is tried again

export interface Sample {
  at: number; // seconds since 1970
  held: Record<string, Record<string, number>>; // on each device, by whoever holds it
}

export interface Mark {
  at: number;
  kind: string;
  text: string;
}

export interface Report {
  model: string;
  at_ms: number;
  release: Release;
}

class Live {
  models = $state<Model[]>([]);
  devices = $state.raw<Device[]>([]);
  upstreams = $state.raw<Upstream[]>([]);
  demand = $state.raw<Demand | null>(null);
  pulls = $state<Pull[]>([]);
  decisions = $state.raw<Decision[]>([]);
  switches = $state.raw<Switch[]>([]);
  switching = $state.raw<Switch | null>(null);
  family = $state("");
  chosen = $state("");
  imports = $state<Record<string, number>>({});
  reports = $state.raw<Report[]>([]);
  samples = $state.raw<Sample[]>([]);
  marks = $state.raw<Mark[]>([]);

  // How often the daemon has read its configuration since the page was opened.
  reloads = $state(0);

  connection = $state<"connecting" | "open" | "lost" | "locked">("connecting");
  // Once everything has been asked for: before that, empty lists mean nothing.
  known = $state(false);

  #looking = false;
  #lookAgain = false;
  #after = "";
  #life = new AbortController();
  #wake: () => void = () => {};
  // Whoever holds memory, in the order in which they were first seen: a colour stays whose it is.
  #order: string[] = [];

  // Returns how to stop.
  start(): () => void {
    void this.#follow();
    const timer = setInterval(() => {
      if (this.connection === "open" && document.visibilityState === "visible") this.look();
    }, kBetween);
    const awake = () => document.visibilityState === "visible" && this.#wake();
    document.addEventListener("visibilitychange", awake);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", awake);
      this.#life.abort();
    };
  }

  // Somebody gave a key, or wants no longer to wait.
  retry(): void {
    this.#wake();
  }

  colour(holder: string): number {
    const found = this.#order.indexOf(holder);
    return found >= 0 ? found : this.#order.push(holder) - 1;
  }

  // Reads the events until the page goes, whatever happens to the daemon meanwhile.
  async #follow(): Promise<void> {
    for (let tries = 0; !this.#life.signal.aborted; ++tries) {
      try {
        await this.#listen(() => (tries = 0));
        this.connection = "lost";
      } catch (error) {
        this.connection = error instanceof Refused && error.status === 401 ? "locked" : "lost";
      }
      const wait = this.connection === "locked" ? 86_400_000 : kPatience[Math.min(tries, kPatience.length - 1)];
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async #listen(heard: () => void): Promise<void> {
    const stop = new AbortController();
    const end = () => stop.abort();
    this.#life.signal.addEventListener("abort", end);
    let silence = setTimeout(end, kSilence);
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (this.#after) headers["Last-Event-ID"] = this.#after;
      const response = await ask("/api/v1/events", { headers, signal: stop.signal });
      this.connection = "open";
      heard();
      // The stream tells what happens from now on; what was there before is asked for.
      this.look(true);
      for await (const event of eventsOf(response)) {
        clearTimeout(silence);
        silence = setTimeout(end, kSilence);
        if (event.id) this.#after = event.id;
        if (event.kind === "") {
          if (event.data.startsWith("some events were missed")) this.look(true);
        } else {
          this.#take(event.kind, JSON.parse(event.data));
        }
      }
    } finally {
      clearTimeout(silence);
      this.#life.signal.removeEventListener("abort", end);
      stop.abort();
    }
  }

  // eslint-disable-next-line -- the shapes are docs/api.md's, one for each kind
  #take(kind: string, news: any): void {
    const model: Model | undefined = this.models.find((each) => each.id === news.model);
    switch (kind) {
      case "state":
        if (model && !model.upstream) {
          model.state = news.state;
          model.detail = news.detail;
          model.error = news.error;
          if (news.state !== "loading") model.progress = null;
        }
        if (news.release) {
          this.reports = [{ model: news.model, at_ms: news.at_ms, release: news.release }, ...this.reports].slice(0, 20);
        }
        break;
      case "progress":
        if (model) model.progress = { stage: news.stage, fraction: news.fraction };
        return;
      case "import":
        this.imports[news.model] = news.fraction;
        return;
      case "decision":
        this.#decided(news);
        break;
      case "switch":
        this.switching = ["done", "failed", "cancelled"].includes(news.stage) ? null : news;
        if (!this.switching) this.switches = [news, ...this.switches.filter((each) => each.id !== news.id)].slice(0, kKept);
        break;
      case "config":
        ++this.reloads;
        break;
      case "pull":
        this.#pulled(news);
        if (news.state === "running") return;
        break;
    }
    this.look();
  }

  #decided(news: Decision): void {
    if (this.decisions.some((each) => each.at_ms === news.at_ms && each.why === news.why && each.model === news.model)) return;
    this.decisions = [news, ...this.decisions].slice(0, kKept);
    this.marks = [...this.marks, { at: news.at_ms / 1000, kind: news.kind, text: `${news.model}: ${news.why}` }].slice(-kKept);
  }

  #pulled(news: Pull): void {
    const at = this.pulls.findIndex((each) => each.id === news.id);
    if (at < 0) this.pulls.unshift(news);
    else this.pulls[at] = news;
  }

  // Asks for everything that changes, once for all that comes in the same moment; with `all` also for what only
  // events change.
  look(all = false): void {
    if (this.#looking) {
      this.#lookAgain ||= true;
      if (all) void this.#lookBack();
      return;
    }
    this.#looking = true;
    setTimeout(async () => {
      try {
        if (all) await this.#lookBack();
        await this.#lookAround();
        this.known = true;
      } catch {
        // The stream of events says that nobody answers.
      } finally {
        this.#looking = false;
        if (this.#lookAgain) {
          this.#lookAgain = false;
          this.look();
        }
      }
    }, 15);
  }

  async #lookAround(): Promise<void> {
    const [listed, chosen, { devices }, { upstreams }] = await Promise.all([
      get<{ models: Model[]; demand: Demand }>("/api/v1/models"),
      get<{ family: string; model: string; switching: Switch | null }>("/api/v1/switch"),
      get<{ devices: Device[] }>("/api/v1/devices"),
      get<{ upstreams: Upstream[] }>("/api/v1/upstreams"),
    ]);
    this.models = listed.models;
    this.demand = listed.demand;
    this.family = chosen.family;
    this.chosen = chosen.model;
    this.switching = chosen.switching;
    this.devices = devices;
    this.upstreams = upstreams;
    this.#sample();
  }

  async #lookBack(): Promise<void> {
    const [{ decisions }, { switches }, { pulls }] = await Promise.all([
      get<{ decisions: Decision[] }>(`/api/v1/explain?limit=${kKept}`),
      get<{ switches: Switch[] }>("/api/v1/switches?limit=50"),
      get<{ pulls: Pull[] }>("/api/v1/pulls"),
    ]);
    this.decisions = decisions;
    this.switches = switches;
    this.pulls = pulls.toSorted((a, b) => b.id - a.id);
    this.marks = decisions
      .map((each) => ({ at: each.at_ms / 1000, kind: each.kind, text: `${each.model}: ${each.why}` }))
      .reverse();
  }

  #sample(): void {
    const at = Date.now() / 1000;
    const held: Sample["held"] = {};
    const add = (holder: string, bytes: Record<string, number>) => {
      for (const [device, n] of Object.entries(bytes)) {
        if (n <= 0) continue;
        this.colour(holder);
        (held[device] ??= {})[holder] = n;
      }
    };
    for (const model of this.models) if (model.instance) add(model.id, model.instance.held_bytes);
    for (const upstream of this.upstreams) if (upstream.instance) add(upstream.id, upstream.instance.held_bytes);
    // Looks that events asked for come between those of the clock: one sample for each tenth of a second will do.
    const before = this.samples.filter((each) => at - each.at > 0.1 && at - each.at < (kSamples * kBetween) / 1000);
    this.samples = [...before, { at, held }];
  }
}

export const live = new Live();
