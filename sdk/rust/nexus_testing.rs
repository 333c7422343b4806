//! Runs a plugin's handlers as the gateway does, in native tests and without one.

extern crate std;

use super::records::{get32, ANSWER, DROP, REFUSE};
use super::text::FLAG_MUST_DECIDE;
use super::*;
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// The gateway as host functions see it. Each test's thread has its own.
#[derive(Default)]
pub struct Host {
    /// Written by `set_label`.
    pub labels: BTreeMap<String, String>,
    /// Of `known`, by the fact's number and name.
    pub facts: BTreeMap<(u32, String), String>,
    pub counters: BTreeMap<String, i64>,
    /// Token → value.
    pub vault: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, f64>,
    /// Logged.
    pub lines: Vec<String>,
    /// Chosen by `set_model`, `set_pool`.
    pub model: String,
    pub pool: String,
    /// Unix milliseconds.
    pub now: i64,
    /// Answers `http`: reads the records asked with, returns status and body; absent: not allowed.
    pub http: Option<fn(Records) -> (u16, String)>,
}

std::thread_local! {
    static HOST: core::cell::RefCell<Host> = core::cell::RefCell::new(Host::default());
}

/// Sets up or looks at this thread's host.
pub fn host<T>(f: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|h| f(&mut h.borrow_mut()))
}

/// What the manifest would say, and what text it is.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Bytes of what went before that are shown.
    pub context: usize,
    pub max_hold: usize,
    pub direction: Direction,
    pub role: Role,
    /// As the ABI numbers them.
    pub channel: u8,
    pub last_user: bool,
}

impl Default for Trial {
    fn default() -> Trial {
        Trial { context: 0, max_hold: 256, direction: Direction::ToModel, role: Role::None, channel: 0, last_user: false }
    }
}

/// What came out.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was let go.
    pub text: String,
    /// Of edits and reports, in order.
    pub kinds: Vec<u32>,
    /// The most bytes that were held back at once.
    pub held: usize,
}

/// Runs `f` on one text that comes in pieces. It fails where the gateway would not believe the plugin, and where the
/// plugin fails or refuses.
pub fn try_text(f: impl Fn(&mut Text), trial: Trial, pieces: &[&str]) -> Result<Found, String> {
    let mut r = Run { f, trial, input: String::new(), at: 0, found: Found::default(), edits: vec![0; EDIT_CAP], out: vec![0; OUT_CAP] };
    for (i, piece) in pieces.iter().enumerate() {
        r.feed(piece, i + 1 == pieces.len())?;
    }
    Ok(r.found)
}

/// Tries the law: wherever `text` is cut, in two or at every character, the same comes out; it is returned.
pub fn try_cuts(f: impl Fn(&mut Text), trial: Trial, text: &str) -> Result<String, String> {
    let whole = try_text(&f, trial, &[text])?.text;
    let mut cuts: Vec<Vec<&str>> = vec![text.split("").filter(|s| !s.is_empty()).collect()];
    cuts.extend((0..=text.len()).filter(|&i| text.is_char_boundary(i)).map(|i| vec![&text[..i], &text[i..]]));
    for pieces in cuts {
        let got = try_text(&f, trial, &pieces).map_err(|e| format!("{:?}: {}", pieces, e))?.text;
        if !text.is_empty() && got != whole {
            return Err(format!("{:?} becomes {:?}, but uncut it becomes {:?}", pieces, got, whole));
        }
    }
    Ok(whole)
}

struct Run<F> {
    f: F,
    trial: Trial,
    input: String, // all that came
    at: usize,     // bytes of it that are let go
    found: Found,
    edits: Vec<u8>,
    out: Vec<u8>,
}

impl<F: Fn(&mut Text)> Run<F> {
    fn start_of(&self, mut i: usize) -> usize {
        while !self.input.is_char_boundary(i) {
            i -= 1;
        }
        i
    }

    /// Adds a piece; what is longer than a handler is asked about at once goes in several.
    fn feed(&mut self, piece: &str, last: bool) -> Result<(), String> {
        self.input.push_str(piece);
        loop {
            let from = self.start_of(self.at.saturating_sub(self.trial.context));
            let more = self.input.len() - from > MAX_PIECE;
            let end = if more { self.start_of(from + MAX_PIECE) } else { self.input.len() };
            if end > self.at {
                self.ask(from, end, last && !more)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn flags(&self, from: usize, last: bool) -> u32 {
        let t = &self.trial;
        t.direction as u32 | (last as u32) << 1 | (t.last_user as u32) << 3 | (t.role as u32) << 4 | (t.channel as u32) << 8
            | ((self.at - from) as u32) << 16
    }

    /// Asks about the input from the first byte not let go to `end`, and lets go what is not held.
    fn ask(&mut self, from: usize, end: usize, last: bool) -> Result<(), String> {
        let flags = self.flags(from, last);
        let mut word = self.call(from, end, flags);
        if word >> 32 & 0xffff == 0 && word as u32 as usize > self.trial.max_hold {
            word = self.call(from, end, flags | FLAG_MUST_DECIDE);
        }
        let hold = word as u32 as usize;
        if word >> 40 & 0xff != 0 {
            return Err(format!("the plugin failed: {}", String::from_utf8_lossy(&self.out[..hold])));
        }
        if word >> 32 & 0xff != 0 {
            return Err("the plugin refused".to_string());
        }
        if hold > end - self.at || hold > self.trial.max_hold || last && hold > 0 {
            return Err(format!("the plugin holds {} bytes of {} (final: {})", hold, end - self.at, last));
        }
        if !self.input.is_char_boundary(end - hold) {
            return Err("what is held cuts a character".to_string());
        }
        self.release(end - hold, (word >> 48) as usize)?;
        self.found.held = self.found.held.max(hold);
        Ok(())
    }

    fn call(&mut self, from: usize, end: usize, flags: u32) -> u64 {
        let b = Buffers { input: self.input[from..end].as_bytes(), edits: &mut self.edits, out: &mut self.out };
        run_text(b, flags, &self.f)
    }

    /// Makes the edits on what is let go, the input up to `end`.
    fn release(&mut self, end: usize, edits: usize) -> Result<(), String> {
        let text = &self.input[self.at..];
        let (released, mut at, mut last) = (end - self.at, 0, 0);
        for e in self.edits.chunks_exact(EDIT_SIZE).take(edits) {
            let field = |i: usize| get32(e, 4 * i).unwrap_or(0);
            let (from, to, offset, length) = (field(0) as usize, field(1) as usize, field(2) as usize, field(3));
            if from < last || to < from || to > released {
                return Err(format!("edit [{}, {}) is out of order, out of bounds or held: {} bytes are let go", from, to, released));
            }
            if !text.is_char_boundary(from) || !text.is_char_boundary(to) {
                return Err(format!("edit [{}, {}) cuts a character", from, to));
            }
            last = to;
            if field(4) != 0 {
                self.found.kinds.push(field(4));
            }
            if length != REPORT_ONLY {
                let with = self.out.get(offset..offset + length as usize).and_then(|b| core::str::from_utf8(b).ok());
                self.found.text.push_str(&text[at..from]);
                self.found.text.push_str(with.ok_or("a replacement is no text")?);
                at = to;
            }
        }
        self.found.text.push_str(&text[at..released]);
        self.at = end;
        Ok(())
    }
}

/// What a handler is told: a head and records. Begin with `request`, `tool_call`, `usage` or `end`.
#[derive(Clone)]
pub struct Given(Vec<u8>);

impl Given {
    fn head(size: u32) -> Given {
        let mut b = vec![0; size as usize];
        b[..4].copy_from_slice(&size.to_le_bytes());
        Given(b)
    }

    /// What is known of a request; `max_tokens` is not given.
    pub fn request() -> Given {
        Given::head(44).long(32, u64::MAX)
    }

    pub fn tool_call(name: &str, arguments: &str) -> Given {
        Given::head(16).record(id::IN_TOOL_NAME, "", name).record(id::IN_ARGUMENTS, "", arguments)
    }

    pub fn usage(prompt: u64, completion: u64) -> Given {
        Given::head(40).long(8, prompt).long(16, completion)
    }

    /// A call that is over, well, without a byte of an answer.
    pub fn end(status: u32) -> Given {
        Given::head(64).number(4, 2).number(8, status).long(56, u64::MAX)
    }

    /// Sets a field of the head, at its place in the ABI.
    pub fn number(mut self, at: usize, v: u32) -> Given {
        self.0[at..at + 4].copy_from_slice(&v.to_le_bytes());
        self
    }

    pub fn long(mut self, at: usize, v: u64) -> Given {
        self.0[at..at + 8].copy_from_slice(&v.to_le_bytes());
        self
    }

    /// Adds a record: `.record(id::IN_HEADER, "x-ask", "me")`.
    pub fn record(mut self, id: u16, name: &str, value: &str) -> Given {
        self.0.extend_from_slice(&id.to_le_bytes());
        self.0.extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.0.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    pub fn stream(self) -> Given {
        self.number(4, 1)
    }

    pub fn model(self, model: &str) -> Given {
        self.record(id::IN_MODEL, "", model)
    }

    /// A label by an earlier plugin.
    pub fn label(self, name: &str, value: &str) -> Given {
        self.record(id::IN_LABEL, name, value)
    }
}

/// What a handler's answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pass,
    Refuse,
    Answer,
    Drop,
}

/// What a handler said.
#[derive(Clone, Debug)]
pub struct Said {
    pub verdict: Verdict,
    /// In order: id, name and value.
    pub records: Vec<(u16, String, String)>,
}

impl Said {
    /// The first record of that id and name.
    pub fn value(&self, id: u16, name: &str) -> Option<&str> {
        self.records.iter().find(|r| r.0 == id && r.1 == name).map(|r| r.2.as_str())
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.value(id::OUT_LABEL, name)
    }
}

fn said(given: &[u8], run: impl FnOnce(Buffers) -> u64) -> Result<Said, String> {
    let mut out = vec![0; OUT_CAP];
    let word = run(Buffers { input: given, edits: &mut [], out: &mut out });
    let b = &out[..word as u32 as usize];
    if word >> 40 & 0xff != 0 {
        return Err(String::from_utf8_lossy(b).to_string());
    }
    let verdict = match (word >> 32) as u8 {
        REFUSE => Verdict::Refuse,
        ANSWER => Verdict::Answer,
        DROP => Verdict::Drop,
        _ => Verdict::Pass,
    };
    let text = |b: &[u8]| String::from_utf8_lossy(b).to_string();
    Ok(Said { verdict, records: Records(b).map(|(id, name, value)| (id, text(name), text(value))).collect() })
}

/// Each of these runs a handler, and returns what it said or why it failed.
pub fn try_request(f: impl FnOnce(&mut Request), given: &Given) -> Result<Said, String> {
    said(&given.0, |b| run_request(b, f))
}

pub fn try_tool_call(f: impl FnOnce(&mut ToolCall), given: &Given) -> Result<Said, String> {
    said(&given.0, |b| run_tool_call(b, f))
}

pub fn try_usage(f: impl FnOnce(&mut Usage), given: &Given) -> Result<Said, String> {
    said(&given.0, |b| run_usage(b, f))
}

pub fn try_end(f: impl FnOnce(&End), given: &Given) {
    run_end(Buffers { input: &given.0, edits: &mut [], out: &mut [] }, f);
}

/// Returns why the configuration is refused, if it is.
pub fn try_configure<E: AsRef<str>>(f: impl FnOnce(json::Value) -> Result<(), E>, config: &str) -> Result<(), String> {
    said(config.as_bytes(), |b| run_configure(b, f)).map(|_| ())
}

/// The host functions, as nexus_host.rs calls them.
pub(super) mod raw {
    use super::*;

    // What the SDK passes are the parts of strings and slices.
    unsafe fn text(at: *const u8, len: usize) -> String {
        String::from_utf8_lossy(core::slice::from_raw_parts(at, len)).to_string()
    }

    unsafe fn fill(v: Option<&[u8]>, out: *mut u8, cap: usize) -> i32 {
        v.map_or(-1, |v| {
            core::ptr::copy_nonoverlapping(v.as_ptr(), out, v.len().min(cap));
            v.len() as i32
        })
    }

    pub unsafe fn log(at: *const u8, len: usize) {
        host(|h| h.lines.push(text(at, len)));
    }

    pub unsafe fn label_get(name: *const u8, name_len: usize, out: *mut u8, cap: usize) -> i32 {
        host(|h| fill(h.labels.get(&text(name, name_len)).map(String::as_bytes), out, cap))
    }

    pub unsafe fn label_set(name: *const u8, name_len: usize, value: *const u8, value_len: usize) {
        host(|h| h.labels.insert(text(name, name_len), text(value, value_len)));
    }

    pub unsafe fn call_get(id: u32, name: *const u8, name_len: usize, out: *mut u8, cap: usize) -> i32 {
        host(|h| fill(h.facts.get(&(id, text(name, name_len))).map(String::as_bytes), out, cap))
    }

    pub unsafe fn model_set(at: *const u8, len: usize) {
        host(|h| h.model = text(at, len));
    }

    pub unsafe fn pool_set(at: *const u8, len: usize) {
        host(|h| h.pool = text(at, len));
    }

    pub unsafe fn kv_get(key: *const u8, key_len: usize) -> i64 {
        host(|h| h.counters.get(&text(key, key_len)).copied().unwrap_or(0))
    }

    pub unsafe fn kv_incr_if(key: *const u8, key_len: usize, amount: i64, limit: i64, _ttl_ms: i64) -> i64 {
        host(|h| {
            let count = h.counters.entry(text(key, key_len)).or_insert(0);
            let next = count.saturating_add(amount).max(0);
            if next > limit {
                return -1;
            }
            *count = next;
            next
        })
    }

    pub unsafe fn vault_put(value: *const u8, value_len: usize, token: *const u8, token_len: usize) {
        host(|h| h.vault.insert(text(token, token_len), text(value, value_len)));
    }

    pub unsafe fn metric(name: *const u8, name_len: usize, amount: f64) {
        host(|h| *h.metrics.entry(text(name, name_len)).or_insert(0.0) += amount);
    }

    pub unsafe fn now_ms() -> i64 {
        host(|h| h.now)
    }

    /// Gives the same bytes every time.
    pub unsafe fn random(at: *mut u8, len: usize) {
        for i in 0..len {
            *at.add(i) = (i * 167 + 13) as u8;
        }
    }

    pub unsafe fn http_call(at: *const u8, len: usize, out: *mut u8, cap: usize) -> i32 {
        let answer = match host(|h| h.http) {
            Some(answer) => answer,
            None => return -2,
        };
        let (status, body) = answer(Records(core::slice::from_raw_parts(at, len)));
        let back = Given(Vec::new()).record(id::HTTP_STATUS, "", &status.to_string()).record(id::HTTP_BODY, "", &body);
        fill(Some(&back.0), out, cap)
    }
}
