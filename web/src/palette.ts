// Colours of what holds memory; seen on white and on near-black, and by those who tell few colours apart. app.css has
// the same ones as .tint0 to .tint7.
export const palette = ["#2f7ed8", "#d9822b", "#2e9e73", "#b65fb5", "#c9504a", "#8a7f1d", "#3aa6c4", "#7a6ad8"];

export function tint(n: number): number {
  return n % palette.length;
}
