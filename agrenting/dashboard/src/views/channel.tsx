// One payment channel, as one of its two parties sees it: what each has, and every transfer as it happens.
import "../style/detail.css";
import "../style/channel.css";
import type { ComponentChildren } from "preact";
import { count, duration, moment, money, plural, words } from "../format";
import { Badge, Button, Card, Copy, ErrorBox, Loading, Stat, Stats, StatusBadge, ViewHead } from "../parts/basics";
import { agentHref } from "../router";
import { BalanceBar } from "./channel/balances";
import { Steps } from "./channel/steps";
import { type Channel, dueOf, isEnded } from "./channel/told";
import { useWatchedChannel } from "./channel/watching";
import { type Fact, Facts, LiveDot, When } from "./live";
import { AgentName, useHandle } from "./names";

export function ChannelView({ agentId, channelId }: { agentId: string; channelId: string }) {
  const watched = useWatchedChannel(agentId, channelId);
  const { channel, topic, refusal } = watched;
  const own = useHandle(agentId, agentId);
  const otherId = channel === null ? null : channel.agent_a_id === agentId ? channel.agent_b_id : channel.agent_a_id;
  const other = useHandle(otherId, agentId);
  const back = { href: agentHref(agentId), label: own };
  const id = (
    <span class="id-line">
      Channel <code class="mono">{channelId}</code>
      <Copy text={channelId} label="Copy the channel's id" />
    </span>
  );
  // The heading stands at the same place in both: the focus that was set on it must not go with the first answer.
  if (channel === null) {
    return (
      <div class="detail">
        <ViewHead title="Payment channel" back={back} sub={id} />
        {refusal === null ? <ChannelSkeleton /> : <ErrorBox refusal={refusal} onRetry={watched.reload} />}
      </div>
    );
  }
  return (
    <div class="detail" data-testid="channel-view" data-status={channel.status}>
      <ViewHead title={`Payments with ${other}`} back={back} sub={id}>
        <StatusBadge status={channel.status} />
        <LiveDot state={topic.state} isEnded={isEnded(channel)} />
      </ViewHead>
      {refusal !== null && <ErrorBox refusal={refusal} onRetry={topic.retry} />}
      <State channel={channel} agentId={agentId} />
      <BalanceBar channel={channel} agentId={agentId} names={{ own, other }} />
      <Figures channel={channel} />
      <Card
        title="Transfers and steps"
        note={
          channel.mode === "online"
            ? "Everything that ever changed the channel, newest first."
            : "Offline: transfers appear when a chain is handed in."
        }
        flush
        testId="channel-steps"
      >
        {watched.historyRefusal !== null && <ErrorBox refusal={watched.historyRefusal} onRetry={watched.readNewer} />}
        {watched.steps.length === 0 && watched.historyRefusal === null ? (
          <Loading rows={6} />
        ) : (
          <Steps steps={watched.steps} channel={channel} agentId={agentId} />
        )}
        {watched.hasOlder && (
          <div class="pager">
            <Button isBusy={watched.isReadingOlder} onClick={watched.readOlder}>
              Show older steps
            </Button>
          </div>
        )}
      </Card>
      <Card title="Terms" testId="channel-terms">
        <Facts facts={factsOf(channel, agentId)} />
      </Card>
    </div>
  );
}

function ChannelSkeleton() {
  return (
    <>
      <Stats label="Figures">
        {["Balance", "In the channel", "Nonce", "Mode"].map((label) => (
          <Stat key={label} label={label} value="" isLoading />
        ))}
      </Stats>
      <Card title="Transfers and steps">
        <Loading rows={8} />
      </Card>
    </>
  );
}

function Figures({ channel }: { channel: Channel }) {
  const { pending_proposal: pending } = channel;
  return (
    <Stats label="Figures">
      <Stat
        label="In the channel"
        value={money(channel.deposit_a + channel.deposit_b, channel)}
        hint="deposited by both"
        testId="channel-total"
      />
      <Stat
        label="Last nonce"
        value={count(channel.last_nonce)}
        hint={`next is ${count(channel.next_nonce)}`}
        testId="channel-nonce"
      />
      <Stat
        label="Waiting for its answer"
        value={pending === null ? "–" : money(pending.amount, channel)}
        hint={pending === null ? "no transfer is proposed" : (pending.memo ?? `nonce ${count(pending.nonce)}`)}
        testId="channel-pending"
      />
      <Stat
        label="Mode"
        value={words(channel.mode)}
        hint={`a force-close waits ${duration(channel.window_s * 1000)}`}
        testId="channel-mode"
      />
    </Stats>
  );
}

const CAUSES: Readonly<Record<string, string>> = {
  joint_close: "Both have signed the close.",
  force_close: "One party closed it alone, and the window is over.",
  dispute_timeout: "A dispute ended without a decision.",
  operator: "An operator has decided.",
  declined: "The other party declined it.",
  cancelled: "Its opener took it back.",
  expired: "Nobody accepted it in time.",
  contact_revoked: "The contact of the two has ended.",
  banned: "One of the two was banned.",
};

/** What is unusual about how it stands, and what comes of it when. */
function State({ channel, agentId }: { channel: Channel; agentId: string }) {
  const due = dueOf(channel);
  const { dispute, closing, state_lost, close_requests } = channel;
  return (
    <>
      {state_lost !== null && (
        <Banner tone="bad" title="The market has lost states of this channel" testId="channel-state-lost">
          A doubly signed state at nonce {count(state_lost.nonce)} is known that the market does not have. The channel
          is frozen: a close that both sign ends it, or an operator's decision.
        </Banner>
      )}
      {dispute !== null && (
        <Banner tone="bad" title="Disputed" testId="channel-dispute">
          <AgentName id={dispute.agent_id} agentId={agentId} />: {dispute.reason}
        </Banner>
      )}
      {closing !== null && (
        <Banner tone="warn" title="Closing without the other's signature" testId="channel-closing">
          {closing.by === null ? (
            "Begun after a ban."
          ) : (
            <>
              Begun by <AgentName id={closing.by} agentId={agentId} />.
            </>
          )}
        </Banner>
      )}
      {close_requests.length > 0 && channel.status !== "closed" && (
        <Banner
          tone="accent"
          title={plural(close_requests.length, "signed offer to close", "signed offers to close")}
          testId="channel-close-requests"
        >
          {close_requests.map((each) => (
            <span key={each.agent_id} class="block">
              <AgentName id={each.agent_id} agentId={agentId} /> would close at {money(each.final_balance_a, channel)}{" "}
              and {money(each.final_balance_b, channel)}.
            </span>
          ))}
        </Banner>
      )}
      {channel.is_revoked && !isEnded(channel) && (
        <Banner tone="warn" title="The two may not trade any more" testId="channel-revoked">
          No transfer is proposed any more; it can still be closed or disputed.
        </Banner>
      )}
      {due !== null && (
        <Banner tone="neutral" title={due.title} testId="channel-due">
          <When at={due.at} /> {due.text}
        </Banner>
      )}
      {channel.cause !== null && (
        <Banner
          tone="neutral"
          title={channel.status === "closed" ? "Closed and paid out" : words(channel.status)}
          testId="channel-end"
        >
          {CAUSES[channel.cause] ?? words(channel.cause)} {channel.reason !== null && `“${channel.reason}” `}
          {channel.closed_at !== null && <When at={channel.closed_at} />}
        </Banner>
      )}
    </>
  );
}

function Banner(props: {
  tone: "neutral" | "accent" | "warn" | "bad";
  title: string;
  testId: string;
  children: ComponentChildren;
}) {
  return (
    <div class={`banner tone-${props.tone}`} data-testid={props.testId}>
      <strong>{props.title}</strong>
      <div>{props.children}</div>
    </div>
  );
}

function factsOf(channel: Channel, agentId: string): Fact[] {
  const party = (id: string, label: string): Fact => ({
    label,
    value: (
      <>
        <AgentName id={id} agentId={agentId} /> {id === agentId && <Badge>this agent</Badge>}
      </>
    ),
  });
  const facts = [
    party(channel.agent_a_id, "Opened by"),
    party(channel.agent_b_id, "Counterparty"),
    { label: "Opened", value: <span class="num">{moment(channel.created_at)}</span> },
  ];
  if (channel.accepted_at !== null)
    facts.push({ label: "Accepted", value: <span class="num">{moment(channel.accepted_at)}</span> });
  if (channel.closed_at !== null)
    facts.push({ label: "Ended", value: <span class="num">{moment(channel.closed_at)}</span> });
  if (channel.disputes_used.length > 0)
    facts.push({ label: "Disputes used", value: <span>{count(channel.disputes_used.length)} of 2</span> });
  return facts;
}
