import {
  CHANNEL_MASK, CHANNEL_SHIFT, CONTEXT_SHIFT, EDIT_SIZE, FLAG_FINAL, FLAG_LAST_USER, FLAG_MUST_DECIDE, FLAG_REPLY, PASS, REFUSE,
  REPORT_ONLY, ROLE_MASK, ROLE_SHIFT, pack,
} from "./abi";
import { EDIT, EDIT_CAP, IN, IN_CAP, OUT, OUT_CAP, begin, failed, settle } from "./buffers";
import { Bytes, put } from "./bytes";
import { said } from "./records";

/** Which way a text goes. */
export enum Direction {
  ToModel, // part of a request
  ToCaller, // part of a reply
}

/** Who wrote a text. */
export enum Role {
  None,
  System,
  Developer,
  User,
  Assistant,
  Tool,
}

/** Which stream of text a piece belongs to. */
export enum Channel {
  Content,
  Reasoning,
  Refused,
  ToolArguments, // JSON text
  Prompt,
  Input,
  Aside, // names, tools' descriptions, metadata
}

/** A Text is a piece of text on its way, UTF-8. Offsets count its bytes. It is valid until the handler returns. */
export class Text {
  private flags: u32 = 0;
  private start: usize = 0;
  private reason: string = "";
  private edits: u32 = 0;
  private last: i32 = 0; // where the last edit ends
  private used: usize = 0; // of the out buffer
  private kept: i32 = 0;
  private verdict: u64 = PASS;

  /** Bytes to decide on: what was held back before and what has come since. */
  length: i32 = 0;
  /** Bytes of what went before that can still be looked at, as far as the manifest's context asks. */
  context: i32 = 0;

  take(size: u32, flags: u32): bool {
    const context = flags >>> CONTEXT_SHIFT;
    if (<usize>size > IN_CAP || context > size) return false;
    this.flags = flags;
    this.context = context;
    this.start = IN + context;
    this.length = size - context;
    this.reason = "";
    this.edits = 0;
    this.last = 0;
    this.used = 0;
    this.kept = 0;
    this.verdict = PASS;
    return true;
  }

  /** The byte at i. What went before has negative places, from -context on. */
  at(i: i32): u8 {
    if (i >= this.length || i < -this.context) unreachable();
    return load<u8>(this.start + i);
  }

  /** Whether word stands at i. */
  has(i: i32, word: Bytes): bool {
    if (word.length > this.length - i) return false;
    return same(this.start + i, word.ptr, word.length);
  }

  /** Whether what stands from i to the end is the beginning of word, so that the word may yet come. */
  mayBecome(i: i32, word: Bytes): bool {
    const left = this.length - i;
    if (this.final || left <= 0 || left >= word.length) return false;
    return same(this.start + i, word.ptr, left);
  }

  /** The bytes from start up to end, without copying. */
  slice(start: i32, end: i32): Bytes {
    if (start < -this.context || start > end || end > this.length) unreachable();
    return new Bytes(this.start + start, end - start);
  }

  toString(): string {
    return String.UTF8.decodeUnsafe(this.start, this.length);
  }

  get direction(): Direction {
    return this.flags & FLAG_REPLY ? Direction.ToCaller : Direction.ToModel;
  }
  get role(): Role {
    return <Role>((this.flags >>> ROLE_SHIFT) & ROLE_MASK);
  }
  get channel(): Channel {
    return <Channel>((this.flags >>> CHANNEL_SHIFT) & CHANNEL_MASK);
  }
  /** Nothing follows this text, so that nothing can be held. */
  get final(): bool {
    return (this.flags & FLAG_FINAL) != 0;
  }
  /** More was held than the manifest's max_hold allows. */
  get mustDecide(): bool {
    return (this.flags & FLAG_MUST_DECIDE) != 0;
  }
  /** The text belongs to the last message of role user. */
  get lastUser(): bool {
    return (this.flags & FLAG_LAST_USER) != 0;
  }

  /**
   * Puts a string or Bytes in place of the bytes from start up to end, and reports kind as found: the n-th of the
   * manifest's kinds, 0 for none. Call it in order of place.
   */
  replace<T>(start: i32, end: i32, text: T, kind: i32 = 0): void {
    const n = put(OUT + this.used, OUT_CAP - this.used, text);
    if (n < 0) {
      this.reason = "more replacements than the out buffer holds";
      return;
    }
    this.record(start, end, <u32>this.used, n, kind);
    this.used += n;
  }

  /** Says that the bytes from start up to end are of the kind, and leaves them as they are. */
  report(start: i32, end: i32, kind: i32): void {
    this.record(start, end, 0, REPORT_ONLY, kind);
  }

  private record(start: i32, end: i32, offset: u32, length: u32, kind: i32): void {
    if (start < this.last || end < start || end > this.length) {
      this.reason = "edit out of order or out of bounds";
      return;
    }
    const at = <usize>this.edits * EDIT_SIZE;
    if (at + EDIT_SIZE > EDIT_CAP) {
      this.reason = "more edits than the edit buffer holds";
      return;
    }
    store<u32>(EDIT + at, start, 0);
    store<u32>(EDIT + at, end, 4);
    store<u32>(EDIT + at, offset, 8);
    store<u32>(EDIT + at, length, 12);
    store<u32>(EDIT + at, kind, 16);
    this.edits++;
    this.last = end;
  }

  /** Keeps the last n bytes back until more is known; they come again with what follows them. */
  hold(n: i32): void {
    this.kept = n;
  }

  /** Stops the call. A status of 0 is 403; code and message may be empty. */
  refuse(status: i32 = 0, code: string = "", message: string = ""): void {
    this.verdict = REFUSE;
    said.reset(); // over the replacements, which a refusal has no use for
    said.refuse(status, code, message);
  }

  /** Says, once refuse was called, in how many seconds the caller may try again: at most a day. */
  retryAfter(seconds: i32): void {
    said.retryAfter(seconds);
  }

  /** Says that the plugin cannot judge the text; its failure rule decides. */
  fail(reason: string): void {
    this.reason = reason.length > 0 ? reason : "no reason given";
  }

  result(): u64 {
    if (this.reason.length > 0) return failed(this.reason);
    if (this.verdict == REFUSE) return pack(<u32>said.used, REFUSE, 0, 0);
    return pack(this.kept, PASS, 0, this.edits);
  }
}

/** Compares n bytes; words are short, and most differ early. */
function same(a: usize, b: usize, n: usize): bool {
  for (let i: usize = 0; i < n; i++) if (load<u8>(a + i) != load<u8>(b + i)) return false;
  return true;
}

const text = new Text();

/** Runs f on the text that the host has left in the in buffer: the body of nexus_on_text. */
export function handleText(size: u32, flags: u32, f: (t: Text) => void): u64 {
  begin();
  if (!text.take(size, flags)) return settle(failed("text does not fit the buffer it was promised to be in"));
  f(text);
  return settle(text.result());
}
