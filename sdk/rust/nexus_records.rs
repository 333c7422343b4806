//! The ABI's records, as the host writes and reads them.

use super::id;

pub(super) const PASS: u8 = 0;
pub(super) const REFUSE: u8 = 1;
pub(super) const ANSWER: u8 = 2;
pub(super) const DROP: u8 = 3;

pub(super) fn get16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes([*b.get(at)?, *b.get(at + 1)?]))
}

pub(super) fn get32(b: &[u8], at: usize) -> Option<u32> {
    let b = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

pub(super) fn get64(b: &[u8], at: usize) -> Option<u64> {
    Some(get32(b, at)? as u64 | (get32(b, at + 4)? as u64) << 32)
}

/// The records of `b`, as `(id, name, value)`.
#[derive(Clone)]
pub struct Records<'a>(pub(super) &'a [u8]);

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
pub struct Said<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) used: usize,
    pub(super) verdict: u8,
    pub(super) failed: bool, // the out buffer holds the reason
}

impl<'a> Said<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Said<'a> {
        Said { out, used: 0, verdict: PASS, failed: false }
    }

    /// Copies `b` behind what is there and returns where it stands.
    pub(super) fn copy(&mut self, b: &[u8]) -> Option<usize> {
        let at = self.used;
        self.out.get_mut(at..at.checked_add(b.len())?)?.copy_from_slice(b);
        self.used += b.len();
        Some(at)
    }

    pub(super) fn add(&mut self, id: u16, name: &[u8], value: &[u8]) {
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
    pub(super) fn fail(&mut self, reason: &str) {
        if !self.failed {
            self.used = reason.len().min(self.out.len());
            self.out[..self.used].copy_from_slice(&reason.as_bytes()[..self.used]);
            self.failed = true;
        }
    }

    pub(super) fn refuse(&mut self, status: u16, code: &str, message: &str) {
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

    pub(super) fn retry_after(&mut self, seconds: u32) {
        let (mut digits, mut left, mut at) = ([0; 5], seconds.min(86400), 5);
        while at == 5 || left > 0 {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.add(id::OUT_RETRY, b"", &digits[at..]);
    }

    pub(super) fn result(&self) -> u64 {
        match self.failed {
            true => 1 << 40 | self.used as u64,
            false => (self.verdict as u64) << 32 | self.used as u64,
        }
    }
}

/// What the host tells of a call: a head of numbers and the records behind it.
#[derive(Clone)]
pub struct Facts<'a> {
    pub(super) head: &'a [u8],
    pub(super) records: Records<'a>,
}

impl<'a> Facts<'a> {
    pub(super) fn read(b: &'a [u8]) -> Option<Facts<'a>> {
        let head = get32(b, 0)? as usize;
        if head < 4 || head > b.len() {
            return None;
        }
        Some(Facts { head: &b[..head], records: Records(&b[head..]) })
    }

    /// A field of the head; one that a host with a shorter head does not write is 0.
    pub(super) fn number(&self, at: usize) -> u32 {
        get32(self.head, at).unwrap_or(0)
    }

    pub(super) fn long(&self, at: usize) -> u64 {
        get64(self.head, at).unwrap_or(0)
    }

    /// The first record of that id and name.
    pub fn value(&self, id: u16, name: &str) -> Option<&'a [u8]> {
        let mut all = self.records.clone();
        all.find(|r| r.0 == id && r.1 == name.as_bytes()).map(|r| r.2)
    }

    pub(super) fn text(&self, id: u16, name: &str) -> Option<&'a str> {
        core::str::from_utf8(self.value(id, name)?).ok()
    }

    pub(super) fn text_or_empty(&self, id: u16) -> &'a str {
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
