import { CALL_CHOICE, CALL_INDEX, DROP, HEAD_STREAM, IN_ARGUMENTS, IN_SCHEMA, IN_TOOL_CALL_ID, IN_TOOL_NAME, OUT_ARGUMENTS, OUT_TEXT } from "./abi";
import { begin, failed, settle } from "./buffers";
import { Bytes } from "./bytes";
import { BAD_FACTS, Judged } from "./facts";
import { said } from "./records";

/** A ToolCall is one call that a model makes, complete, before the caller has seen any of it. */
export class ToolCall extends Judged {
  get stream(): bool {
    return this.flag(HEAD_STREAM);
  }
  get choice(): i32 {
    return this.number(CALL_CHOICE);
  }
  /** Which of the choice's calls it is. */
  get index(): i32 {
    return this.number(CALL_INDEX);
  }
  get callID(): Bytes {
    return this.value(IN_TOOL_CALL_ID);
  }
  /** The function that is called. */
  get name(): Bytes {
    return this.value(IN_TOOL_NAME);
  }
  /** JSON text, as the model wrote it. */
  get arguments(): Bytes {
    return this.value(IN_ARGUMENTS);
  }
  /** The JSON Schema that the request offered the arguments with; absent when it did not. */
  get schema(): Bytes {
    return this.value(IN_SCHEMA);
  }

  /** Puts other arguments, a JSON text, in place of the model's. */
  setArguments<V>(json: V): void {
    said.add(OUT_ARGUMENTS, "", json);
  }

  /** Takes the call out of the reply and puts a text, which may be empty, in its place. */
  drop<V>(text: V): void {
    this.verdict = DROP;
    said.add(OUT_TEXT, "", text);
  }
}

const toolCall = new ToolCall();

/** Runs f on the tool call that the host has left in the in buffer: the body of nexus_on_tool_call. */
export function handleToolCall(size: u32, f: (t: ToolCall) => void): u64 {
  begin();
  toolCall.reset();
  if (!toolCall.take(size)) return settle(failed(BAD_FACTS));
  f(toolCall);
  return settle(toolCall.result());
}
