// Making a key. The new secret lives in this dialog alone, and is gone once it is closed.
import { useState } from "preact/hooks";
import { Button, Copy, ErrorBox } from "../../parts/basics";
import { Dialog, Field, Select } from "../../parts/controls";
import { Icon } from "../../parts/icons";
import { type Refusal, refusalOf, send } from "../../rest";
import { currency, me } from "../../session";
import { type NewKey, SCOPE_WORDS } from "./told";

interface Whose {
  value: string;
  label: string;
}

export function CreateKey(props: { whose: readonly Whose[]; onClose: () => void; onCreated: () => void }) {
  const [made, setMade] = useState<NewKey | null>(null);
  if (made !== null) return <Secret made={made} onClose={props.onClose} />;
  return (
    <Form
      {...props}
      onMade={(key) => {
        setMade(key);
        props.onCreated();
      }}
    />
  );
}

function Form(props: { whose: readonly Whose[]; onClose: () => void; onMade: (key: NewKey) => void }) {
  const own = me().scopes;
  const [name, setName] = useState("");
  const [whose, setWhose] = useState("");
  const [scopes, setScopes] = useState<ReadonlySet<string>>(new Set(own.filter((scope) => scope !== "admin")));
  const [once, setOnce] = useState("");
  const [day, setDay] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const offered = own.filter((scope) => scope !== "admin" || (whose === "" && me().isOperator));
  const chosen = offered.filter((scope) => scopes.has(scope));
  const problem =
    name.trim() === "" ? "name" : chosen.length === 0 ? "scopes" : isAmount(once) && isAmount(day) ? null : "caps";
  const create = async () => {
    if (problem !== null || isBusy) return;
    setBusy(true);
    setRefusal(null);
    const caps = {
      ...(once.trim() ? { max_amount: once.trim() } : {}),
      ...(day.trim() ? { max_amount_per_day: day.trim() } : {}),
    };
    try {
      const path = whose === "" ? "/keys" : `/agents/${whose}/keys`;
      props.onMade(await send<NewKey>("POST", path, { name: name.trim(), scopes: chosen, ...caps }));
    } catch (error) {
      setRefusal(refusalOf(error));
      setBusy(false);
    }
  };
  const unit = currency.value.currency;
  const capError = (value: string) => (isAmount(value) ? null : `An amount of ${unit}, such as 20.`);
  return (
    <Dialog
      title="Create a key"
      onClose={props.onClose}
      actions={
        <>
          <Button onClick={props.onClose}>Back</Button>
          <Button kind="primary" onClick={() => void create()} isBusy={isBusy} disabled={problem !== null}>
            Create key
          </Button>
        </>
      }
    >
      <form
        class="key-form"
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        {refusal !== null && <ErrorBox refusal={refusal} />}
        <Field
          label="Name"
          value={name}
          onInput={setName}
          autofocus
          placeholder="what will use it"
          hint="For people, to tell keys apart."
        />
        {props.whose.length > 1 && (
          <Select label="For" options={props.whose} value={whose} onChange={setWhose} isLabelled />
        )}
        <fieldset class="scopes">
          <legend>Scopes</legend>
          {offered.map((scope) => (
            <label key={scope} class="scope">
              <input
                type="checkbox"
                checked={scopes.has(scope)}
                onChange={(event) => {
                  const next = new Set(scopes);
                  if (event.currentTarget.checked) next.add(scope);
                  else next.delete(scope);
                  setScopes(next);
                }}
              />
              <span>
                <code class="mono">{scope}</code> <span class="muted">{SCOPE_WORDS[scope]}</span>
              </span>
            </label>
          ))}
        </fieldset>
        <div class="caps">
          <Field
            label={`Most at once, ${unit}`}
            value={once}
            onInput={setOnce}
            inputMode="decimal"
            placeholder="no limit"
            error={capError(once)}
          />
          <Field
            label={`Most a day, ${unit}`}
            value={day}
            onInput={setDay}
            inputMode="decimal"
            placeholder="no limit"
            error={capError(day)}
          />
        </div>
        <button type="submit" class="visually-hidden" tabIndex={-1} aria-hidden="true">
          Create key
        </button>
      </form>
    </Dialog>
  );
}

function isAmount(text: string): boolean {
  const { exponent } = currency.value;
  const pattern = exponent === 0 ? /^\d*$/ : new RegExp(`^(\\d+(\\.\\d{1,${exponent}})?)?$`);
  return pattern.test(text.trim());
}

function Secret({ made, onClose }: { made: NewKey; onClose: () => void }) {
  return (
    <Dialog
      title={`The key “${made.name}”`}
      onClose={onClose}
      actions={
        <Button kind="primary" onClick={onClose}>
          I have stored it
        </Button>
      }
    >
      <div class="secret-warning" role="alert">
        <Icon name="warning" />
        <p>This key is shown only now. Whoever has it can act with its scopes: put it where secrets belong.</p>
      </div>
      {made.api_key === null ? (
        <p>The market has answered a repetition, which holds no secret. Revoke this key and create another one.</p>
      ) : (
        <p class="secret">
          <code class="mono" data-testid="new-key">
            {made.api_key}
          </code>
          <Copy text={made.api_key} label="Copy the key" />
        </p>
      )}
    </Dialog>
  );
}
