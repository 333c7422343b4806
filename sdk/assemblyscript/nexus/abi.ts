// The contract with the gateway in constants, as ../../abi/abi.go states it: bit layouts, offsets and records.
// Plugins use the types beside this file instead.

// The most text that one on_text is asked about, in bytes.
export const MAX_PIECE: usize = 32 << 10;

export const EDIT_SIZE: usize = 20;
export const REPORT_ONLY: u32 = 0xffffffff;

// Flags of on_text.
export const FLAG_REPLY: u32 = 1 << 0;
export const FLAG_FINAL: u32 = 1 << 1;
export const FLAG_MUST_DECIDE: u32 = 1 << 2;
export const FLAG_LAST_USER: u32 = 1 << 3;
export const ROLE_SHIFT: u32 = 4;
export const ROLE_MASK: u32 = 0xf;
export const CHANNEL_SHIFT: u32 = 8;
export const CHANNEL_MASK: u32 = 0xff;
export const CONTEXT_SHIFT: u32 = 16;

// Verdicts.
export const PASS: u64 = 0;
export const REFUSE: u64 = 1;
export const ANSWER: u64 = 2;
export const DROP: u64 = 3;

/** Puts together what a hook returns: hold, verdict, error and number of edits. */
export function pack(hold: u32, verdict: u64, failed: u64, edits: u64): u64 {
  return <u64>hold | (verdict << 32) | (failed << 40) | (edits << 48);
}

// Heads: offsets of their fields, and bits of their flags.
export const HEAD_FLAGS: u32 = 4;
export const HEAD_CHOICES: u32 = 8;
export const HEAD_TURNS: u32 = 12;
export const HEAD_IMAGES: u32 = 16;
export const HEAD_TOOLS: u32 = 20;
export const HEAD_TEXTS: u32 = 24;
export const HEAD_BYTES: u32 = 28;
export const HEAD_MAX_TOKENS: u32 = 32;
export const HEAD_SYSTEMS: u32 = 40;
export const HEAD_STREAM: u32 = 1 << 0;

export const CALL_CHOICE: u32 = 8;
export const CALL_INDEX: u32 = 12;

export const USAGE_PROMPT: u32 = 8;
export const USAGE_COMPLETION: u32 = 16;
export const USAGE_CACHED: u32 = 24;
export const USAGE_REASONING: u32 = 32;
export const USAGE_FINAL: u32 = 1 << 0;
export const USAGE_ESTIMATED: u32 = 1 << 1;

export const END_STATUS: u32 = 8;
export const END_PROMPT: u32 = 16;
export const END_COMPLETION: u32 = 24;
export const END_CACHED: u32 = 32;
export const END_REASONING: u32 = 40;
export const END_MILLIS: u32 = 48;
export const END_FIRST: u32 = 56;
export const END_COMPLETE: u32 = 1 << 1;

// A record is {id u16, name length u16, value length u32, name, value}.
export const RECORD_HEADER: usize = 8;

// Records the host writes.
export const IN_ID: u32 = 1;
export const IN_ROUTE: u32 = 2;
export const IN_MODEL: u32 = 3;
export const IN_PRINCIPAL: u32 = 4;
export const IN_TENANT: u32 = 5;
export const IN_TEAM: u32 = 6;
export const IN_TIER: u32 = 7;
export const IN_PRINCIPAL_LABEL: u32 = 8;
export const IN_LABEL: u32 = 9;
export const IN_TOOL: u32 = 10;
export const IN_HEADER: u32 = 11;
export const IN_TOOL_CALL_ID: u32 = 12;
export const IN_TOOL_NAME: u32 = 13;
export const IN_ARGUMENTS: u32 = 14;
export const IN_SCHEMA: u32 = 15;
export const IN_BACKEND: u32 = 16;
export const IN_ERROR: u32 = 17;

// Records a guest writes.
export const OUT_LABEL: u32 = 1;
export const OUT_HEADER: u32 = 2;
export const OUT_MODEL: u32 = 3;
export const OUT_STATUS: u32 = 4;
export const OUT_CODE: u32 = 5;
export const OUT_MESSAGE: u32 = 6;
export const OUT_ARGUMENTS: u32 = 7;
export const OUT_TEXT: u32 = 8;
export const OUT_POOL: u32 = 9;
export const OUT_REQUEST_HEADER: u32 = 10;
export const OUT_RETRY: u32 = 13;
export const MAX_RETRY: i32 = 86400; // seconds
export const OUT_DROP_HEADER: u32 = 11;
export const OUT_SYSTEM: u32 = 12;

// Records of http_call.
export const HTTP_METHOD: u32 = 1;
export const HTTP_URL: u32 = 2;
export const HTTP_HEADER: u32 = 3;
export const HTTP_BODY: u32 = 4;
export const HTTP_STATUS: u32 = 5;
