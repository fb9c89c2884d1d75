/** What is pressed, picked and answered: pickers, tabs, dialogs, fields, toasts. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import type { Period } from "../types";
import { Button, classes, type Tone } from "./basics";
import { Icon, type IconName } from "./icons";

export interface Option<Value extends string> {
  value: Value;
  label: string;
  /** Drawn in place of the label, which screen readers still read. */
  icon?: IconName;
}

/** One of a few, all in sight. Native radio buttons, so arrows and screen readers work as everywhere. */
export function Segmented<Value extends string>(props: {
  label: string;
  options: readonly Option<Value>[];
  value: Value;
  onChange: (value: Value) => void;
}) {
  const name = useId();
  return (
    <fieldset class="segmented">
      <legend class="visually-hidden">{props.label}</legend>
      {props.options.map(({ value, label, icon }) => (
        <label key={value} class={classes(value === props.value && "is-on")} title={icon ? label : undefined}>
          <input
            type="radio"
            name={name}
            value={value}
            checked={value === props.value}
            onChange={() => props.onChange(value)}
          />
          {icon && <Icon name={icon} size={16} />}
          <span class={classes(icon && "visually-hidden")}>{label}</span>
        </label>
      ))}
    </fieldset>
  );
}

export const PERIODS: readonly Option<Period>[] = [
  { value: "1h", label: "1 h" },
  { value: "24h", label: "24 h" },
  { value: "7d", label: "7 d" },
  { value: "30d", label: "30 d" },
  { value: "90d", label: "90 d" },
  { value: "all", label: "All" },
];

const PERIOD_WORDS: Record<Period, string> = {
  "1h": "the last hour",
  "24h": "the last 24 hours",
  "7d": "the last 7 days",
  "30d": "the last 30 days",
  "90d": "the last 90 days",
  year: "the last year",
  all: "all time",
};

/** "the last 7 days". */
export function periodWords(period: Period): string {
  return PERIOD_WORDS[period];
}

export function PeriodPicker(props: { value: Period; onChange: (period: Period) => void; label?: string }) {
  return <Segmented label={props.label ?? "Period"} options={PERIODS} value={props.value} onChange={props.onChange} />;
}

/** One of many. */
export function Select<Value extends string>(props: {
  label: string;
  options: readonly Option<Value>[];
  value: Value;
  onChange: (value: Value) => void;
  /** Show the label beside it; else only screen readers read it. */
  isLabelled?: boolean;
}) {
  const id = useId();
  return (
    <div class="select">
      <label for={id} class={classes(!props.isLabelled && "visually-hidden")}>
        {props.label}
      </label>
      <select id={id} value={props.value} onChange={(event) => props.onChange(event.currentTarget.value as Value)}>
        {props.options.map(({ value, label }) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
    </div>
  );
}

/** A field with its label, a hint, and what is wrong with it. */
export function Field(props: {
  label: string;
  value: string;
  onInput: (value: string) => void;
  type?: "text" | "password" | "number" | "search";
  hint?: ComponentChildren;
  error?: string | null;
  autocomplete?: string;
  autofocus?: boolean;
  required?: boolean;
  placeholder?: string;
  inputMode?: "text" | "decimal" | "numeric";
  isMono?: boolean;
}) {
  const id = useId();
  const ref = useRef<HTMLInputElement>(null);
  // The types allow each kind of field by itself only.
  const typed = { type: (props.type ?? "text") as "text" };
  useEffect(() => {
    if (props.autofocus) ref.current?.focus();
  }, [props.autofocus]);
  return (
    <div class={classes("field", props.error && "is-wrong")}>
      <label for={id}>{props.label}</label>
      <input
        ref={ref}
        id={id}
        class={classes(props.isMono && "mono")}
        {...typed}
        value={props.value}
        required={props.required}
        placeholder={props.placeholder}
        inputMode={props.inputMode}
        autocomplete={props.autocomplete ?? "off"}
        autocapitalize="off"
        spellcheck={false}
        aria-invalid={props.error ? true : undefined}
        aria-describedby={`${id}-hint ${id}-error`}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
      <p id={`${id}-error`} class="field-error" role="alert">
        {props.error}
      </p>
      {props.hint !== undefined && (
        <p id={`${id}-hint`} class="field-hint">
          {props.hint}
        </p>
      )}
    </div>
  );
}

export interface Tab {
  id: string;
  label: string;
  count?: number;
}

/** Tabs with arrow keys. The children are the panel of the selected one. */
export function Tabs(props: {
  label: string;
  tabs: readonly Tab[];
  selected: string;
  onSelect: (id: string) => void;
  children: ComponentChildren;
}) {
  const id = useId();
  const onKeyDown = (event: KeyboardEvent) => {
    const at = props.tabs.findIndex((tab) => tab.id === props.selected);
    const last = props.tabs.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[
      event.key
    ];
    const next = to === undefined ? undefined : props.tabs[to];
    if (next === undefined) return;
    event.preventDefault();
    props.onSelect(next.id);
    document.getElementById(`${id}-${next.id}`)?.focus();
  };
  return (
    <div class="tabs">
      <div class="tab-list" role="tablist" aria-label={props.label} tabIndex={-1} onKeyDown={onKeyDown}>
        {props.tabs.map((tab) => (
          <button
            key={tab.id}
            id={`${id}-${tab.id}`}
            type="button"
            role="tab"
            class="tab"
            aria-selected={tab.id === props.selected}
            aria-controls={`${id}-panel`}
            tabIndex={tab.id === props.selected ? 0 : -1}
            onClick={() => props.onSelect(tab.id)}
          >
            {tab.label}
            {tab.count !== undefined && <span class="tab-count">{tab.count}</span>}
          </button>
        ))}
      </div>
      <div class="tab-panel" id={`${id}-panel`} role="tabpanel" aria-labelledby={`${id}-${props.selected}`}>
        {props.children}
      </div>
    </div>
  );
}

/** A modal question. Escape and the cross close it; the browser keeps the focus inside and gives it back. */
export function Dialog(props: {
  title: string;
  onClose: () => void;
  /** Buttons, the one that does it last. */
  actions?: ComponentChildren;
  children: ComponentChildren;
}) {
  const id = useId();
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (dialog !== null && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class="dialog"
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
    >
      <header class="dialog-head">
        <h2 id={id}>{props.title}</h2>
        <Button kind="quiet" size="small" icon="close" label="Close" onClick={props.onClose} />
      </header>
      <div class="dialog-body">{props.children}</div>
      {props.actions !== undefined && <footer class="dialog-actions">{props.actions}</footer>}
    </dialog>
  );
}

interface Toast {
  id: number;
  text: string;
  tone: Tone;
}

const TOAST_MS = 6000;
const TOASTS_MAX = 4;
const toasts = signal<readonly Toast[]>([]);
let toastId = 0;

/** Say something in passing, to eyes and screen readers alike. */
export function toast(text: string, tone: Tone = "neutral"): void {
  toastId += 1;
  const id = toastId;
  toasts.value = [...toasts.value, { id, text, tone }].slice(-TOASTS_MAX);
  setTimeout(() => dismiss(id), TOAST_MS);
}

function dismiss(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

/** Where toasts appear; once, in the shell. */
export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((one) => (
        <div key={one.id} class={`toast tone-${one.tone}`}>
          <Icon name={one.tone === "good" ? "check" : one.tone === "neutral" ? "info" : "warning"} size={18} />
          <span>{one.text}</span>
          <button type="button" class="toast-close" aria-label="Dismiss" onClick={() => dismiss(one.id)}>
            <Icon name="close" size={16} />
          </button>
        </div>
      ))}
    </div>
  );
}
