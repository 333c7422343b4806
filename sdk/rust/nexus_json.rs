//! A small strict JSON reader, for configurations and tool calls' arguments: the text is checked once as a whole
//! (RFC 8259, UTF-8, at most [`MAX_DEPTH`] deep), and what is looked up in it afterwards points into it.

/// How deep lists and objects may lie in each other.
pub const MAX_DEPTH: usize = 32;

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Object,
    List,
    Text,
    Number,
    Bool,
    Null,
}

/// One value of a JSON text that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a str);

/// A text of a JSON text, between its quotes as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(&'a str);

impl<'a> Value<'a> {
    /// Reads a whole text; `None` when it is not JSON.
    pub fn read(text: &'a [u8]) -> Option<Value<'a>> {
        let text = core::str::from_utf8(text).ok()?;
        let mut r = Reader { text, at: 0 };
        r.space();
        let start = r.at;
        r.value(MAX_DEPTH)?;
        let end = r.at;
        r.space();
        match r.at == text.len() {
            true => Some(Value(&text[start..end])),
            false => None,
        }
    }

    pub fn kind(&self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::Text,
            Some(b't') | Some(b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    pub fn is_object(&self) -> bool {
        self.kind() == Kind::Object
    }

    /// The value as it is written.
    pub fn raw(&self) -> &'a str {
        self.0
    }

    /// The members of an object, in order; of anything else, none.
    pub fn members(&self) -> Members<'a> {
        Members(self.inside(Kind::Object))
    }

    /// The items of a list, in order; of anything else, none.
    pub fn items(&self) -> Items<'a> {
        Items(self.inside(Kind::List))
    }

    fn inside(&self, kind: Kind) -> Reader<'a> {
        match self.kind() == kind {
            true => Reader { text: &self.0[1..self.0.len() - 1], at: 0 },
            false => Reader { text: "", at: 0 },
        }
    }

    /// The first member of that name.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        self.members().find(|m| m.0.is(name)).map(|m| m.1)
    }

    pub fn text(&self) -> Option<Text<'a>> {
        match self.kind() {
            Kind::Text => Some(Text(&self.0[1..self.0.len() - 1])),
            _ => None,
        }
    }

    pub fn bool(&self) -> Option<bool> {
        match self.kind() {
            Kind::Bool => Some(self.0 == "true"),
            _ => None,
        }
    }

    /// A whole number that fits.
    pub fn int(&self) -> Option<i64> {
        match self.kind() {
            Kind::Number => self.0.parse().ok(),
            _ => None,
        }
    }
}

impl<'a> Text<'a> {
    /// The characters that it means: `.collect::<String>()` where there is an allocator.
    pub fn chars(&self) -> Chars<'a> {
        Chars(Reader { text: self.0, at: 0 })
    }

    pub fn is(&self, s: &str) -> bool {
        self.chars().eq(s.chars())
    }

    /// How many bytes it has in UTF-8.
    pub fn len(&self) -> usize {
        self.chars().map(char::len_utf8).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes it to `room`; `None` when it is longer.
    pub fn copy_to<'b>(&self, room: &'b mut [u8]) -> Option<&'b str> {
        let mut n = 0;
        for c in self.chars() {
            let size = c.len_utf8();
            c.encode_utf8(room.get_mut(n..n + size)?);
            n += size;
        }
        core::str::from_utf8(&room[..n]).ok()
    }
}

/// Iterates over the members of an object.
#[derive(Clone)]
pub struct Members<'a>(Reader<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Text<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.entry()?.text()?;
        self.0.space();
        self.0.take(b':')?;
        Some((name, self.0.entry()?))
    }
}

/// Iterates over the items of a list.
#[derive(Clone)]
pub struct Items<'a>(Reader<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.entry()
    }
}

/// Iterates over the characters of a text.
#[derive(Clone)]
pub struct Chars<'a>(Reader<'a>);

impl<'a> Iterator for Chars<'a> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        self.0.character()
    }
}

#[derive(Clone)]
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, want: u8) -> Option<()> {
        if self.peek()? != want {
            return None;
        }
        self.at += 1;
        Some(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next value of a container whose inside has been checked, after a comma if there is one.
    fn entry(&mut self) -> Option<Value<'a>> {
        self.space();
        if self.take(b',').is_some() {
            self.space();
        }
        let start = self.at;
        self.value(MAX_DEPTH)?;
        Some(Value(&self.text[start..self.at]))
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.container(b'}', depth),
            b'[' => self.container(b']', depth),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    fn container(&mut self, close: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.at += 1;
        self.space();
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            self.space();
            if close == b'}' {
                self.string()?;
                self.space();
                self.take(b':')?;
                self.space();
            }
            self.value(depth)?;
            self.space();
            if self.take(b',').is_none() {
                return self.take(close);
            }
        }
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match self.at > start {
            true => Some(()),
            false => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        while self.take(b'"').is_none() {
            self.character()?;
        }
        Some(())
    }

    /// The next character of a text; `None` when it is none, or there is none.
    fn character(&mut self) -> Option<char> {
        if self.take(b'\\').is_some() {
            return self.escape();
        }
        let c = self.text.get(self.at..)?.chars().next().filter(|&c| c >= ' ')?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn escape(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => c as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    /// What follows `\u`, with the second half of a pair.
    fn unicode(&mut self) -> Option<char> {
        let v = self.four()?;
        if !(0xd800..0xdc00).contains(&v) {
            return char::from_u32(v); // none for a second half that comes alone
        }
        self.literal("\\u")?;
        match self.four()? {
            low @ 0xdc00..=0xdfff => char::from_u32(0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00)),
            _ => None,
        }
    }

    fn four(&mut self) -> Option<u32> {
        let mut v = 0;
        for _ in 0..4 {
            v = v << 4 | (self.peek()? as char).to_digit(16)?;
            self.at += 1;
        }
        Some(v)
    }
}
