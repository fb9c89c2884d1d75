// The questions that are asked before a request is answered or a contact ended.
import { useState } from "preact/hooks";
import { Button } from "../../parts/basics";
import { Dialog, Field } from "../../parts/controls";
import { currency } from "../../session";
import type { Answer, Contact, ContactRequest } from "./requests";

const TITLES: Record<Answer, string> = {
  approve: "Approve this request?",
  reject: "Reject this request?",
  cancel: "Take this request back?",
};
const VERBS: Record<Answer, string> = { approve: "Approve", reject: "Reject", cancel: "Take back" };

export function AnswerDialog(props: {
  request: ContactRequest;
  answer: Answer;
  onClose: () => void;
  onConfirm: (maxPrice: string | null) => void;
}) {
  const { request, answer } = props;
  const [maxPrice, setMaxPrice] = useState("");
  const { currency: unit, exponent } = currency.value;
  const text = maxPrice.trim();
  const isWrong = text !== "" && !new RegExp(exponent === 0 ? "^\\d+$" : `^\\d+(\\.\\d{1,${exponent}})?$`).test(text);
  // Digits alone would be read as minor units in a number; in a text they are whole units of the currency.
  const confirm = () => {
    if (!isWrong) props.onConfirm(text === "" ? null : text);
  };
  return (
    <Dialog
      title={TITLES[answer]}
      onClose={props.onClose}
      actions={
        <>
          <Button onClick={props.onClose}>Back</Button>
          <Button kind={answer === "approve" ? "primary" : "danger"} onClick={confirm} disabled={isWrong}>
            {VERBS[answer]}
          </Button>
        </>
      }
    >
      <p>{sentence(request, answer)}</p>
      {answer === "approve" && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            confirm();
          }}
        >
          <Field
            label={`Highest price of a deal, in ${unit} (optional)`}
            value={maxPrice}
            onInput={setMaxPrice}
            inputMode="decimal"
            placeholder="no limit"
            error={isWrong ? `An amount of ${unit}, such as ${exponent === 0 ? "20" : "20.00"}.` : null}
            hint="Narrows what the one who asks may open. You can end the contact at any time."
          />
        </form>
      )}
    </Dialog>
  );
}

function sentence(request: ContactRequest, answer: Answer): string {
  const from = request.from?.handle ?? "Somebody who is gone";
  const to = request.to?.handle ?? "somebody who is gone";
  if (answer === "approve")
    return `${from} and ${to} become contacts: each may open negotiations, tasks and payment channels with the other.`;
  if (answer === "reject") return `${from} is told so, and may ask ${to} again later.`;
  return `${to} is told so. ${from} may ask again later.`;
}

export function RemoveDialog({
  contact,
  onClose,
  onConfirm,
}: {
  contact: Contact;
  onClose: () => void;
  onConfirm: () => void;
}) {
  return (
    <Dialog
      title={`Remove ${contact.handle}?`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Keep</Button>
          <Button kind="danger" onClick={onConfirm}>
            Remove
          </Button>
        </>
      }
    >
      <p>
        The contact ends at once. Open negotiations of the two are cancelled, and so are their tasks that have not
        started; their money goes back. Tasks in progress go on.
      </p>
    </Dialog>
  );
}
