/** The frame of the page: who is logged in, where one can go, and whether the market is heard. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { activeAlerts, hasMoreAlerts, useAlertFeed } from "./alerts";
import { useNow } from "./clock";
import { plural } from "./format";
import { countText } from "./known_alerts";
import { Button, classes, Empty, Loading } from "./parts/basics";
import { Segmented, Toasts } from "./parts/controls";
import { Icon, type IconName, Mark } from "./parts/icons";
import { pendingContacts, usePendingContacts } from "./pending";
import { go, type Route, route } from "./router";
import { homeOf, logout, me, meta, session } from "./session";
import { connection, reconnectNow } from "./sockets";
import { type Choice, choice, choose } from "./theme";
import { AgentView } from "./views/agent";
import { AgentsView } from "./views/agents";
import { AlertsView } from "./views/alerts";
import { ChannelView } from "./views/channel";
import { InboxView } from "./views/inbox";
import { KeysView } from "./views/keys";
import { LoginView } from "./views/login";
import { MarketView } from "./views/market";
import { TaskView } from "./views/task";

export function App() {
  const who = session.value;
  if (who === null) return <LoginView />;
  // Another session is another page: nothing of the one before may stay.
  return <Shell key={who.token} />;
}

interface Place {
  href: string;
  label: string;
  icon: IconName;
  views: readonly Route["view"][];
  count?: number | null;
  /** There are more than `count`. */
  isMore?: boolean;
  countWords?: string;
}

function places(): Place[] {
  const { agentId } = me();
  const within = ["agent", "task", "channel"] as const;
  const market: Place = { href: "#/market", label: "Market", icon: "market", views: ["market"] };
  const own: Place =
    agentId === null
      ? { href: "#/agents", label: "My agents", icon: "agents", views: ["agents", ...within] }
      : { href: `#/agents/${agentId}`, label: "My agent", icon: "agents", views: within };
  return [
    ...(me().isOperator ? [market, own] : [own, market]),
    {
      href: "#/inbox",
      label: "Inbox",
      icon: "inbox",
      views: ["inbox"],
      count: pendingContacts.value,
      countWords: "waiting",
    },
    {
      href: "#/alerts",
      label: "Alerts",
      icon: "alerts",
      views: ["alerts"],
      count: activeAlerts.value,
      isMore: hasMoreAlerts.value,
      countWords: "active",
    },
    { href: "#/keys", label: "Keys", icon: "keys", views: ["keys"] },
  ];
}

function Shell() {
  useAlertFeed();
  usePendingContacts();
  const { view } = route.value;
  const address = JSON.stringify(route.value);
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    if (view === "home") go(homeOf(me()), true);
  }, [view]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new address is what moves the focus.
  useEffect(() => {
    const heading = main.current?.querySelector("h1");
    // Screen readers and the keyboard go on at the new view's heading, as after loading a page.
    if (!isFirst.current) {
      heading?.focus({ preventScroll: true });
      scrollTo({ top: 0 });
    }
    isFirst.current = false;
  }, [address]);
  return (
    <div class="shell">
      {/* biome-ignore lint/a11y/useValidAnchor: fragments are views here, so the jump is made by hand. */}
      <a
        class="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to content
      </a>
      <TopBar />
      <Nav />
      <main class="main" id="content" tabIndex={-1} ref={main}>
        <Reconnecting />
        {meta.value === null ? (
          <Loading label="Loading the market" rows={6} />
        ) : (
          <View key={address} route={route.value} />
        )}
      </main>
      <Toasts />
    </div>
  );
}

function View({ route: at }: { route: Route }): ComponentChildren {
  switch (at.view) {
    case "home":
      return null;
    case "market":
      return <MarketView />;
    case "agents":
      return <AgentsView />;
    case "agent":
      return <AgentView agentId={at.agentId} />;
    case "task":
      return <TaskView agentId={at.agentId} taskId={at.taskId} />;
    case "channel":
      return <ChannelView agentId={at.agentId} channelId={at.channelId} />;
    case "inbox":
      return <InboxView />;
    case "keys":
      return <KeysView />;
    case "alerts":
      return <AlertsView />;
    case "unknown":
      return <Unknown />;
  }
}

function Unknown() {
  return (
    <>
      <h1 tabIndex={-1} class="visually-hidden">
        Not found
      </h1>
      <Empty
        icon="info"
        title="There is no such page"
        action={
          <a class="button button-plain" href={homeOf(me())}>
            Go to the start
          </a>
        }
      >
        The address may be mistyped or out of date.
      </Empty>
    </>
  );
}

function leave(): void {
  void logout();
  // Whoever logs in next begins at the start.
  go("#/", true);
}

function TopBar() {
  return (
    <header class="topbar">
      <a class="brand" href={homeOf(me())} aria-label="Agrenting, start">
        <Mark />
        <span class="brand-name">Agrenting</span>
      </a>
      <div class="topbar-end">
        <ConnectionState />
        <ThemePicker />
        <span class="who" title={me().isOperator ? "Operator" : undefined}>
          <span class="visually-hidden">Logged in as </span>
          {me().handle}
        </span>
        <Button kind="quiet" icon="logout" label="Log out" onClick={leave} />
      </div>
    </header>
  );
}

const THEMES: readonly { value: Choice; label: string; icon: IconName }[] = [
  { value: "system", label: "System", icon: "system" },
  { value: "light", label: "Light", icon: "sun" },
  { value: "dark", label: "Dark", icon: "moon" },
];

function ThemePicker() {
  return (
    <div class="theme-picker">
      <Segmented
        label="Theme"
        value={choice.value}
        onChange={choose}
        options={THEMES.map(({ value, label, icon }) => ({ value, label, icon }))}
      />
    </div>
  );
}

const STATE_WORDS = { open: "Live", connecting: "Connecting", lost: "Reconnecting" } as const;

function ConnectionState() {
  const { state } = connection.value;
  return (
    <span class={`connection is-${state}`} data-testid="connection" role="status">
      <span class="connection-dot" aria-hidden="true" />
      <span class="connection-word">{STATE_WORDS[state]}</span>
    </span>
  );
}

function Nav() {
  const { view } = route.value;
  return (
    <nav class="nav" aria-label="Main">
      <ul>
        {places().map(({ href, label, icon, views, count, isMore, countWords }) => {
          const isHere = views.includes(view);
          return (
            <li key={label}>
              <a
                href={href}
                class={classes("nav-link", isHere && "is-here")}
                aria-current={isHere ? "page" : undefined}
              >
                <Icon name={icon} />
                <span class="nav-label">{label}</span>
                {count ? (
                  <span class="nav-count">
                    {countText(count, isMore ?? false)}
                    <span class="visually-hidden"> {countWords}</span>
                  </span>
                ) : null}
              </a>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}

function Reconnecting() {
  const { state, nextTryAt } = connection.value;
  if (state !== "lost") return null;
  return (
    <div class="reconnect" data-testid="reconnect-banner">
      <Icon name="plug" />
      <p role="status">
        <strong>The connection to the market is lost.</strong> What you see may be out of date; nothing is lost, and it
        is brought up to date when the connection is back.
      </p>
      <span class="reconnect-when" aria-hidden="true">
        {nextTryAt === null ? "Trying now…" : <Countdown until={nextTryAt} />}
      </span>
      <Button size="small" onClick={reconnectNow}>
        Try now
      </Button>
    </div>
  );
}

function Countdown({ until }: { until: number }) {
  const seconds = Math.max(0, Math.ceil((until - useNow()) / 1000));
  return <>{seconds === 0 ? "Trying now…" : `Next try in ${plural(seconds, "second")}`}</>;
}
