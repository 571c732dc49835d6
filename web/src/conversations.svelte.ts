// What was said, kept in this browser: the newest first, as many as its storage takes.
import { chat } from "./api";

const kPlace = "conversations";
const kMost = 50;

export interface Said {
  role: "user" | "assistant";
  content: string;
  thoughts?: string;
  model?: string;
  failure?: string;
  stopped?: boolean;
}

export interface Conversation {
  id: string;
  title: string;
  model: string;
  said: Said[];
}

function read(): Conversation[] {
  try {
    const kept = JSON.parse(localStorage.getItem(kPlace) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

class Conversations {
  all = $state<Conversation[]>(read());
  open = $state<string>("");
  // Those that are being answered, and how to stop it.
  answering = $state<Record<string, AbortController>>({});

  get current(): Conversation | undefined {
    return this.all.find((each) => each.id === this.open);
  }

  forget(id: string): void {
    this.answering[id]?.abort();
    this.all = this.all.filter((each) => each.id !== id);
    if (this.open === id) this.open = "";
    this.#keep();
  }

  stop(id: string): void {
    this.answering[id]?.abort();
  }

  async send(model: string, text: string): Promise<void> {
    let talk = this.current;
    if (!talk) {
      // Not randomUUID(): a page that came over plain HTTP from elsewhere has none.
      const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (n) => n.toString(16).padStart(2, "0")).join("");
      this.all = [{ id, title: text.slice(0, 60), model, said: [] }, ...this.all].slice(0, kMost);
      this.open = id;
      talk = this.all[0];
    }
    talk.model = model;
    talk.said.push({ role: "user", content: text });
    await this.#answer(talk);
  }

  // Asks for the last answer again.
  async again(): Promise<void> {
    const talk = this.current;
    if (!talk || talk.id in this.answering) return;
    if (talk.said.at(-1)?.role === "assistant") talk.said.pop();
    await this.#answer(talk);
  }

  async #answer(talk: Conversation): Promise<void> {
    const asked = talk.said.filter((each) => each.content).map(({ role, content }) => ({ role, content }));
    talk.said.push({ role: "assistant", content: "", model: talk.model });
    const answer = talk.said[talk.said.length - 1];
    const stop = new AbortController();
    this.answering[talk.id] = stop;
    this.#keep();
    try {
      for await (const piece of chat(talk.model, asked, stop.signal)) {
        if (piece.text) answer.content += piece.text;
        if (piece.thought) answer.thoughts = (answer.thoughts ?? "") + piece.thought;
      }
    } catch (error) {
      if (stop.signal.aborted) answer.stopped = true;
      else answer.failure = (error as Error).message;
    } finally {
      delete this.answering[talk.id];
      this.#keep();
    }
  }

  // What does not fit is let go of, the oldest first.
  #keep(): void {
    for (let kept = $state.snapshot(this.all) as Conversation[]; ; kept = kept.slice(0, -1)) {
      try {
        localStorage.setItem(kPlace, JSON.stringify(kept));
        return;
      } catch {
        if (kept.length === 0) return;
      }
    }
  }
}

export const conversations = new Conversations();
