// What the page says, in three languages, and how it writes numbers.
const words = {
  en: {
    overview: "Overview", chat: "Chat", downloads: "Downloads", log: "Decisions", system: "System",
    views: "Views", language: "Language", theme: "Appearance", auto: "as the system", light: "light", dark: "dark",
    connecting: "Connecting…", lost: "The daemon does not answer; trying again.", retry: "Try now",
    locked: "This daemon wants a key.", key: "Key", open: "Open", keyKept: "It is kept in this tab only.",
    skip: "To the content",
    devices: "Devices", noDevices: "No devices are known yet.", ours: "ours", others: "others", free: "free",
    of: "{0} of {1}", limit: "limit {0}", unusable: "the engine that was built cannot use it",
    timeline: "Memory held on {0} over five minutes", nothingHeld: "Nothing of ours is in memory.", held: "In memory now",
    happened: "What happened",
    models: "Models", noModels: "No models are known.", noModelsHint: "Put GGUF files into a folder and name it in the configuration, or fetch one under Downloads.",
    name: "Name", state: "State", memory: "Memory", from: "From", actions: "Actions",
    load: "Load", unload: "Unload", cancel: "Cancel", hold: "Keep unloaded", pin: "Pin", unpin: "Unpin", choose: "Switch to it",
    holdTitle: "Unload it, and refuse requests until somebody loads it again",
    pinTitle: "A pinned model is never unloaded to make room",
    chooseTitle: "Its family gets the devices; others are unloaded first",
    unloaded: "unloaded", loading: "loading", ready: "ready", unloading: "unloading", failed: "failed",
    starting: "starting", metadata: "reading metadata", vocabulary: "vocabulary", weights: "weights", context: "context",
    warm_up: "warming up", upstream: "its server loads it", importing: "importing",
    heldBy: "kept unloaded by {0}", pinned: "pinned", chosen: "active", expires: "goes in {0} if idle", busy: "{0} of {1} slots busy",
    generation: "chat", embedding: "embedding", rerank: "rerank", local: "local", ollama: "Ollama", openai: "server",
    details: "Why {0} is as it is", plan: "A load would", fits: "fit", fits_after_others: "fit after others have gone", does_not_fit: "not fit",
    needs: "{0} are predicted", needsMeasured: "{0} were measured", evicts: "would go: {0}", file: "File", mapped: "mapped", compute: "computing",
    waiting: "Waiting", nobodyWaits: "Nobody waits.", waits: "{0} wait", firstIn: "the next one about {0}", heldFor: "{0} has had the memory for {1}",
    demand: "{0} models are wanted at a time, {1} fit", requests: "{0}/min",
    switchingTo: "{0} → {1}: {2}", began: "unloading the others", released: "memory is released", loadingStage: "loading",
    release: "Memory released", noRelease: "Nothing was released since this page was opened.", proved: "proved", unproved: "not proved",
    releasedLine: "{0}: {1} freed in {2}", device: "Device", before: "Before", after: "After", freed: "Freed", expected: "Expected", residual: "Missing",
    cached: "{0} of the file stay in the page cache; the system gives them to whoever needs memory", holders: "Who holds the rest",
    conversations: "Conversations", newChat: "New conversation", model: "Model", message: "Message", send: "Send", stop: "Stop",
    you: "You", remove: "Delete", again: "Ask again", copy: "Copy", copied: "Copied", thoughts: "Thoughts", noConversation: "Ask something.",
    kept: "Conversations are kept in this browser, nowhere else.", noChatModel: "No model for chats is known.", waitingTurn: "waiting for the model",
    stopped: "stopped", untitled: "New conversation",
    source: "Source", fetch: "Fetch", noPulls: "Nothing was fetched yet.", pause: "Pause", resume: "Resume", left: "{0} left",
    sourceHint: "hf:OWNER/REPO:QUANTISATION, ollama:NAME:TAG, npm:PACKAGE@VERSION or the address of a file",
    waitingPull: "waiting", running: "running", paused: "paused", done: "done", cancelled: "cancelled", interrupted: "interrupted",
    listing: "looking what is there", downloading: "downloading", verifying: "checking",
    removeModel: "Delete {0}", removeSure: "Delete the files of {0}?",
    decisions: "Decisions", noDecisions: "Nothing was decided yet.", when: "When", kind: "What", why: "Why", filter: "Only of", all: "all models",
    switches: "Switches", noSwitches: "No other family was chosen yet.", who: "Who", took: "Took",
    settings: "Settings", onlyWritten: "only those that are written", find: "Find", otherwise: "otherwise {0}", notSet: "not set", line: "line {0}", needsRestart: "a change counts after a restart", changeSettings: "They are changed in the file; kill -HUP, or a restart, reads it again.",
    checks: "Checks", facts: "This daemon", version: "Version", engine: "Engine", uptime: "Running for", listens: "Address", configuration: "Configuration",
    none: "none: all defaults", data: "Data", logFile: "Log", warnings: "Warnings", upstreams: "Other servers", noUpstreams: "None are configured.",
    reachable: "reachable", unreachable: "does not answer", residents: "in its memory: {0}", ok: "fine", warning: "warning", problem: "problem", mend: "To mend it",
    k_load: "load", k_wait: "wait", k_evict: "evict", k_expire: "expire", k_unload: "unload", k_give_up: "give up", k_refuse: "refuse", k_fail: "fail",
    k_release: "release", k_hold: "hold", k_switch: "switch", k_preempt: "preempt",
    seconds: "{0} s", minutes: "{0} min", hours: "{0} h",
  },
  "zh-Hans": {
    overview: "概览", chat: "对话", downloads: "下载", log: "决策", system: "系统",
    views: "页面", language: "语言", theme: "外观", auto: "跟随系统", light: "浅色", dark: "深色",
    connecting: "正在连接…", lost: "服务没有响应，正在重试。", retry: "立即重试",
    locked: "此服务需要密钥。", key: "密钥", open: "打开", keyKept: "密钥只保存在此标签页中。",
    skip: "跳到内容",
    devices: "设备", noDevices: "尚未发现设备。", ours: "本服务", others: "其他程序", free: "可用",
    of: "{0}，共 {1}", limit: "上限 {0}", unusable: "当前构建的引擎无法使用它",
    timeline: "{0} 最近五分钟的内存占用", nothingHeld: "目前没有模型占用内存。", held: "当前占用",
    happened: "发生了什么",
    models: "模型", noModels: "没有已知的模型。", noModelsHint: "将 GGUF 文件放入文件夹并在配置中指定，或在“下载”中获取。",
    name: "名称", state: "状态", memory: "内存", from: "来源", actions: "操作",
    load: "加载", unload: "卸载", cancel: "取消", hold: "保持卸载", pin: "固定", unpin: "取消固定", choose: "切换到它",
    holdTitle: "卸载，并在再次加载之前拒绝请求",
    pinTitle: "固定的模型不会为腾出内存而被卸载",
    chooseTitle: "设备交给它所属的一类；其他模型会先被卸载",
    unloaded: "未加载", loading: "加载中", ready: "就绪", unloading: "卸载中", failed: "失败",
    starting: "正在启动", metadata: "读取元数据", vocabulary: "词表", weights: "权重", context: "上下文",
    warm_up: "预热", upstream: "由其服务加载", importing: "导入中",
    heldBy: "由 {0} 保持卸载", pinned: "已固定", chosen: "当前", expires: "空闲 {0} 后卸载", busy: "{1} 个槽位中 {0} 个忙",
    generation: "对话", embedding: "嵌入", rerank: "重排", local: "本地", ollama: "Ollama", openai: "服务器",
    details: "{0} 为何如此", plan: "若加载", fits: "放得下", fits_after_others: "其他模型让位后放得下", does_not_fit: "放不下",
    needs: "预计需要 {0}", needsMeasured: "测得需要 {0}", evicts: "将让位：{0}", file: "文件", mapped: "映射", compute: "计算",
    waiting: "等待", nobodyWaits: "没有请求在等待。", waits: "{0} 个在等待", firstIn: "下一个约需 {0}", heldFor: "{0} 已占用内存 {1}",
    demand: "同时需要 {0} 个模型，可容纳 {1} 个", requests: "{0} 次/分",
    switchingTo: "{0} → {1}：{2}", began: "正在卸载其他模型", released: "内存已释放", loadingStage: "加载中",
    release: "已释放的内存", noRelease: "自打开此页以来没有释放内存。", proved: "已证实", unproved: "未证实",
    releasedLine: "{0}：已释放 {1}，用时 {2}", device: "设备", before: "之前", after: "之后", freed: "释放", expected: "预期", residual: "缺少",
    cached: "文件的 {0} 仍在页缓存中；系统会让给需要内存的程序", holders: "其余由谁占用",
    conversations: "对话列表", newChat: "新对话", model: "模型", message: "消息", send: "发送", stop: "停止",
    you: "你", remove: "删除", again: "重新提问", copy: "复制", copied: "已复制", thoughts: "思考过程", noConversation: "请提问。",
    kept: "对话只保存在此浏览器中。", noChatModel: "没有可用于对话的模型。", waitingTurn: "正在等待模型",
    stopped: "已停止", untitled: "新对话",
    source: "来源", fetch: "获取", noPulls: "尚未下载任何内容。", pause: "暂停", resume: "继续", left: "剩余 {0}",
    sourceHint: "hf:OWNER/REPO:量化、ollama:名称:标签、npm:包@版本，或文件地址",
    waitingPull: "等待中", running: "进行中", paused: "已暂停", done: "完成", cancelled: "已取消", interrupted: "已中断",
    listing: "查看内容", downloading: "下载中", verifying: "校验中",
    removeModel: "删除 {0}", removeSure: "删除 {0} 的文件？",
    decisions: "决策", noDecisions: "尚无决策。", when: "时间", kind: "类型", why: "原因", filter: "仅显示", all: "所有模型",
    switches: "切换", noSwitches: "尚未切换到其他类别。", who: "发起者", took: "用时",
    settings: "设置", onlyWritten: "仅已写入的", find: "查找", otherwise: "默认 {0}", notSet: "未设置", line: "第 {0} 行", needsRestart: "重启后生效", changeSettings: "在文件中修改；kill -HUP 或重启后重新读取。",
    checks: "检查", facts: "此服务", version: "版本", engine: "引擎", uptime: "已运行", listens: "地址", configuration: "配置",
    none: "无：全部默认", data: "数据", logFile: "日志", warnings: "警告", upstreams: "其他服务", noUpstreams: "未配置。",
    reachable: "可访问", unreachable: "没有响应", residents: "其内存中：{0}", ok: "正常", warning: "警告", problem: "问题", mend: "解决办法",
    k_load: "加载", k_wait: "等待", k_evict: "逐出", k_expire: "到期", k_unload: "卸载", k_give_up: "放弃", k_refuse: "拒绝", k_fail: "失败",
    k_release: "释放", k_hold: "保持卸载", k_switch: "切换", k_preempt: "抢占",
    seconds: "{0} 秒", minutes: "{0} 分钟", hours: "{0} 小时",
  },
  "zh-Hant": {
    overview: "總覽", chat: "對話", downloads: "下載", log: "決策", system: "系統",
    views: "頁面", language: "語言", theme: "外觀", auto: "跟隨系統", light: "淺色", dark: "深色",
    connecting: "連線中…", lost: "服務沒有回應，正在重試。", retry: "立即重試",
    locked: "此服務需要金鑰。", key: "金鑰", open: "開啟", keyKept: "金鑰只保存在此分頁中。",
    skip: "跳至內容",
    devices: "裝置", noDevices: "尚未發現裝置。", ours: "本服務", others: "其他程式", free: "可用",
    of: "{0}，共 {1}", limit: "上限 {0}", unusable: "目前建置的引擎無法使用它",
    timeline: "{0} 最近五分鐘的記憶體占用", nothingHeld: "目前沒有模型占用記憶體。", held: "目前占用",
    happened: "發生了什麼",
    models: "模型", noModels: "沒有已知的模型。", noModelsHint: "將 GGUF 檔案放入資料夾並在設定中指定，或在「下載」中取得。",
    name: "名稱", state: "狀態", memory: "記憶體", from: "來源", actions: "操作",
    load: "載入", unload: "卸載", cancel: "取消", hold: "保持卸載", pin: "固定", unpin: "取消固定", choose: "切換到它",
    holdTitle: "卸載，並在再次載入之前拒絕請求",
    pinTitle: "固定的模型不會為騰出記憶體而被卸載",
    chooseTitle: "裝置交給它所屬的一類；其他模型會先被卸載",
    unloaded: "未載入", loading: "載入中", ready: "就緒", unloading: "卸載中", failed: "失敗",
    starting: "正在啟動", metadata: "讀取中繼資料", vocabulary: "詞彙表", weights: "權重", context: "上下文",
    warm_up: "預熱", upstream: "由其服務載入", importing: "匯入中",
    heldBy: "由 {0} 保持卸載", pinned: "已固定", chosen: "目前", expires: "閒置 {0} 後卸載", busy: "{1} 個槽位中 {0} 個忙碌",
    generation: "對話", embedding: "嵌入", rerank: "重新排序", local: "本地", ollama: "Ollama", openai: "伺服器",
    details: "{0} 為何如此", plan: "若載入", fits: "放得下", fits_after_others: "其他模型讓位後放得下", does_not_fit: "放不下",
    needs: "預計需要 {0}", needsMeasured: "測得需要 {0}", evicts: "將讓位：{0}", file: "檔案", mapped: "映射", compute: "計算",
    waiting: "等待", nobodyWaits: "沒有請求在等待。", waits: "{0} 個在等待", firstIn: "下一個約需 {0}", heldFor: "{0} 已占用記憶體 {1}",
    demand: "同時需要 {0} 個模型，可容納 {1} 個", requests: "{0} 次/分",
    switchingTo: "{0} → {1}：{2}", began: "正在卸載其他模型", released: "記憶體已釋放", loadingStage: "載入中",
    release: "已釋放的記憶體", noRelease: "自開啟此頁以來沒有釋放記憶體。", proved: "已證實", unproved: "未證實",
    releasedLine: "{0}：已釋放 {1}，用時 {2}", device: "裝置", before: "之前", after: "之後", freed: "釋放", expected: "預期", residual: "缺少",
    cached: "檔案的 {0} 仍在頁面快取中；系統會讓給需要記憶體的程式", holders: "其餘由誰占用",
    conversations: "對話列表", newChat: "新對話", model: "模型", message: "訊息", send: "傳送", stop: "停止",
    you: "你", remove: "刪除", again: "重新提問", copy: "複製", copied: "已複製", thoughts: "思考過程", noConversation: "請提問。",
    kept: "對話只保存在此瀏覽器中。", noChatModel: "沒有可用於對話的模型。", waitingTurn: "正在等待模型",
    stopped: "已停止", untitled: "新對話",
    source: "來源", fetch: "取得", noPulls: "尚未下載任何內容。", pause: "暫停", resume: "繼續", left: "剩餘 {0}",
    sourceHint: "hf:OWNER/REPO:量化、ollama:名稱:標籤、npm:套件@版本，或檔案網址",
    waitingPull: "等待中", running: "進行中", paused: "已暫停", done: "完成", cancelled: "已取消", interrupted: "已中斷",
    listing: "查看內容", downloading: "下載中", verifying: "驗證中",
    removeModel: "刪除 {0}", removeSure: "刪除 {0} 的檔案？",
    decisions: "決策", noDecisions: "尚無決策。", when: "時間", kind: "類型", why: "原因", filter: "僅顯示", all: "所有模型",
    switches: "切換", noSwitches: "尚未切換到其他類別。", who: "發起者", took: "用時",
    settings: "設定值", onlyWritten: "僅已寫入的", find: "尋找", otherwise: "預設 {0}", notSet: "未設定", line: "第 {0} 行", needsRestart: "重新啟動後生效", changeSettings: "在檔案中修改；kill -HUP 或重新啟動後重新讀取。",
    checks: "檢查", facts: "此服務", version: "版本", engine: "引擎", uptime: "已執行", listens: "位址", configuration: "設定",
    none: "無：全部預設", data: "資料", logFile: "記錄檔", warnings: "警告", upstreams: "其他服務", noUpstreams: "未設定。",
    reachable: "可連線", unreachable: "沒有回應", residents: "其記憶體中：{0}", ok: "正常", warning: "警告", problem: "問題", mend: "解決方法",
    k_load: "載入", k_wait: "等待", k_evict: "逐出", k_expire: "到期", k_unload: "卸載", k_give_up: "放棄", k_refuse: "拒絕", k_fail: "失敗",
    k_release: "釋放", k_hold: "保持卸載", k_switch: "切換", k_preempt: "搶占",
    seconds: "{0} 秒", minutes: "{0} 分鐘", hours: "{0} 小時",
  },
} satisfies Record<string, Record<string, string>>;

export type Language = keyof typeof words;
export type Word = keyof (typeof words)["en"];
export const languages: Record<Language, string> = { en: "English", "zh-Hans": "简体中文", "zh-Hant": "繁體中文" };
// A word that only one language has is a mistake that the types show.
const complete: Record<Language, Record<Word, string>> = words;

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
    this.tell();
  }

  // The browser chooses fonts, hyphens and voices by it.
  tell(): void {
    document.documentElement.lang = this.language;
  }

  say(word: Word, ...values: (string | number)[]): string {
    return complete[this.language][word].replace(/\{(\d)\}/g, (_, i) => String(values[Number(i)]));
  }

  // What the daemon says in a word of its own; unknown ones as they are.
  name(word: string): string {
    return word in complete[this.language] ? complete[this.language][word as Word] : word;
  }

  span(seconds: number): string {
    if (seconds < 10) return this.say("seconds", seconds.toFixed(2));
    if (seconds < 120) return this.say("seconds", Math.round(seconds));
    if (seconds < 7200) return this.say("minutes", Math.round(seconds / 60));
    return this.say("hours", (seconds / 3600).toFixed(1));
  }

  time(at_ms: number): string {
    const at = new Date(at_ms);
    const day = at.toDateString() === new Date().toDateString() ? "" : `${at.toLocaleDateString(this.language)} `;
    return day + at.toLocaleTimeString(this.language, { hour12: false });
  }
}

export const spoken = new Words();

// As the command line writes them.
export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 1024 && i + 1 < units.length; ++i) n /= 1024;
  return `${i === 0 ? n : n.toFixed(1)} ${units[i]}`;
}
