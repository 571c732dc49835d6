// What the page says, in three languages.
const words = {
  en: {
    devices: "Devices", models: "Models", chat: "Chat", load: "Load", unload: "Unload", pin: "Pin", unpin: "Unpin", choose: "Switch",
    name: "Name", state: "State", memory: "Memory", from: "From", actions: "Actions", others: "others", free: "free of", send: "Send",
    stop: "Stop", model: "Model", message: "Message", lost: "The daemon does not answer; trying again.", released: "{0} freed in {1} s",
    unproved: "{0} is missing still", language: "Language", clear: "New conversation",
    unloaded: "unloaded", loading: "loading", ready: "ready", unloading: "unloading", failed: "failed",
  },
  "zh-Hans": {
    devices: "设备", models: "模型", chat: "对话", load: "加载", unload: "卸载", pin: "固定", unpin: "取消固定", choose: "切换",
    name: "名称", state: "状态", memory: "内存", from: "来源", actions: "操作", others: "其他", free: "可用，共", send: "发送",
    stop: "停止", model: "模型", message: "消息", lost: "服务没有响应，正在重试。", released: "已释放 {0}，用时 {1} 秒",
    unproved: "仍有 {0} 未释放", language: "语言", clear: "新对话",
    unloaded: "未加载", loading: "加载中", ready: "就绪", unloading: "卸载中", failed: "失败",
  },
  "zh-Hant": {
    devices: "裝置", models: "模型", chat: "對話", load: "載入", unload: "卸載", pin: "固定", unpin: "取消固定", choose: "切換",
    name: "名稱", state: "狀態", memory: "記憶體", from: "來源", actions: "操作", others: "其他", free: "可用，共", send: "傳送",
    stop: "停止", model: "模型", message: "訊息", lost: "服務沒有回應，正在重試。", released: "已釋放 {0}，用時 {1} 秒",
    unproved: "仍有 {0} 未釋放", language: "語言", clear: "新對話",
    unloaded: "未載入", loading: "載入中", ready: "就緒", unloading: "卸載中", failed: "失敗",
  },
};

export type Language = keyof typeof words;
export type Word = keyof (typeof words)["en"];
export const languages: Record<Language, string> = { en: "English", "zh-Hans": "简体中文", "zh-Hant": "繁體中文" };

function preferred(): Language {
  const kept = localStorage.getItem("language");
  if (kept && kept in words) return kept as Language;
  const tag = navigator.language.toLowerCase();
  if (!tag.startsWith("zh")) return "en";
  return /hant|tw|hk|mo/.test(tag) ? "zh-Hant" : "zh-Hans";
}

class Words {
  language = $state<Language>(preferred());

  choose(language: Language): void {
    this.language = language;
    localStorage.setItem("language", language);
    document.documentElement.lang = language;
  }

  say(word: Word, ...values: string[]): string {
    return words[this.language][word].replace(/\{(\d)\}/g, (_, i) => values[Number(i)]);
  }
}

export const spoken = new Words();

export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1024 && i + 1 < units.length; ++i) n /= 1024;
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}
