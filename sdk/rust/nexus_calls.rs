//! What the hooks beside `on_text` are asked about: requests, tool calls, usage and ends.

use super::records::{get64, Facts, Said, ANSWER, DROP};
use super::{id, Buffers};

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
