// The probe does on demand everything a plugin can do, so that the gateway, the SDK and the conformance suite are held to
// the same page: ../../conformance/PROBE.md.

import { handleConfigure, handleEnd, handleRequest, handleText, handleToolCall, handleUsage } from "nexus";
import { end, toolCall, usage } from "./reply";
import { request } from "./request";
import { configure } from "./settings";
import { beyond, text } from "./text";

export { nexus_abi_1, nexus_buffers } from "nexus";

export function nexus_configure(size: u32): u64 {
  return handleConfigure(size, configure);
}

export function nexus_on_text(size: u32, flags: u32): u64 {
  const result = handleText(size, flags, text);
  return result == 0 ? beyond(result) : result;
}

export function nexus_on_request(size: u32): u64 {
  return handleRequest(size, request);
}

export function nexus_on_tool_call(size: u32): u64 {
  return handleToolCall(size, toolCall);
}

export function nexus_on_usage(size: u32): u64 {
  return handleUsage(size, usage);
}

export function nexus_on_end(size: u32): void {
  handleEnd(size, end);
}
