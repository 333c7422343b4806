import { End, ToolCall, Usage, addMetric } from "nexus";

export function toolCall(t: ToolCall): void {
  const name = t.name;
  if (name.is("drop")) t.drop("[dropped]");
  else if (name.is("refuse")) t.refuse(403, "probe_refused", "asked to refuse");
  else if (name.is("rewrite")) t.setArguments('{"rewritten":true}');
  else if (name.is("trap")) unreachable();
}

export function usage(u: Usage): void {
  if (u.completion > 1000) u.refuse(429, "probe_usage", "too much");
}

export function end(_: End): void {
  addMetric("ended", 1);
}
