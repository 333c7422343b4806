//! What a Rust plugin of the gateway is written with: it turns the ABI's numbers and buffers into a [`Text`] to edit
//! and a [`Request`] to label. It depends on nothing but `core`. Depend on it as the crate `nexus`, or put its four files
//! nexus*.rs beside the plugin and write `mod nexus;`.
//!
//! ```ignore
//! nexus::plugin! { on_text: mask }
//!
//! fn mask(t: &mut nexus::Text) { … }
//! ```
//!
//! [`plugin!`] exports the hooks it names, and to export a hook is to subscribe to it. A host function is imported by
//! calling it, and is then a capability that the manifest asks for. A plugin keeps no state between calls but what it
//! was configured with: any instance may be asked about any piece of any text, and may be thrown away after it. A
//! panic is a trap, which ends the instance; the plugin's failure rule decides the call.

#![allow(dead_code)] // a plugin uses what it needs

#[cfg(not(target_arch = "wasm32"))]
extern crate std;

#[path = "nexus_json.rs"]
pub mod json;

#[cfg(not(target_arch = "wasm32"))]
#[path = "nexus_testing.rs"]
pub mod testing;

/// Names of records, as the ABI numbers them.
pub mod id {
    pub const IN_ID: u16 = 1;
    pub const IN_ROUTE: u16 = 2;
    pub const IN_MODEL: u16 = 3;
    pub const IN_PRINCIPAL: u16 = 4;
    pub const IN_TENANT: u16 = 5;
    pub const IN_TEAM: u16 = 6;
    pub const IN_TIER: u16 = 7;
    pub const IN_PRINCIPAL_LABEL: u16 = 8;
    pub const IN_LABEL: u16 = 9;
    pub const IN_TOOL: u16 = 10;
    pub const IN_HEADER: u16 = 11;
    pub const IN_TOOL_CALL_ID: u16 = 12;
    pub const IN_TOOL_NAME: u16 = 13;
    pub const IN_ARGUMENTS: u16 = 14;
    pub const IN_SCHEMA: u16 = 15;
    pub const IN_BACKEND: u16 = 16;
    pub const IN_ERROR: u16 = 17;

    pub const OUT_LABEL: u16 = 1;
    pub const OUT_HEADER: u16 = 2;
    pub const OUT_MODEL: u16 = 3;
    pub const OUT_STATUS: u16 = 4;
    pub const OUT_CODE: u16 = 5;
    pub const OUT_MESSAGE: u16 = 6;
    pub const OUT_ARGUMENTS: u16 = 7;
    pub const OUT_TEXT: u16 = 8;
    pub const OUT_POOL: u16 = 9;
    pub const OUT_REQUEST_HEADER: u16 = 10;
    pub const OUT_DROP_HEADER: u16 = 11;
    pub const OUT_SYSTEM: u16 = 12;
    pub const OUT_RETRY: u16 = 13;

    pub const HTTP_METHOD: u16 = 1;
    pub const HTTP_URL: u16 = 2;
    pub const HTTP_HEADER: u16 = 3;
    pub const HTTP_BODY: u16 = 4;
    pub const HTTP_STATUS: u16 = 5;
}

/// The most text, its context included, that a handler is asked about.
pub const MAX_PIECE: usize = 32 << 10;

const IN_CAP: usize = 256 << 10;
const EDIT_SIZE: usize = 20;
const EDIT_CAP: usize = MAX_PIECE / 4 * EDIT_SIZE;
const OUT_CAP: usize = 256 << 10;
const REPORT_ONLY: u32 = 0xffff_ffff;

const PASS: u8 = 0;
const REFUSE: u8 = 1;
const ANSWER: u8 = 2;
const DROP: u8 = 3;

fn get16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes([*b.get(at)?, *b.get(at + 1)?]))
}

fn get32(b: &[u8], at: usize) -> Option<u32> {
    let b = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn get64(b: &[u8], at: usize) -> Option<u64> {
    Some(get32(b, at)? as u64 | (get32(b, at + 4)? as u64) << 32)
}

/// The records of `b`, as `(id, name, value)`.
#[derive(Clone)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u16, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let b = self.0;
        let (id, name, value) = (get16(b, 0)?, get16(b, 2)? as usize, get32(b, 4)? as usize);
        let rest = b.get(8..)?;
        let end = name.checked_add(value)?;
        if end > rest.len() {
            return None;
        }
        self.0 = &rest[end..];
        Some((id, &rest[..name], &rest[name..end]))
    }
}

/// What a handler says, in the out buffer.
struct Said<'a> {
    out: &'a mut [u8],
    used: usize,
    verdict: u8,
    failed: bool, // the out buffer holds the reason
}

impl<'a> Said<'a> {
    fn new(out: &'a mut [u8]) -> Said<'a> {
        Said { out, used: 0, verdict: PASS, failed: false }
    }

    /// Copies `b` behind what is there and returns where it stands.
    fn copy(&mut self, b: &[u8]) -> Option<usize> {
        let at = self.used;
        self.out.get_mut(at..at.checked_add(b.len())?)?.copy_from_slice(b);
        self.used += b.len();
        Some(at)
    }

    fn add(&mut self, id: u16, name: &[u8], value: &[u8]) {
        if self.failed {
            return;
        }
        let before = self.used;
        let mut head = [0; 8];
        head[..2].copy_from_slice(&id.to_le_bytes());
        head[2..4].copy_from_slice(&(name.len() as u16).to_le_bytes());
        head[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
        let fits = name.len() <= 0xffff
            && self.copy(&head).is_some()
            && self.copy(name).is_some()
            && self.copy(value).is_some();
        if !fits {
            self.used = before;
            self.fail("more said than the out buffer holds");
        }
    }

    /// The first reason is the one that matters; nothing said after it counts.
    fn fail(&mut self, reason: &str) {
        if !self.failed {
            self.used = reason.len().min(self.out.len());
            self.out[..self.used].copy_from_slice(&reason.as_bytes()[..self.used]);
            self.failed = true;
        }
    }

    fn refuse(&mut self, status: u16, code: &str, message: &str) {
        if self.failed {
            return;
        }
        self.verdict = REFUSE;
        if (100..=999).contains(&status) {
            let digit = |n: u16| b'0' + (n % 10) as u8;
            self.add(id::OUT_STATUS, b"", &[digit(status / 100), digit(status / 10), digit(status)]);
        }
        if !code.is_empty() {
            self.add(id::OUT_CODE, b"", code.as_bytes());
        }
        if !message.is_empty() {
            self.add(id::OUT_MESSAGE, b"", message.as_bytes());
        }
    }

    fn retry_after(&mut self, seconds: u32) {
        let (mut digits, mut left, mut at) = ([0; 5], seconds.min(86400), 5);
        while at == 5 || left > 0 {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.add(id::OUT_RETRY, b"", &digits[at..]);
    }

    fn result(&self) -> u64 {
        match self.failed {
            true => 1 << 40 | self.used as u64,
            false => (self.verdict as u64) << 32 | self.used as u64,
        }
    }
}

/// Which way a text goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ToModel,
    ToCaller,
}

/// Who wrote a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    None,
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// Which stream of text a piece belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    Content,
    Reasoning,
    Refused,
    /// JSON text.
    ToolArguments,
    Prompt,
    Input,
    /// Names, tools' descriptions, metadata.
    Aside,
    /// One that this SDK does not know yet.
    Other(u8),
}

const FLAG_FINAL: u32 = 1 << 1;
const FLAG_MUST_DECIDE: u32 = 1 << 2;

/// A piece of text on its way. Offsets count bytes of [`Text::bytes`].
pub struct Text<'a> {
    window: &'a [u8],
    context: usize,
    flags: u32,
    edits: &'a mut [u8],
    count: usize,
    last: usize, // where the last edit ended
    hold: usize,
    said: Said<'a>,
}

impl<'a> Text<'a> {
    /// The text to decide on: what was held back before and what has come since. It is UTF-8.
    pub fn bytes(&self) -> &'a [u8] {
        &self.window[self.context..]
    }

    /// The text with what went before it, and where the text begins. What went before is there to look back on, as far
    /// as the manifest's `context` asks, and has already been let go.
    pub fn window(&self) -> (&'a [u8], usize) {
        (self.window, self.context)
    }

    pub fn direction(&self) -> Direction {
        match self.flags & 1 {
            0 => Direction::ToModel,
            _ => Direction::ToCaller,
        }
    }

    pub fn role(&self) -> Role {
        match self.flags >> 4 & 0xf {
            1 => Role::System,
            2 => Role::Developer,
            3 => Role::User,
            4 => Role::Assistant,
            5 => Role::Tool,
            _ => Role::None,
        }
    }

    pub fn channel(&self) -> Channel {
        match (self.flags >> 8) as u8 {
            0 => Channel::Content,
            1 => Channel::Reasoning,
            2 => Channel::Refused,
            3 => Channel::ToolArguments,
            4 => Channel::Prompt,
            5 => Channel::Input,
            6 => Channel::Aside,
            n => Channel::Other(n),
        }
    }

    /// Nothing follows this text, so that nothing can be held.
    pub fn is_final(&self) -> bool {
        self.flags & FLAG_FINAL != 0
    }

    /// More was held than the manifest's `max_hold` allows.
    pub fn must_decide(&self) -> bool {
        self.flags & FLAG_MUST_DECIDE != 0
    }

    /// The text belongs to the last message of role user.
    pub fn is_last_user(&self) -> bool {
        self.flags >> 3 & 1 != 0
    }

    /// Puts `with` in place of the bytes `start..end` and reports `kind` as found: the n-th of the manifest's kinds, 0
    /// for none. Call it in order of place.
    pub fn replace(&mut self, start: usize, end: usize, with: &str, kind: u32) {
        if self.open() {
            match self.said.copy(with.as_bytes()) {
                Some(at) => self.edit(start, end, [at as u32, with.len() as u32, kind]),
                None => self.said.fail("more replacements than the out buffer holds"),
            }
        }
    }

    /// Says that the bytes `start..end` are of the kind, and leaves them as they are.
    pub fn report(&mut self, start: usize, end: usize, kind: u32) {
        if self.open() {
            self.edit(start, end, [0, REPORT_ONLY, kind]);
        }
    }

    fn open(&self) -> bool {
        !self.said.failed && self.said.verdict == PASS
    }

    fn edit(&mut self, start: usize, end: usize, rest: [u32; 3]) {
        if start < self.last || end < start || end > self.window.len() - self.context {
            return self.said.fail("edit out of order or out of bounds");
        }
        let at = self.count * EDIT_SIZE;
        let room = match self.edits.get_mut(at..at + EDIT_SIZE) {
            Some(room) => room,
            None => return self.said.fail("more edits than the edit buffer holds"),
        };
        let all = [start as u32, end as u32, rest[0], rest[1], rest[2]];
        for (to, v) in room.chunks_exact_mut(4).zip(all) {
            to.copy_from_slice(&v.to_le_bytes());
        }
        self.count += 1;
        self.last = end;
    }

    /// Keeps the last `n` bytes back until more is known; they come again with what follows them.
    pub fn hold(&mut self, n: usize) {
        self.hold = n;
    }

    /// Stops the call. A status of 0 is 403; code and message may be empty.
    pub fn refuse(&mut self, status: u16, code: &str, message: &str) {
        if !self.said.failed {
            self.said.used = 0; // replacements are not made in what is refused
            self.said.refuse(status, code, message);
        }
    }

    /// Says, once `refuse` was called, in how many seconds the caller may try again: at most a day.
    pub fn retry_after(&mut self, seconds: u32) {
        self.said.retry_after(seconds);
    }

    /// Says that the plugin cannot judge the text; its failure rule decides.
    pub fn fail(&mut self, reason: &str) {
        self.said.fail(reason);
    }

    fn result(&self) -> u64 {
        match self.open() {
            true => (self.count as u64) << 48 | self.hold.min(u32::MAX as usize) as u64,
            false => self.said.result(),
        }
    }
}

/// What the host tells of a call: a head of numbers and the records behind it.
#[derive(Clone)]
pub struct Facts<'a> {
    head: &'a [u8],
    records: Records<'a>,
}

impl<'a> Facts<'a> {
    fn read(b: &'a [u8]) -> Option<Facts<'a>> {
        let head = get32(b, 0)? as usize;
        if head < 4 || head > b.len() {
            return None;
        }
        Some(Facts { head: &b[..head], records: Records(&b[head..]) })
    }

    /// A field of the head; one that a host with a shorter head does not write is 0.
    fn number(&self, at: usize) -> u32 {
        get32(self.head, at).unwrap_or(0)
    }

    fn long(&self, at: usize) -> u64 {
        get64(self.head, at).unwrap_or(0)
    }

    /// The first record of that id and name.
    pub fn value(&self, id: u16, name: &str) -> Option<&'a [u8]> {
        let mut all = self.records.clone();
        all.find(|r| r.0 == id && r.1 == name.as_bytes()).map(|r| r.2)
    }

    fn text(&self, id: u16, name: &str) -> Option<&'a str> {
        core::str::from_utf8(self.value(id, name)?).ok()
    }

    fn text_or_empty(&self, id: u16) -> &'a str {
        self.text(id, "").unwrap_or("")
    }

    /// All records.
    pub fn records(&self) -> Records<'a> {
        self.records.clone()
    }

    pub fn id(&self) -> &'a str {
        self.text_or_empty(id::IN_ID)
    }

    /// chat, completions, …
    pub fn route(&self) -> &'a str {
        self.text_or_empty(id::IN_ROUTE)
    }

    /// The model asked for.
    pub fn model(&self) -> &'a str {
        self.text_or_empty(id::IN_MODEL)
    }

    /// Who calls: the key's id.
    pub fn principal(&self) -> &'a str {
        self.text_or_empty(id::IN_PRINCIPAL)
    }

    pub fn tenant(&self) -> &'a str {
        self.text_or_empty(id::IN_TENANT)
    }

    pub fn team(&self) -> &'a str {
        self.text_or_empty(id::IN_TEAM)
    }

    pub fn tier(&self) -> &'a str {
        self.text_or_empty(id::IN_TIER)
    }

    /// What an earlier plugin said under `name`.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.text(id::IN_LABEL, name)
    }

    /// The caller's own label of that name.
    pub fn principal_label(&self, name: &str) -> Option<&'a str> {
        self.text(id::IN_PRINCIPAL_LABEL, name)
    }
}

macro_rules! facts_of {
    ($($view:ident)*) => {$(
        impl<'a> core::ops::Deref for $view<'a> {
            type Target = Facts<'a>;
            fn deref(&self) -> &Facts<'a> {
                &self.facts
            }
        }
    )*};
}

macro_rules! verdicts_of {
    ($($view:ident)*) => {$(
        impl<'a> $view<'a> {
            /// Stops the call. A status of 0 is 403; code and message may be empty.
            pub fn refuse(&mut self, status: u16, code: &str, message: &str) {
                self.said.refuse(status, code, message);
            }

            /// Says, once `refuse` was called, in how many seconds the caller may try again: at most a day.
            pub fn retry_after(&mut self, seconds: u32) {
                self.said.retry_after(seconds);
            }

            /// Says that the plugin cannot judge; its failure rule decides.
            pub fn fail(&mut self, reason: &str) {
                self.said.fail(reason);
            }
        }
    )*};
}

facts_of!(Request ToolCall Usage End);
verdicts_of!(Request ToolCall Usage);

/// What is known of a call before it is decided on: everything but its texts. See [`Facts`] for the rest.
pub struct Request<'a> {
    facts: Facts<'a>,
    said: Said<'a>,
}

/// Where a system prompt goes, as seen from the first system message of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Before,
    After,
    Instead,
}

impl<'a> Request<'a> {
    pub fn stream(&self) -> bool {
        self.facts.number(4) & 1 != 0
    }

    /// Answers asked for.
    pub fn choices(&self) -> u32 {
        self.facts.number(8)
    }

    /// Messages.
    pub fn turns(&self) -> u32 {
        self.facts.number(12)
    }

    /// Image parts.
    pub fn images(&self) -> u32 {
        self.facts.number(16)
    }

    /// How many functions are offered.
    pub fn tool_count(&self) -> u32 {
        self.facts.number(20)
    }

    /// Texts in the body.
    pub fn texts(&self) -> u32 {
        self.facts.number(24)
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> u32 {
        self.facts.number(28)
    }

    /// The most tokens the caller will have, if it said.
    pub fn max_tokens(&self) -> Option<u64> {
        get64(self.facts.head, 32).filter(|&n| n as i64 >= 0)
    }

    /// Messages of role system or developer.
    pub fn systems(&self) -> u32 {
        self.facts.number(40)
    }

    /// The names of the functions offered.
    pub fn tools(&self) -> impl Iterator<Item = &'a str> {
        self.facts.records().filter(|r| r.0 == id::IN_TOOL).filter_map(|r| core::str::from_utf8(r.2).ok())
    }

    /// The caller's header of that name, in lower case. Capability `headers`.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.facts.text(id::IN_HEADER, name)
    }

    /// Tells policy and log what the plugin found out.
    pub fn set_label(&mut self, name: &str, value: &str) {
        self.said.add(id::OUT_LABEL, name.as_bytes(), value.as_bytes());
    }

    /// Sets a header of the reply. Capability `headers`, as for the next two.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.said.add(id::OUT_HEADER, name.as_bytes(), value.as_bytes());
    }

    /// Takes a header out of the reply.
    pub fn drop_header(&mut self, name: &str) {
        self.said.add(id::OUT_DROP_HEADER, name.as_bytes(), b"");
    }

    /// Sends a header to the backend; with an empty value, one that an earlier plugin set is not sent.
    pub fn set_request_header(&mut self, name: &str, value: &str) {
        self.said.add(id::OUT_REQUEST_HEADER, name.as_bytes(), value.as_bytes());
    }

    /// Chooses the model. Capability `model`.
    pub fn set_model(&mut self, name: &str) {
        self.said.add(id::OUT_MODEL, b"", name.as_bytes());
    }

    /// Chooses the pool where policy names no target. Capability `pool`.
    pub fn set_pool(&mut self, name: &str) {
        self.said.add(id::OUT_POOL, b"", name.as_bytes());
    }

    /// Tells the model something first; a request without a system message gets one. Capability `system`.
    pub fn set_system(&mut self, place: Place, text: &str) {
        let place: &[u8] = match place {
            Place::Before => b"before",
            Place::After => b"after",
            Place::Instead => b"replace",
        };
        self.said.add(id::OUT_SYSTEM, place, text.as_bytes());
    }

    /// Answers the call with `text`; no backend is asked. Capability `answer`.
    pub fn answer(&mut self, text: &str) {
        self.said.verdict = ANSWER;
        self.said.add(id::OUT_TEXT, b"", text.as_bytes());
    }
}

/// One call that a model makes, complete, before the caller has seen any of it. See [`Facts`] for the rest.
pub struct ToolCall<'a> {
    facts: Facts<'a>,
    said: Said<'a>,
}

impl<'a> ToolCall<'a> {
    pub fn stream(&self) -> bool {
        self.facts.number(4) & 1 != 0
    }

    pub fn choice(&self) -> u32 {
        self.facts.number(8)
    }

    /// Which of the choice's calls it is.
    pub fn index(&self) -> u32 {
        self.facts.number(12)
    }

    pub fn call_id(&self) -> &'a str {
        self.facts.text_or_empty(id::IN_TOOL_CALL_ID)
    }

    /// The function that is called.
    pub fn name(&self) -> &'a str {
        self.facts.text_or_empty(id::IN_TOOL_NAME)
    }

    /// JSON text, as the model wrote it.
    pub fn arguments(&self) -> &'a str {
        self.facts.text_or_empty(id::IN_ARGUMENTS)
    }

    /// The JSON Schema that the request offered the arguments with, if it did.
    pub fn schema(&self) -> Option<&'a str> {
        self.facts.text(id::IN_SCHEMA, "")
    }

    /// Puts other arguments, a JSON text, in place of the model's.
    pub fn set_arguments(&mut self, json: &str) {
        self.said.add(id::OUT_ARGUMENTS, b"", json.as_bytes());
    }

    /// Takes the call out of the reply and puts `text`, which may be empty, in its place.
    pub fn drop_call(&mut self, text: &str) {
        self.said.verdict = DROP;
        self.said.add(id::OUT_TEXT, b"", text.as_bytes());
    }
}

/// What a call has used so far, in tokens. See [`Facts`] for the rest.
pub struct Usage<'a> {
    facts: Facts<'a>,
    said: Said<'a>,
}

impl<'a> Usage<'a> {
    /// Nothing will be added.
    pub fn is_final(&self) -> bool {
        self.facts.number(4) & 1 != 0
    }

    /// No backend counted: the gateway guessed.
    pub fn is_estimated(&self) -> bool {
        self.facts.number(4) & 2 != 0
    }

    pub fn prompt(&self) -> u64 {
        self.facts.long(8)
    }

    pub fn completion(&self) -> u64 {
        self.facts.long(16)
    }

    /// Of the prompt.
    pub fn cached(&self) -> u64 {
        self.facts.long(24)
    }

    /// Of the completion.
    pub fn reasoning(&self) -> u64 {
        self.facts.long(32)
    }

    pub fn backend(&self) -> &'a str {
        self.facts.text_or_empty(id::IN_BACKEND)
    }
}

/// A call that is over. See [`Facts`] for the rest.
pub struct End<'a> {
    facts: Facts<'a>,
}

impl<'a> End<'a> {
    pub fn stream(&self) -> bool {
        self.facts.number(4) & 1 != 0
    }

    /// The answer reached its proper end.
    pub fn is_complete(&self) -> bool {
        self.facts.number(4) & 2 != 0
    }

    /// The HTTP status of the answer; 499 when the caller left before it.
    pub fn status(&self) -> u32 {
        self.facts.number(8)
    }

    pub fn prompt(&self) -> u64 {
        self.facts.long(16)
    }

    pub fn completion(&self) -> u64 {
        self.facts.long(24)
    }

    pub fn cached(&self) -> u64 {
        self.facts.long(32)
    }

    pub fn reasoning(&self) -> u64 {
        self.facts.long(40)
    }

    /// Milliseconds of the whole call.
    pub fn millis(&self) -> u64 {
        self.facts.long(48)
    }

    /// Milliseconds to the first byte of the answer, if there was one.
    pub fn first_millis(&self) -> Option<u64> {
        get64(self.facts.head, 56).filter(|&n| n != u64::MAX)
    }

    pub fn backend(&self) -> &'a str {
        self.facts.text_or_empty(id::IN_BACKEND)
    }

    /// Why the call ended; `None`: it ended well.
    pub fn error(&self) -> Option<&'a str> {
        self.facts.text(id::IN_ERROR, "")
    }
}

/// The buffers as one call uses them.
#[doc(hidden)]
pub struct Buffers<'a> {
    pub input: &'a [u8],
    pub edits: &'a mut [u8],
    pub out: &'a mut [u8],
}

#[doc(hidden)]
pub fn run_text(b: Buffers, flags: u32, f: impl FnOnce(&mut Text)) -> u64 {
    let context = (flags >> 16) as usize;
    let mut said = Said::new(b.out);
    if context > b.input.len() {
        said.fail("text does not fit the buffer it was promised to be in");
        return said.result();
    }
    let mut t = Text { window: b.input, context, flags, edits: b.edits, count: 0, last: 0, hold: 0, said };
    f(&mut t);
    t.result()
}

macro_rules! run {
    ($($run:ident $view:ident),*) => {$(
        #[doc(hidden)]
        pub fn $run(b: Buffers, f: impl FnOnce(&mut $view)) -> u64 {
            let mut said = Said::new(b.out);
            match Facts::read(b.input) {
                Some(facts) => {
                    let mut view = $view { facts, said };
                    f(&mut view);
                    view.said.result()
                }
                None => {
                    said.fail("metadata does not fit the buffer it was promised to be in");
                    said.result()
                }
            }
        }
    )*};
}

run!(run_request Request, run_tool_call ToolCall, run_usage Usage);

#[doc(hidden)]
pub fn run_end(b: Buffers, f: impl FnOnce(&End)) {
    if let Some(facts) = Facts::read(b.input) {
        f(&End { facts });
    }
}

/// Runs a configure handler: it gets the configuration, a JSON object, and returns why it refuses the plugin at load.
#[doc(hidden)]
pub fn run_configure<E: AsRef<str>>(b: Buffers, f: impl FnOnce(json::Value) -> Result<(), E>) -> u64 {
    let mut said = Said::new(b.out);
    let text = if b.input.is_empty() { b"{}" } else { b.input };
    match json::Value::read(text).filter(|v| v.is_object()) {
        None => said.fail("configuration is not a JSON object"),
        Some(config) => {
            if let Err(reason) = f(config) {
                said.fail(reason.as_ref());
            }
        }
    }
    said.result()
}

/// Exports the plugin's hooks; to export a hook is to subscribe to it. Write it once, in the root of the plugin, where
/// this module is known as `nexus`. All parts are optional, in this order:
///
/// ```ignore
/// nexus::plugin! {
///     configure: configure,       // fn(nexus::json::Value) -> Result<(), E>, E: AsRef<str>
///     on_request: on_request,     // fn(&mut nexus::Request)
///     on_text: mask,              // fn(&mut nexus::Text)
///     on_tool_call: on_tool_call, // fn(&mut nexus::ToolCall)
///     on_usage: on_usage,         // fn(&mut nexus::Usage)
///     on_end: on_end,             // fn(&nexus::End)
/// }
/// ```
#[macro_export]
macro_rules! plugin {
    ($($hook:ident: $f:path),* $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        mod nexus_exports {
            use super::*;

            #[no_mangle]
            pub extern "C" fn nexus_abi_1() {}

            #[no_mangle]
            pub extern "C" fn nexus_buffers() -> *const u32 {
                nexus::guest::table()
            }

            $($crate::plugin!(@wasm $hook $f);)*
        }

        $(#[cfg(not(target_arch = "wasm32"))]
        $crate::plugin!(@native $hook $f);)*
    };
    (@wasm configure $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_configure(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_configure(b, |config| $f(config)))
        }
    };
    (@wasm on_request $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_request(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_request(b, |r| $f(r)))
        }
    };
    (@wasm on_text $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_text(n: u32, flags: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_text(b, flags, |t| $f(t)))
        }
    };
    (@wasm on_tool_call $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_tool_call(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_tool_call(b, |c| $f(c)))
        }
    };
    (@wasm on_usage $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_usage(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_usage(b, |u| $f(u)))
        }
    };
    (@wasm on_end $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_end(n: u32) {
            nexus::guest::with(n, |b| {
                nexus::run_end(b, |e| $f(e));
                0
            });
        }
    };
    // A native build exports nothing, but the handlers are of the right type there too.
    (@native configure $f:path) => {
        #[allow(dead_code)]
        fn nexus_configure(v: nexus::json::Value) {
            let _ = $f(v);
        }
    };
    (@native on_request $f:path) => { #[allow(dead_code)] fn nexus_on_request(r: &mut nexus::Request) { $f(r) } };
    (@native on_text $f:path) => { #[allow(dead_code)] fn nexus_on_text(t: &mut nexus::Text) { $f(t) } };
    (@native on_tool_call $f:path) => { #[allow(dead_code)] fn nexus_on_tool_call(c: &mut nexus::ToolCall) { $f(c) } };
    (@native on_usage $f:path) => { #[allow(dead_code)] fn nexus_on_usage(u: &mut nexus::Usage) { $f(u) } };
    (@native on_end $f:path) => { #[allow(dead_code)] fn nexus_on_end(e: &nexus::End) { $f(e) } };
}

/// What the plugin was configured with: set once by the configure handler, read ever after.
pub struct Kept<T> {
    state: core::sync::atomic::AtomicU8, // 0: empty, 1: being set, 2: set
    value: core::cell::UnsafeCell<Option<T>>,
}

// SAFETY: the value is written by the one who moved state from 0 to 1, and read only after state is 2.
unsafe impl<T: Send + Sync> Sync for Kept<T> {}

impl<T> Kept<T> {
    pub const fn new() -> Kept<T> {
        Kept { state: core::sync::atomic::AtomicU8::new(0), value: core::cell::UnsafeCell::new(None) }
    }

    /// Sets the value. A second time changes nothing: the host configures an instance once.
    pub fn set(&self, value: T) {
        use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
        if self.state.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
            // SAFETY: nobody else writes, and nobody reads before state is 2.
            unsafe { *self.value.get() = Some(value) };
            self.state.store(2, Release);
        }
    }

    /// The value, if it was set.
    pub fn get(&self) -> Option<&T> {
        if self.state.load(core::sync::atomic::Ordering::Acquire) != 2 {
            return None;
        }
        // SAFETY: nobody writes once state is 2.
        unsafe { (*self.value.get()).as_ref() }
    }
}

/// Makes a panic a trap, for a plugin that is `#![no_std]`.
#[macro_export]
macro_rules! panic_traps {
    () => {
        #[cfg(target_arch = "wasm32")]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo) -> ! {
            core::arch::wasm32::unreachable()
        }
    };
}

#[allow(unused_imports)]
pub use crate::{panic_traps, plugin};

/// The gateway: what it offers beside the hooks. Each function that is called is a capability of its name.
#[path = "nexus_host.rs"]
pub mod host;

/// The guest's buffers.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest {
    use super::{Buffers, EDIT_CAP, IN_CAP, OUT_CAP};
    use core::cell::UnsafeCell;

    #[repr(C, align(16))]
    struct Static<T>(UnsafeCell<T>);

    // SAFETY: a guest has one thread.
    unsafe impl<T> Sync for Static<T> {}

    static IN: Static<[u8; IN_CAP]> = Static(UnsafeCell::new([0; IN_CAP]));
    static EDITS: Static<[u8; EDIT_CAP]> = Static(UnsafeCell::new([0; EDIT_CAP]));
    static OUT: Static<[u8; OUT_CAP]> = Static(UnsafeCell::new([0; OUT_CAP]));
    static TABLE: Static<[u32; 6]> = Static(UnsafeCell::new([0; 6]));

    pub fn table() -> *const u32 {
        let table = TABLE.0.get();
        let all = [IN.0.get() as u32, IN_CAP as u32, EDITS.0.get() as u32, EDIT_CAP as u32, OUT.0.get() as u32, OUT_CAP as u32];
        // SAFETY: a guest has one thread.
        unsafe { *table = all };
        table as *const u32
    }

    /// Runs f on the n bytes that the host has left in the in buffer. The host calls one hook at a time, and hooks do
    /// not call each other: nobody else has the buffers meanwhile.
    pub fn with(n: u32, f: impl FnOnce(Buffers) -> u64) -> u64 {
        if n as usize > IN_CAP {
            return 1 << 40; // the host broke its promise, and there is nothing to say it with
        }
        // SAFETY: see above; n is within the buffer.
        unsafe {
            f(Buffers {
                input: core::slice::from_raw_parts(IN.0.get() as *const u8, n as usize),
                edits: &mut *EDITS.0.get(),
                out: &mut *OUT.0.get(),
            })
        }
    }
}
