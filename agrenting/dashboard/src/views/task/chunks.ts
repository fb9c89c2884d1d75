// One direction of a task's bytes, as a page that only watches keeps them: in order, each once, and no more of them
// than can be shown. Nothing in here sends anything.
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";

/** The newest chunks that are kept, of one direction. */
export const CHUNKS_MAX = 400;

/** Their bytes together; one chunk is always kept. */
export const CHUNK_BYTES_MAX = 512 * 1024;

/** Chunks beyond a gap that wait for it to be filled; the server takes no more than this out of order. */
const AHEAD_MAX = 256;

const HEX_BYTES = 16;
const NO_DIGEST = "0".repeat(64);

/** One chunk as it is shown. */
export interface ShownChunk {
  readonly seq: number;
  readonly size: number;
  /** What it says, if its bytes are text; else null. */
  readonly text: string | null;
  /** The first bytes in hex, if it is no text. */
  readonly hex: string;
}

/** Where a stream stands, as the server tells it: `digest` and `total_size` are of all chunks before `next_seq`. */
export interface StreamPosition {
  readonly next_seq: number;
  readonly total_size: number;
  readonly digest: string;
}

/** The bytes of a chunk as it was told. */
export function bytesOf(chunk: string, encoding: string): Uint8Array {
  if (encoding !== "base64") return new TextEncoder().encode(chunk);
  const binary = atob(chunk);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

/** Text, if these bytes are UTF-8 without control characters other than white space; else null. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** The first bytes in hex, in pairs. */
export function hexOf(bytes: Uint8Array): string {
  const pairs = Array.from(bytes.subarray(0, HEX_BYTES), (byte) => byte.toString(16).padStart(2, "0"));
  return pairs.join(" ") + (bytes.length > HEX_BYTES ? " …" : "");
}

/** The running digest with one more chunk, as crypto/SIGNING.md says. */
export function digestAfter(before: string, seq: number, bytes: Uint8Array): string {
  const hashed = new Uint8Array(40 + bytes.length);
  hashed.set(hexToBytes(before));
  new DataView(hashed.buffer).setBigUint64(32, BigInt(seq));
  hashed.set(bytes, 40);
  return bytesToHex(sha256(hashed));
}

/** The chunks of one direction: taken in any order, shown in theirs, the oldest let go. */
export class Chunks {
  /** What is shown, oldest first. */
  readonly shown: ShownChunk[] = [];
  /** The first chunk that was asked for. */
  first = 0;
  /** The first chunk that is missing. */
  next = 0;
  /** How often it has changed, for who draws it. */
  version = 0;
  /** The chunks that are here are not those that the server has: they have to be read anew. */
  isBroken = false;
  private keptBytes = 0;
  private readonly ahead = new Map<number, Uint8Array>();
  /** The running digest before each of the newest seqs, as far as it is known. */
  private readonly digests = new Map<number, string>();
  /** What a join has told of a place that is still to be reached. */
  private expected: StreamPosition | null = null;

  constructor(first = 0) {
    this.restart(first);
  }

  /** Begin anew, at a chunk. */
  restart(first: number): void {
    this.shown.length = 0;
    this.keptBytes = 0;
    this.ahead.clear();
    this.digests.clear();
    if (first === 0) this.digests.set(0, NO_DIGEST);
    this.first = first;
    this.next = first;
    this.expected = null;
    this.isBroken = false;
    this.version += 1;
  }

  /** Take a chunk, replayed or live. One that is here already changes nothing, one that comes early waits. */
  take(seq: number, bytes: Uint8Array): void {
    if (seq < this.next || seq > this.next + AHEAD_MAX) return;
    this.ahead.set(seq, bytes);
    for (let following = this.ahead.get(this.next); following; following = this.ahead.get(this.next)) {
      this.ahead.delete(this.next);
      this.append(following);
    }
    this.version += 1;
  }

  /** Take what a join says: what was relayed here and not stored after all goes, and what stays is compared. */
  settle(position: StreamPosition): void {
    this.ahead.clear();
    if (position.next_seq < this.next) this.dropFrom(position.next_seq);
    this.expected = position;
    this.compare();
    this.version += 1;
  }

  private append(bytes: Uint8Array): void {
    const seq = this.next;
    const text = textOf(bytes);
    this.next += 1;
    this.shown.push({ seq, size: bytes.length, text, hex: text === null ? hexOf(bytes) : "" });
    this.keptBytes += bytes.length;
    while (this.shown.length > CHUNKS_MAX || (this.keptBytes > CHUNK_BYTES_MAX && this.shown.length > 1)) {
      this.keptBytes -= this.shown.shift()?.size ?? 0;
    }
    const before = this.digests.get(seq);
    if (before !== undefined) this.digests.set(seq + 1, digestAfter(before, seq, bytes));
    this.digests.delete(seq - CHUNKS_MAX);
    this.compare();
  }

  private compare(): void {
    if (this.expected?.next_seq !== this.next) return;
    const own = this.digests.get(this.next);
    if (own === undefined) this.digests.set(this.next, this.expected.digest);
    else if (own !== this.expected.digest) this.isBroken = true;
    this.expected = null;
  }

  private dropFrom(seq: number): void {
    while ((this.shown.at(-1)?.seq ?? -1) >= seq) this.keptBytes -= this.shown.pop()?.size ?? 0;
    for (const known of [...this.digests.keys()]) if (known > seq) this.digests.delete(known);
    this.next = seq;
    this.first = Math.min(this.first, seq);
  }
}
