/** How numbers, money and times are written. Everything shown goes through here, so that it reads the same everywhere. */

export interface Currency {
  currency: string;
  /** 1 minor unit is 10^-exponent of the currency. */
  exponent: number;
}

/** The page is in English, so everything is written as English writes it, whatever the browser's language. */
export const LOCALE = "en-GB";
/** British English shortens a million to "m", which reads as metres. */
const NUMBERS_LOCALE = "en";
const NOTHING = "–";
const COMPACT_FROM_MAJOR = 100_000;

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A formatter of a kind is made once: making one is slow, and tables ask for hundreds. */
const numberFormats = new Map<string, Intl.NumberFormat>();

function numberFormat(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = JSON.stringify(options);
  let format = numberFormats.get(key);
  if (format === undefined) {
    format = new Intl.NumberFormat(NUMBERS_LOCALE, options);
    numberFormats.set(key, format);
  }
  return format;
}

/** Minor units as an exact decimal text: 1234567 with exponent 6 is "1.234567". Division would round. */
export function decimal(minor: number, exponent: number): string {
  const sign = minor < 0 ? "-" : "";
  const digits = Math.abs(minor)
    .toString()
    .padStart(exponent + 1, "0");
  if (exponent === 0) return sign + digits;
  return `${sign}${digits.slice(0, -exponent)}.${digits.slice(-exponent)}`;
}

/** Money in full: no digit that counts is left out. With `decimals` at least so many stand there, as in a column. */
export function money(minor: number | null | undefined, unit: Currency, decimals = 0): string {
  if (minor === null || minor === undefined) return NOTHING;
  return written(decimal(minor, unit.exponent), unit, {
    minimumFractionDigits: Math.min(Math.max(2, decimals), unit.exponent),
    maximumFractionDigits: unit.exponent,
  });
}

/** How many decimals the amounts of a column need, so that their points stand below each other. */
export function decimalsOf(amounts: Iterable<number | null | undefined>, unit: Currency): number {
  let most = 0;
  for (const amount of amounts) {
    if (amount === null || amount === undefined) continue;
    const fraction = decimal(amount, unit.exponent).split(".")[1] ?? "";
    most = Math.max(most, fraction.replace(/0+$/, "").length);
  }
  return most;
}

/** Money for tiles and axes: three or so digits that count. The whole amount belongs into a title beside it. */
export function shortMoney(minor: number | null | undefined, unit: Currency): string {
  if (minor === null || minor === undefined) return NOTHING;
  const major = Math.abs(minor) / 10 ** unit.exponent;
  if (major >= COMPACT_FROM_MAJOR) {
    return written(decimal(minor, unit.exponent), unit, { notation: "compact", maximumFractionDigits: 2 });
  }
  if (major >= 1 || minor === 0) {
    const digits = Math.min(2, unit.exponent);
    return written(decimal(minor, unit.exponent), unit, {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
  }
  return written(decimal(minor, unit.exponent), unit, { maximumSignificantDigits: 3 });
}

function written(text: string, unit: Currency, options: Intl.NumberFormatOptions): string {
  // Formatters take decimal texts whole; TypeScript wants their pattern proven.
  const value = text as `${number}`;
  if (/^[A-Z]{3}$/.test(unit.currency)) {
    return numberFormat({
      style: "currency",
      currency: unit.currency,
      currencyDisplay: "narrowSymbol",
      ...options,
    }).format(value);
  }
  return `${numberFormat(options).format(value)} ${unit.currency}`;
}

/** A whole number with separators. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  return numberFormat({ maximumFractionDigits: 2 }).format(value);
}

/** A whole number for tiles and axes: 12,345 stays, 123,456 becomes 123K. */
export function shortCount(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (Math.abs(value) < COMPACT_FROM_MAJOR) return count(value);
  return numberFormat({ notation: "compact", maximumFractionDigits: 1 }).format(value);
}

/** A part of one, 0-1, as per cent. */
export function percent(part: number | null | undefined): string {
  if (part === null || part === undefined) return NOTHING;
  return numberFormat({ style: "percent", maximumFractionDigits: 1 }).format(part);
}

/** Stars, 0-5, two decimals. */
export function stars(value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  return numberFormat({ minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value);
}

/** A span of time in the two largest units that count: "840 ms", "3.2 s", "4 min 10 s", "2 d 3 h". */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return NOTHING;
  if (ms < SECOND_MS) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${numberFormat({ maximumFractionDigits: 1 }).format(ms / SECOND_MS)} s`;
  // What rounds up to the next unit is written in it.
  if (ms < HOUR_MS - SECOND_MS / 2) return twoUnits(ms, MINUTE_MS, "min", SECOND_MS, "s");
  if (ms < DAY_MS - MINUTE_MS / 2) return twoUnits(ms, HOUR_MS, "h", MINUTE_MS, "min");
  return twoUnits(ms, DAY_MS, "d", HOUR_MS, "h");
}

function twoUnits(ms: number, largeMs: number, large: string, smallMs: number, small: string): string {
  const rounded = Math.round(ms / smallMs) * smallMs;
  const whole = Math.floor(rounded / largeMs);
  const rest = Math.round((rounded - whole * largeMs) / smallMs);
  return rest === 0 ? `${count(whole)} ${large}` : `${count(whole)} ${large} ${rest} ${small}`;
}

const relativeFormat = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto", style: "short" });
const RELATIVE_UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", DAY_MS],
  ["hour", HOUR_MS],
  ["minute", MINUTE_MS],
  ["second", SECOND_MS],
];

/** How long ago or until: "now", "12 sec ago", "in 3 hr". */
export function relative(at: string | number | Date, nowMs: number): string {
  const ms = new Date(at).getTime() - nowMs;
  for (const [unit, unitMs] of RELATIVE_UNITS) {
    if (Math.abs(ms) >= unitMs) return relativeFormat.format(Math.trunc(ms / unitMs), unit);
  }
  return "now";
}

const timeFormat = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium" });
const dayFormat = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", timeZone: "UTC" });
const longDayFormat = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeZone: "UTC" });
const hourFormat = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const pointFormat = new Intl.DateTimeFormat(LOCALE, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  timeZone: "UTC",
});

/** A moment in the reader's own time zone, to the second. */
export function moment(at: string | number | Date): string {
  return timeFormat.format(new Date(at));
}

export type Interval = "minute" | "hour" | "day";

/** A bucket's begin on an axis, in UTC, as the market counts. */
export function axisTime(at: string, interval: Interval): string {
  return (interval === "day" ? dayFormat : hourFormat).format(new Date(at));
}

/** A bucket's begin in words, in UTC. */
export function bucketTime(at: string, interval: Interval): string {
  if (interval === "day") return longDayFormat.format(new Date(at));
  return `${pointFormat.format(new Date(at))} UTC`;
}

/** "task_completed" as people write it: "Task completed". */
export function words(name: string): string {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** One noun or several: plural(1, "task") is "1 task". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** An id that is recognised, not read: its last eight characters. The first ones of UUIDv7 are the time. */
export function shortId(id: string): string {
  return id.length > 12 ? `…${id.slice(-8)}` : id;
}

/** A message's first sentence, which says what has happened, and the rest, which says what follows from it. */
export function sentences(message: string): [string, string] {
  const end = /[.!?](?=\s+[\p{Lu}\p{N}])/u.exec(message);
  if (end === null) return [message, ""];
  return [message.slice(0, end.index + 1), message.slice(end.index + 1).trim()];
}
