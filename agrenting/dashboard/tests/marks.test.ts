import { h, options, type VNode } from "preact";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { marked, markUnseen, visible } from "../src/marks";

/** What a drawn text reads as. */
function read(drawn: unknown): string {
  if (drawn === null || drawn === undefined || typeof drawn === "boolean") return "";
  if (Array.isArray(drawn)) return drawn.map(read).join("");
  if (typeof drawn !== "object") return String(drawn);
  return read((drawn as VNode<{ children?: unknown }>).props.children);
}

const UNSEEN = [..."\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"];

describe("characters that turn text around or are not seen", () => {
  it.each(UNSEEN.map((each) => (each.codePointAt(0) ?? 0).toString(16).toUpperCase()))("U+%s is named", (code) => {
    const character = String.fromCodePoint(Number.parseInt(code, 16));
    expect(visible(`1${character}0`)).toBe(`1⟨U+${code}⟩0`);
    expect(read(marked(`1${character}0`))).toBe(`1U+${code}0`);
  });

  it("leaves every other text as it is, and pictures that are joined", () => {
    for (const text of ["", "Alice pays 1.00", "שלום", "سلام", "👩‍🚀 and 👩🏽‍🚀", "a\tb\nc"]) {
      expect(marked(text)).toBe(text);
      expect(visible(text)).toBe(text);
    }
  });

  it("names of many in a row the first ones, and draws no hundred thousand elements", () => {
    expect(read(marked(`a${"\u200b".repeat(9)}b`))).toBe("aU+200B U+200B U+200B U+200B and 5 moreb");
    expect(marked("a\u200b".repeat(100_000))).toBeTypeOf("string");
  });
});

describe("the page", () => {
  const before = options.vnode;
  beforeAll(() => markUnseen());
  afterAll(() => {
    if (before === undefined) delete options.vnode;
    else options.vnode = before;
  });

  it("marks them wherever it draws a text", () => {
    expect(read(h("p", null, "not \u202elive"))).toBe("not U+202Elive");
    expect(read(h("p", null, ["a", ["b\u2066"]], 5, null))).toBe("abU+20665");
    expect(h("p", { title: "x\u202ey" }).props.title).toBe("x⟨U+202E⟩y");
    expect(h("option", null, "x\u202ey").props.children).toBe("x⟨U+202E⟩y");
  });
});
