// What the daemon is doing, kept up to date by its events. One for the page.
import { get, type Device, type Model } from "./api";

const kKept = 300; // samples of memory
const kBetween = 1000; // milliseconds between them

export interface Sample {
  at: number; // seconds since 1970
  used: Record<string, Record<string, number>>; // of each device, by model
  external: Record<string, number>;
}
export interface Mark {
  at: number;
  text: string;
}

class Live {
  models = $state<Model[]>([]);
  devices = $state<Device[]>([]);
  samples = $state.raw<Sample[]>([]);
  marks = $state.raw<Mark[]>([]);
  family = $state("");
  connected = $state(false);

  #due = false;

  // Returns how to stop.
  start(): () => void {
    const events = new EventSource("/api/v1/events");
    events.onopen = () => {
      this.connected = true;
      this.#look();
    };
    // It comes back by itself, with the id of the last event.
    events.onerror = () => (this.connected = false);
    for (const kind of ["state", "job", "switch", "config", "pull"]) events.addEventListener(kind, () => this.#look());
    events.addEventListener("progress", (event) => {
      const news = JSON.parse((event as MessageEvent).data);
      const model = this.models.find((each) => each.id === news.model);
      if (model) model.progress = { stage: news.stage, fraction: news.fraction };
    });
    events.addEventListener("decision", (event) => {
      const news = JSON.parse((event as MessageEvent).data);
      this.marks = [...this.marks, { at: news.at_ms / 1000, text: `${news.model}: ${news.why}` }].slice(-kKept);
    });
    const timer = setInterval(() => {
      if (this.connected && document.visibilityState === "visible") void this.#measure();
    }, kBetween);
    return () => {
      clearInterval(timer);
      events.close();
    };
  }

  // Once for all that comes in the same moment.
  #look(): void {
    if (this.#due) return;
    this.#due = true;
    setTimeout(async () => {
      this.#due = false;
      try {
        const [listed, chosen] = await Promise.all([
          get<{ models: Model[] }>("/api/v1/models"),
          get<{ family: string }>("/api/v1/switch"),
        ]);
        this.models = listed.models;
        this.family = chosen.family;
        await this.#measure();
      } catch {
        // The stream of events says that nobody answers.
      }
    }, 20);
  }

  async #measure(): Promise<void> {
    const [{ devices }, { instances }] = await Promise.all([
      get<{ devices: Device[] }>("/api/v1/devices"),
      get<{ instances: { model: string; held_bytes: Record<string, number> }[] }>("/api/v1/instances"),
    ]);
    this.devices = devices;
    const sample: Sample = { at: Date.now() / 1000, used: {}, external: {} };
    for (const device of devices) {
      sample.used[device.id] = {};
      sample.external[device.id] = device.external;
    }
    for (const instance of instances) {
      for (const [device, bytes] of Object.entries(instance.held_bytes)) {
        if (sample.used[device]) sample.used[device][instance.model] = bytes;
      }
    }
    this.samples = [...this.samples, sample].slice(-kKept);
  }
}

export const live = new Live();
