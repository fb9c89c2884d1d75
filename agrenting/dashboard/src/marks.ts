/**
 * Characters that turn text around or are not seen, shown as what they are.
 *
 * Others write much of what this page shows: names, reasons, results, chunks. A "right-to-left override" in there would
 * make an amount or a word read otherwise than it is. So every text that the page draws goes through here, whoever wrote
 * it, as it is escaped: nothing has to be remembered where it is shown. That texts do not move their neighbours is in
 * base.css (`unicode-bidi: isolate`).
 */

import { type ComponentChildren, createElement, Fragment, options, type VNode } from "preact";

const NAMES: Readonly<Record<string, string>> = {
  "00AD": "soft hyphen",
  "061C": "Arabic letter mark",
  "180E": "Mongolian vowel separator",
  "200B": "zero width space",
  "200C": "zero width non-joiner",
  "200D": "zero width joiner",
  "200E": "left-to-right mark",
  "200F": "right-to-left mark",
  "202A": "left-to-right embedding",
  "202B": "right-to-left embedding",
  "202C": "pop directional formatting",
  "202D": "left-to-right override",
  "202E": "right-to-left override",
  "2060": "word joiner",
  "2066": "left-to-right isolate",
  "2067": "right-to-left isolate",
  "2068": "first strong isolate",
  "2069": "pop directional isolate",
  FEFF: "zero width no-break space",
};

/** A joiner between two pictures is how one picture is written, so it is let be. */
const UNSEEN =
  /[\u00AD\u061C\u180E\u200B\u200C\u200E\u200F\u202A-\u202E\u2060-\u206F\uFEFF]|(?<!\p{Extended_Pictographic}|\p{Emoji_Modifier}|\uFE0F)\u200D|\u200D(?!\p{Extended_Pictographic})/u;
const RUNS = new RegExp(`(?:${UNSEEN.source})+`, "gu");
const EACH = new RegExp(UNSEEN.source, "gu");

/** A text with more of them is written without elements: drawing a hundred thousand would stop the page. */
const MARKS_MAX = 200;
/** Of a run of them the first ones are named. */
const RUN_MAX = 4;

function codeOf(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
}

function wordsOf(run: string): string {
  const named = Array.from(run.slice(0, RUN_MAX), (character) => `U+${codeOf(character)}`).join(" ");
  return run.length > RUN_MAX ? `${named} and ${run.length - RUN_MAX} more` : named;
}

/** The text with a visible stand-in for each such character; for places that take text alone, as tooltips. */
export function visible(text: string): string {
  return UNSEEN.test(text) ? text.replace(EACH, (character) => `⟨U+${codeOf(character)}⟩`) : text;
}

/** The text as it is drawn: itself, or its parts with the marks between them. */
export function marked(text: string): ComponentChildren {
  if (!UNSEEN.test(text)) return text;
  const parts: ComponentChildren[] = [];
  let end = 0;
  for (const found of text.matchAll(RUNS)) {
    if (parts.length >= 2 * MARKS_MAX) return visible(text);
    const [run] = found;
    const title = Array.from(run.slice(0, RUN_MAX), (character) => NAMES[codeOf(character)] ?? "unseen").join(", ");
    parts.push(text.slice(end, found.index), createElement("span", { class: "unseen", title }, wordsOf(run)));
    end = found.index + run.length;
  }
  return createElement(Fragment, null, ...parts, text.slice(end));
}

function drawn(children: unknown, draw: (text: string) => ComponentChildren): unknown {
  if (typeof children === "string") return draw(children);
  if (!Array.isArray(children)) return children;
  const changed = children.map((child) => drawn(child, draw));
  return changed.some((child, index) => child !== children[index]) ? changed : children;
}

/** Elements that hold text alone. */
const PLAIN = new Set(["option", "title", "textarea"]);
/** What is read out or shown of an element besides its children. */
const SPOKEN = ["title", "aria-label", "alt", "placeholder"];

function mark({ type, props }: VNode): void {
  if (type !== Fragment && typeof type !== "string") return;
  const all = props as Record<string, unknown>;
  const { children } = all;
  if (children !== undefined) all.children = drawn(children, PLAIN.has(String(type)) ? visible : marked);
  if (typeof type !== "string") return;
  for (const name of SPOKEN) {
    const value = all[name];
    if (typeof value === "string") all[name] = visible(value);
  }
}

/** Draw every text of the page like this from now on; called once, before anything is drawn. */
export function markUnseen(): void {
  const before = options.vnode;
  options.vnode = (vnode) => {
    mark(vnode);
    before?.(vnode);
  };
}
