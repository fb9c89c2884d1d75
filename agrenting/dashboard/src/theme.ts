/** Light or dark: as the system has it, until somebody chooses. */

import { computed, effect, signal } from "@preact/signals";

export type Choice = "system" | "light" | "dark";
const STORED = "agrenting.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(system.matches);

function stored(): Choice {
  const found = localStorage.getItem(STORED);
  return found === "light" || found === "dark" ? found : "system";
}

export const choice = signal<Choice>(stored());
/** What is shown; charts are drawn anew when it changes. */
export const isDark = computed(() => (choice.value === "system" ? systemIsDark.value : choice.value === "dark"));

/** Whether moving parts should stand still. */
export const isStill = signal(matchMedia("(prefers-reduced-motion: reduce)").matches);

const narrow = matchMedia("(max-width: 640px)");
/** Whether the page is as narrow as a phone, where tables are lists of cards (lists.css). */
export const isNarrow = signal(narrow.matches);

/** Keep the page's colours with the choice from now on. */
export function followTheme(): void {
  system.addEventListener("change", (event) => {
    systemIsDark.value = event.matches;
  });
  matchMedia("(prefers-reduced-motion: reduce)").addEventListener("change", (event) => {
    isStill.value = event.matches;
  });
  narrow.addEventListener("change", (event) => {
    isNarrow.value = event.matches;
  });
  effect(() => {
    document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
  });
}

/** Choose; "system" forgets the choice. */
export function choose(to: Choice): void {
  choice.value = to;
  if (to === "system") localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, to);
}
