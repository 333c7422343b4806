import { Bytes, Fact, HTTPRequest, Place, Request, count, countIf, http, known, log, now, random, setModel, setPool, vaultPut } from "nexus";

export function request(r: Request): void {
  const model = r.model.toString();
  if (model == "refuse") return r.refuse(402, "probe_refused", "asked to refuse");
  if (model == "trap") unreachable();
  if (model == "fail") return r.fail("asked to fail");
  if (!say(r, model) && !number(r, model)) ask(r, model);
  tell(r);
}

/** Does what is said in records alone. */
function say(r: Request, model: string): bool {
  if (model == "answer") r.answer("hello from the probe");
  else if (model == "switch") r.setModel("other");
  else if (model == "pool") r.setPool("other");
  else if (model == "system") r.setSystem(Place.Before, "Be brief.");
  else if (model == "headers") {
    r.setHeader("x-probe", "1");
    r.dropHeader("server");
    r.setRequestHeader("x-probe-in", r.header("x-ask"));
  } else return false;
  return true;
}

/** Asks the host for the counter. */
function number(r: Request, model: string): bool {
  if (model == "count") {
    const n = countIf("k", 1, 2, 60000);
    r.setLabel("count", n < 0 ? "full" : n.toString());
  } else if (model == "read") r.setLabel("count", count("k").toString());
  else return false;
  return true;
}

/** Asks the host for all else. */
function ask(r: Request, model: string): void {
  if (model == "set") {
    setModel("other");
    setPool("other");
  } else if (model == "known") {
    r.setLabel("known", or(known(Fact.Principal)));
    r.setLabel("asked", or(known(Fact.Header, "x-ask")));
    r.setLabel("grade", or(known(Fact.PrincipalLabel, "grade")));
  } else if (model == "vault") vaultPut("probe value", "probe-token");
  else if (model == "log") log("probe was asked");
  else if (model == "time") {
    r.setLabel("time", yes(now() > 0));
    r.setLabel("random", yes(!zero(random(8))));
  } else if (model == "http") post(r);
}

function post(r: Request): void {
  const q = new HTTPRequest("https://probe.test/ask");
  q.method = "POST";
  q.header("x-probe", "1");
  q.body = Bytes.of("ping");
  const a = http(q);
  r.setLabel("http", a.denied ? "denied" : a.status == 0 ? "no" : a.status.toString());
  if (a.status != 0) r.setLabel("said", a.body.slice(0, min(a.body.length, 64)));
}

/** Labels the call with what the request is. */
function tell(r: Request): void {
  const model = r.model;
  if (model.length > 0 && model.length <= 256) r.setLabel("seen", model);
  const names = r.toolNames();
  const tools = Bytes.of(names.join(","));
  if (names.length > 0 && tools.length <= 256) r.setLabel("tools", tools);
  r.setLabel("stream", yes(r.stream));
  r.setLabel("bytes", yes(r.bytes > 0));
  r.setLabel("turns", r.turns.toString());
  r.setLabel("choices", r.choices.toString());
  r.setLabel("images", r.images.toString());
  r.setLabel("tool_count", r.tools.toString());
  r.setLabel("texts", r.texts.toString());
  r.setLabel("systems", r.systems.toString());
  r.setLabel("max_tokens", r.maxTokens.toString());
}

export function or(b: Bytes): Bytes {
  return b.absent ? Bytes.of("none") : b;
}

function zero(b: Bytes): bool {
  for (let i = 0; i < b.length; i++) if (b.at(i) != 0) return false;
  return true;
}

function yes(b: bool): string {
  return b ? "yes" : "no";
}
