import {
  END_CACHED, END_COMPLETE, END_COMPLETION, END_FIRST, END_MILLIS, END_PROMPT, END_REASONING, END_STATUS, HEAD_STREAM, IN_BACKEND, IN_ERROR,
  USAGE_CACHED, USAGE_COMPLETION, USAGE_ESTIMATED, USAGE_FINAL, USAGE_PROMPT, USAGE_REASONING,
} from "./abi";
import { begin, failed, settle } from "./buffers";
import { Bytes } from "./bytes";
import { BAD_FACTS, Facts, Judged } from "./facts";

/** A Usage is what a call has used so far, in tokens. */
export class Usage extends Judged {
  /** Nothing will be added. */
  get final(): bool {
    return this.flag(USAGE_FINAL);
  }
  /** No backend counted: the gateway guessed. */
  get estimated(): bool {
    return this.flag(USAGE_ESTIMATED);
  }
  get prompt(): i64 {
    return this.long(USAGE_PROMPT, 0);
  }
  get completion(): i64 {
    return this.long(USAGE_COMPLETION, 0);
  }
  /** Of the prompt. */
  get cached(): i64 {
    return this.long(USAGE_CACHED, 0);
  }
  /** Of the completion. */
  get reasoning(): i64 {
    return this.long(USAGE_REASONING, 0);
  }
  get backend(): Bytes {
    return this.value(IN_BACKEND);
  }
}

/** An End is a call that is over. */
export class End extends Facts {
  get stream(): bool {
    return this.flag(HEAD_STREAM);
  }
  /** The answer reached its proper end. */
  get complete(): bool {
    return this.flag(END_COMPLETE);
  }
  /** The HTTP status of the answer; 499 when the caller left before it. */
  get status(): i32 {
    return this.number(END_STATUS);
  }
  get prompt(): i64 {
    return this.long(END_PROMPT, 0);
  }
  get completion(): i64 {
    return this.long(END_COMPLETION, 0);
  }
  get cached(): i64 {
    return this.long(END_CACHED, 0);
  }
  get reasoning(): i64 {
    return this.long(END_REASONING, 0);
  }
  /** Milliseconds that the call took. */
  get millis(): i64 {
    return this.long(END_MILLIS, 0);
  }
  /** Milliseconds until the first byte of the answer; -1: there was none. */
  get first(): i64 {
    return this.long(END_FIRST, -1);
  }
  get backend(): Bytes {
    return this.value(IN_BACKEND);
  }
  /** Why it ended as it did; absent: it ended well. */
  get failure(): Bytes {
    return this.value(IN_ERROR);
  }
}

const usage = new Usage();
const end = new End();

/** Runs f on the usage that the host has left in the in buffer: the body of nexus_on_usage. */
export function handleUsage(size: u32, f: (u: Usage) => void): u64 {
  begin();
  usage.reset();
  if (!usage.take(size)) return settle(failed(BAD_FACTS));
  f(usage);
  return settle(usage.result());
}

/** Runs f on the end that the host has left in the in buffer: the body of nexus_on_end. */
export function handleEnd(size: u32, f: (e: End) => void): void {
  begin();
  if (end.take(size)) f(end);
  settle(0);
}
