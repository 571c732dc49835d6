// Which view is shown: what stands behind the # of the address, so that the browser's own buttons work.
export const views = ["overview", "chat", "downloads", "log", "system"] as const;
export type View = (typeof views)[number];

function named(): View {
  const name = location.hash.slice(1).split("/")[0];
  return (views as readonly string[]).includes(name) ? (name as View) : "overview";
}

class Shown {
  view = $state<View>(named());

  start(): () => void {
    const change = () => (this.view = named());
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }
}

export const shown = new Shown();
