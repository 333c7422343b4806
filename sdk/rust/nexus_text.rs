//! Texts on their way: what `on_text` is asked about.

use super::records::{Said, PASS};
use super::{Buffers, EDIT_SIZE, REPORT_ONLY};

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

pub(super) const FLAG_FINAL: u32 = 1 << 1;
pub(super) const FLAG_MUST_DECIDE: u32 = 1 << 2;

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
