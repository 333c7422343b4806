import {
  ANSWER, HEAD_BYTES, HEAD_CHOICES, HEAD_IMAGES, HEAD_MAX_TOKENS, HEAD_STREAM, HEAD_SYSTEMS, HEAD_TEXTS, HEAD_TOOLS, HEAD_TURNS,
  IN_HEADER, IN_TOOL, OUT_DROP_HEADER, OUT_HEADER, OUT_LABEL, OUT_MODEL, OUT_POOL, OUT_REQUEST_HEADER, OUT_SYSTEM, OUT_TEXT,
} from "./abi";
import { begin, failed, settle } from "./buffers";
import { Bytes } from "./bytes";
import { BAD_FACTS, Judged } from "./facts";
import { said } from "./records";

/** Where a system prompt goes, as seen from the first system message of the request. */
export enum Place {
  Before,
  After,
  Instead,
}

/** A Request is what is known of a call before it is decided on: everything but its texts. */
export class Request extends Judged {
  /** The answer is wanted as a stream. */
  get stream(): bool {
    return this.flag(HEAD_STREAM);
  }
  /** Answers asked for. */
  get choices(): i32 {
    return this.number(HEAD_CHOICES);
  }
  /** Messages. */
  get turns(): i32 {
    return this.number(HEAD_TURNS);
  }
  /** Of the messages, those of system and developer. */
  get systems(): i32 {
    return this.number(HEAD_SYSTEMS);
  }
  /** Image parts. */
  get images(): i32 {
    return this.number(HEAD_IMAGES);
  }
  /** Functions offered. */
  get tools(): i32 {
    return this.number(HEAD_TOOLS);
  }
  /** Texts in the body. */
  get texts(): i32 {
    return this.number(HEAD_TEXTS);
  }
  /** Bytes of the body. */
  get bytes(): i32 {
    return this.number(HEAD_BYTES);
  }
  /** The most tokens the caller will have, -1 when it did not say. */
  get maxTokens(): i64 {
    return this.long(HEAD_MAX_TOKENS, -1);
  }

  /** The caller's header of that name, in lower case; capability headers. */
  header(name: string): Bytes {
    return this.named(IN_HEADER, name);
  }

  /** The names of the functions offered. */
  toolNames(): Array<Bytes> {
    const all = new Array<Bytes>();
    const r = this.records();
    while (r.next()) if (r.id == IN_TOOL) all.push(r.value);
    return all;
  }

  // A value is a string or Bytes.

  /** Tells policy and log what the plugin found out. */
  setLabel<V>(name: string, value: V): void {
    said.add(OUT_LABEL, name, value);
  }

  /** Sets a header of the reply; capability headers, as for the next two. */
  setHeader<V>(name: string, value: V): void {
    said.add(OUT_HEADER, name, value);
  }

  /** Takes a header out of the reply. */
  dropHeader(name: string): void {
    said.add(OUT_DROP_HEADER, name, "");
  }

  /** Sends a header to the backend; with an empty value, one that an earlier plugin set is not sent. */
  setRequestHeader<V>(name: string, value: V): void {
    said.add(OUT_REQUEST_HEADER, name, value);
  }

  /** Chooses the model; capability model. */
  setModel<V>(name: V): void {
    said.add(OUT_MODEL, "", name);
  }

  /** Chooses the pool where policy names no target; capability pool. */
  setPool<V>(name: V): void {
    said.add(OUT_POOL, "", name);
  }

  /** Tells the model something first. A request without a system message gets one. Capability system. */
  setSystem<V>(where: Place, text: V): void {
    said.add(OUT_SYSTEM, where == Place.Before ? "before" : where == Place.After ? "after" : "replace", text);
  }

  /** Answers the call; no backend is asked. Capability answer. */
  answer<V>(text: V): void {
    this.verdict = ANSWER;
    said.add(OUT_TEXT, "", text);
  }
}

const request = new Request();

/** Runs f on the metadata that the host has left in the in buffer: the body of nexus_on_request. */
export function handleRequest(size: u32, f: (r: Request) => void): u64 {
  begin();
  request.reset();
  if (!request.take(size)) return settle(failed(BAD_FACTS));
  f(request);
  return settle(request.result());
}
