import { describe, expect, it } from "vitest";
import { bytesOf, CHUNK_BYTES_MAX, CHUNKS_MAX, Chunks, digestAfter, hexOf, textOf } from "../src/views/task/chunks";

const bytes = (text: string) => new TextEncoder().encode(text);
const said = (chunks: Chunks) => chunks.shown.map((chunk) => chunk.text).join("");

/** The position of a server that has these chunks. */
function positionOf(...texts: string[]) {
  let digest = "0".repeat(64);
  texts.forEach((text, seq) => {
    digest = digestAfter(digest, seq, bytes(text));
  });
  return { next_seq: texts.length, total_size: texts.join("").length, digest };
}

function holding(...texts: string[]): Chunks {
  const chunks = new Chunks();
  texts.forEach((text, seq) => {
    chunks.take(seq, bytes(text));
  });
  return chunks;
}

describe("chunks of a stream", () => {
  it("has the running digest that the signing document gives as its example", () => {
    // Act
    const { digest } = positionOf("hello ", "world");

    // Assert
    expect(digest).toBe("08f4f42c724bf766a544e607c864e2cbc8831d238c92a3b1afde160d9c4d35e0");
  });

  it("shows each chunk once and in order, however they come", () => {
    // Arrange
    const chunks = new Chunks();

    // Act
    for (const seq of [1, 0, 3, 0, 1, 2]) chunks.take(seq, bytes(`${seq};`));

    // Assert
    expect(said(chunks)).toBe("0;1;2;3;");
    expect(chunks.next).toBe(4);
  });

  it("goes on after a lost connection where the server has what it has", () => {
    // Arrange
    const chunks = holding("a", "b");

    // Act
    chunks.settle(positionOf("a", "b", "c", "d"));
    chunks.take(2, bytes("c"));
    chunks.take(3, bytes("d"));
    chunks.take(4, bytes("e"));

    // Assert
    expect(said(chunks)).toBe("abcde");
    expect(chunks.isBroken).toBe(false);
  });

  it("drops what was relayed and not stored after all", () => {
    // Arrange
    const chunks = holding("a", "b", "lost");

    // Act
    chunks.settle(positionOf("a", "b"));
    chunks.take(2, bytes("c"));

    // Assert
    expect(said(chunks)).toBe("abc");
    expect(chunks.isBroken).toBe(false);
  });

  it("notices that other bytes were sent in place of lost ones", () => {
    // Arrange
    const chunks = holding("a", "lost");

    // Act
    chunks.settle(positionOf("a", "sent again", "c"));
    chunks.take(2, bytes("c"));

    // Assert
    expect(chunks.isBroken).toBe(true);
  });

  it("notices it where the server has no more than is here", () => {
    // Arrange
    const chunks = holding("a", "lost");

    // Act
    chunks.settle(positionOf("a", "sent again"));

    // Assert
    expect(chunks.isBroken).toBe(true);
  });

  it("begins in the middle of a long stream, and compares from the first join on", () => {
    // Arrange
    const chunks = new Chunks(1);
    chunks.settle(positionOf("a", "b"));
    chunks.take(1, bytes("b"));
    chunks.take(2, bytes("lost"));

    // Act
    chunks.settle(positionOf("a", "b", "sent again"));

    // Assert
    expect(chunks.isBroken).toBe(true);
  });

  it("keeps the newest chunks alone, by number and by size", () => {
    // Arrange
    const many = new Chunks();
    const large = new Chunks();

    // Act
    for (let seq = 0; seq < CHUNKS_MAX + 3; seq += 1) many.take(seq, bytes("x"));
    for (let seq = 0; seq < 3; seq += 1) large.take(seq, new Uint8Array(CHUNK_BYTES_MAX / 2 + 1));

    // Assert
    expect(many.shown.length).toBe(CHUNKS_MAX);
    expect(many.shown[0]?.seq).toBe(3);
    expect(large.shown.map((chunk) => chunk.seq)).toEqual([2]);
  });

  it("shows text as text, and other bytes in hex", () => {
    expect(textOf(bytesOf("Grüße\n", "utf8"))).toBe("Grüße\n");
    expect(textOf(bytesOf("AP8=", "base64"))).toBeNull();
    expect(textOf(bytesOf("YQBi", "base64"))).toBeNull();
    expect(hexOf(bytesOf("AP8=", "base64"))).toBe("00 ff");
    expect(hexOf(new Uint8Array(30))).toBe(`${"00 ".repeat(16)}…`);
  });
});
