// One task, as one of its two agents sees it: who, what for, how far, and both streams as they come.
import "../style/detail.css";
import "../style/task.css";
import { useNow } from "../clock";
import { duration, moment, money, percent, relative, shortId, words } from "../format";
import { Badge, Card, Copy, ErrorBox, Loading, Money, Stat, Stats, StatusBadge, ViewHead } from "../parts/basics";
import { agentHref, channelHref } from "../router";
import { type Fact, Facts, Json, LiveDot, Timeline } from "./live";
import { AgentName, useHandle } from "./names";
import { StreamCard } from "./task/stream";
import { escrowSentence, isForgotten, isOver, isSettled, type Task, timelineOf } from "./task/told";
import { useWatchedTask } from "./task/watching";

export function TaskView({ agentId, taskId }: { agentId: string; taskId: string }) {
  const { task, streams, topic, refusal, reload } = useWatchedTask(agentId, taskId);
  const now = useNow();
  const handle = useHandle(agentId, agentId);
  const back = { href: agentHref(agentId), label: handle };
  // The heading stands at the same place in both: the focus that was set on it must not go with the first answer.
  if (task === null) {
    return (
      <div class="detail">
        <ViewHead title="Task" back={back} sub={<TaskId id={taskId} />} />
        {refusal === null ? <TaskSkeleton /> : <ErrorBox refusal={refusal} onRetry={reload} />}
      </div>
    );
  }
  const isProvider = task.provider_agent_id === agentId;
  const ended = isOver(task);
  const forgotten = isForgotten(task, now);
  const common = { isOver: ended, isForgotten: forgotten };
  return (
    <div class="detail" data-testid="task-view" data-status={task.status}>
      <ViewHead title={words(task.capability)} back={back} sub={<TaskId id={taskId} />}>
        <StatusBadge status={task.status} />
        <LiveDot state={topic.state} isEnded={isSettled(task)} />
      </ViewHead>
      {refusal !== null && <ErrorBox refusal={refusal} onRetry={topic.retry} />}
      <Figures task={task} now={now} />
      <TaskProgress task={task} />
      <div class="grid-2">
        <StreamCard
          title="Input"
          note={isProvider ? "From the client" : "From this agent"}
          testId="stream-input"
          stream={task.streams.input}
          chunks={streams.input}
          version={streams.input.version}
          {...common}
        />
        <StreamCard
          title="Output"
          note={isProvider ? "From this agent" : "From the provider"}
          testId="stream-output"
          stream={task.streams.output}
          chunks={streams.output}
          version={streams.output.version}
          {...common}
        />
      </div>
      <div class="grid-2 is-top">
        <Card title="Terms" testId="task-terms">
          <Facts facts={factsOf(task, agentId)} />
          {task.input !== null && (
            <>
              <h3 class="json-title">Given at the opening</h3>
              <Json value={task.input} label="Given at the opening" />
            </>
          )}
        </Card>
        <div class="stack">
          <Outcome task={task} agentId={agentId} />
          <Card title="What has happened" testId="task-timeline">
            <Timeline label="What has happened" happenings={timelineOf(task)} />
          </Card>
        </div>
      </div>
    </div>
  );
}

function TaskId({ id }: { id: string }) {
  return (
    <span class="id-line">
      Task <code class="mono">{id}</code>
      <Copy text={id} label="Copy the task's id" />
    </span>
  );
}

function TaskSkeleton() {
  return (
    <>
      <Stats label="Figures">
        {["Price", "Fee", "To the provider", "Escrow"].map((label) => (
          <Stat key={label} label={label} value="" isLoading />
        ))}
      </Stats>
      <div class="grid-2">
        <Card title="Input">
          <Loading rows={6} />
        </Card>
        <Card title="Output">
          <Loading rows={6} />
        </Card>
      </div>
    </>
  );
}

function Figures({ task, now }: { task: Task; now: number }) {
  const took =
    task.started_at === null
      ? null
      : Date.parse(task.ended_at ?? new Date(now).toISOString()) - Date.parse(task.started_at);
  const running = task.started_at !== null && task.ended_at === null;
  if (task.stream_price !== null) {
    const { amount, per, unit_bytes, credit } = task.stream_price;
    const unit = per === "chunk" ? "a chunk" : `${unit_bytes ?? 0} bytes`;
    return (
      <Stats label="Figures">
        <Stat label="Price" value={money(amount, task)} hint={`per ${unit}, ${credit} on credit`} testId="task-price" />
        <Stat label="Paid" value={money(task.paid, task)} hint="over the payment channel" testId="task-paid" />
        <Stat
          label="Units"
          value={<span class="num">{`${task.paid_up_to ?? 0} of ${task.units ?? 0}`}</span>}
          hint="paid, of those delivered"
          testId="task-units"
        />
        <Duration took={took} running={running} task={task} now={now} />
      </Stats>
    );
  }
  return (
    <Stats label="Figures">
      <Stat
        label="Price"
        value={money(task.price, task)}
        hint={`held for ${duration(task.hold_seconds * 1000)} after completion`}
        testId="task-price"
      />
      <Stat
        label="Fee"
        value={money(task.fee, task)}
        hint={`${percent(task.fee_bps / 10_000)} of the price`}
        testId="task-fee"
      />
      <Stat
        label="To the provider"
        value={money(task.net, task)}
        hint={NET_HINTS[task.escrow_status]}
        testId="task-net"
      />
      <Duration took={took} running={running} task={task} now={now} />
    </Stats>
  );
}

const NET_HINTS: Record<Task["escrow_status"], string> = {
  none: "it costs nothing",
  held: "price less fee; held in escrow",
  released: "price less fee; paid",
  refunded: "not paid: the price went back",
  split: "not whole: see the settlement",
};

function Duration({ took, running, task, now }: { took: number | null; running: boolean; task: Task; now: number }) {
  const label = took === null || running ? "Working for" : "Took";
  const due =
    isOver(task) || task.status === "disputed" ? "from start to end" : `deadline ${relative(task.deadline, now)}`;
  return (
    <Stat
      label={label}
      value={took === null ? "–" : duration(took)}
      hint={took === null ? `not started; ${due}` : due}
      title={moment(task.deadline)}
      testId="task-took"
    />
  );
}

function TaskProgress({ task }: { task: Task }) {
  const isDone = task.status === "completed";
  const percentDone = isDone ? 100 : (task.progress?.percent ?? 0);
  const text = isDone
    ? "Completed"
    : (task.progress?.message ?? (task.started_at === null ? "Not started yet" : "No progress was told"));
  const tone =
    task.status === "failed" || task.status === "cancelled" || task.status === "disputed"
      ? "is-stopped"
      : isDone
        ? "is-done"
        : "";
  return (
    <div class={`progress ${tone}`} data-testid="task-progress">
      <div class="progress-words">
        <span>{text}</span>
        <span class="num">{percentDone} %</span>
      </div>
      <progress class="progress-bar" max={100} value={percentDone} aria-label="Progress" />
    </div>
  );
}

function factsOf(task: Task, agentId: string): Fact[] {
  const party = (id: string, role: string): Fact => ({
    label: role,
    value: (
      <>
        <AgentName id={id} agentId={agentId} /> {id === agentId && <Badge>this agent</Badge>}
      </>
    ),
  });
  const facts: Fact[] = [
    party(task.client_agent_id, "Client"),
    party(task.provider_agent_id, "Provider"),
    { label: "Capability", value: <code class="mono">{task.capability}</code> },
    { label: "Money", value: <span data-testid="task-escrow">{escrowSentence(task)}</span> },
  ];
  if (task.negotiation_session_id !== null) {
    facts.push({
      label: "Agreement",
      value: (
        <code class="mono" title={task.negotiation_session_id}>
          {shortId(task.negotiation_session_id)}
        </code>
      ),
    });
  }
  if (task.channel_id !== null) {
    facts.push({
      label: "Payment channel",
      value: <a href={channelHref(agentId, task.channel_id)}>{shortId(task.channel_id)}</a>,
    });
  }
  if (task.kept_until !== null)
    facts.push({ label: "Chunks kept until", value: <span class="num">{moment(task.kept_until)}</span> });
  return facts;
}

/** What came of it, as far as anything did. */
function Outcome({ task, agentId }: { task: Task; agentId: string }) {
  const { dispute, settlement, error } = task;
  return (
    <>
      {task.result !== null && (
        <Card title="Result" testId="task-result">
          <Json value={task.result} label="Result as JSON" />
        </Card>
      )}
      {error !== null && (
        <Card title="Error" testId="task-error">
          <Facts facts={[{ label: "Type", value: <code class="mono">{error.type}</code> }]} />
          {error.details !== null && <Json value={error.details} label="Details of the error" />}
        </Card>
      )}
      {dispute !== null && (
        <Card
          title="Dispute"
          testId="task-dispute"
          actions={
            <Badge tone={settlement === null ? "bad" : "neutral"}>{settlement === null ? "open" : "settled"}</Badge>
          }
        >
          <Facts
            facts={[
              {
                label: "Opened by",
                value: dispute.opened_by === null ? "a ban" : <AgentName id={dispute.opened_by} agentId={agentId} />,
              },
              { label: "Reason", value: dispute.reason },
              ...(settlement === null
                ? [{ label: "Decided by", value: <span class="num">{moment(dispute.decides_at)}</span> }]
                : []),
            ]}
          />
        </Card>
      )}
      {settlement !== null && (
        <Card title="Settlement" testId="task-settlement">
          <Facts
            facts={[
              { label: "To the client", value: <Money minor={settlement.to_client} unit={task} /> },
              { label: "To the provider", value: <Money minor={settlement.to_provider} unit={task} /> },
              { label: "Fee", value: <Money minor={settlement.fee} unit={task} /> },
              ...(settlement.reason === null ? [] : [{ label: "Reason", value: settlement.reason }]),
            ]}
          />
        </Card>
      )}
    </>
  );
}
