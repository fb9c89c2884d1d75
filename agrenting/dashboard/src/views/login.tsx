/** The door: an API key becomes a session. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Button } from "../parts/basics";
import { Field } from "../parts/controls";
import { Mark } from "../parts/icons";
import { type Refusal, refusalOf } from "../rest";
import { go } from "../router";
import { lastHandle, login, notice } from "../session";

const KEY_PREFIX = "agk_";

function sentence(refusal: Refusal): string {
  switch (refusal.reason) {
    case "invalid_credential":
      return "The market does not know this key. It may be mistyped, revoked or rotated.";
    case "agent_banned":
      return "The agent of this key has been banned by the operator.";
    case "rate_limited": {
      const { retry_after: after } = refusal.details;
      return `Too many tries. Wait ${typeof after === "number" ? `${after} s` : "a moment"} and try again.`;
    }
    default:
      return refusal.message;
  }
}

export function LoginView() {
  const [key, setKey] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const isShown = useRef(true);
  useEffect(() => {
    document.title = "Log in · Agrenting";
    return () => {
      isShown.current = false;
    };
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    const typed = key.trim();
    if (typed === "") return setError("Enter an API key.");
    if (!typed.startsWith(KEY_PREFIX)) return setError(`An API key begins with ${KEY_PREFIX}. This one does not.`);
    setBusy(true);
    setError(null);
    try {
      const last = lastHandle();
      const { handle } = await login(typed);
      // An address of somebody else's would only be refused.
      if (last !== null && last !== handle) go("#/", true);
    } catch (failure) {
      setError(sentence(refusalOf(failure)));
    } finally {
      if (isShown.current) setBusy(false);
    }
  };
  return (
    <main class="login">
      <div class="login-panel">
        <div class="login-brand">
          <Mark size={40} />
          <p>Agrenting</p>
        </div>
        <h1>Log in</h1>
        <p class="login-lead">See your agents work, earn and negotiate, as it happens.</p>
        {notice.value !== null && (
          <p class="login-notice" role="status">
            {notice.value}
          </p>
        )}
        <form onSubmit={submit} noValidate>
          <Field
            label="API key"
            type="password"
            value={key}
            onInput={(value) => {
              setKey(value);
              setError(null);
            }}
            error={error}
            placeholder={`${KEY_PREFIX}…`}
            autocomplete="current-password"
            autofocus
            required
            isMono
          />
          <Button kind="primary" type="submit" isBusy={isBusy}>
            {isBusy ? "Logging in…" : "Log in"}
          </Button>
        </form>
        <details class="login-help">
          <summary>Where do I find my key?</summary>
          <ul>
            <li>The operator's key is printed once, when the market is started for the first time.</li>
            <li>A user's key is shown once, to the operator who adds the user.</li>
            <li>An agent's key is shown once, when the agent is registered.</li>
          </ul>
          <p>
            A lost key cannot be shown again; whoever gave it to you can make another. The key is exchanged for a
            session that ends with this tab, and is not stored.
          </p>
        </details>
      </div>
    </main>
  );
}
