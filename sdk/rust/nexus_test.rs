//! The SDK's own tests and fuzzing: `rustc --edition=2021 --test nexus_test.rs`, and run what comes of it.

mod nexus;

use nexus::host::{self, Fact, HttpError, HttpRequest};
use nexus::id;
use nexus::json::{Kind, Value, MAX_DEPTH};
use nexus::testing::*;
use nexus::{Place, Text, MAX_PIECE};

fn reads(text: &str) -> bool {
    Value::read(text.as_bytes()).is_some()
}

#[test]
fn json_is_read_strictly() {
    let good = ["{}", " [ ] ", "0", "-0", "-1.5e+3", "1E2", "true", "null", r#""\ud83d\ude00""#, r#"{"a":[1,{"b":"c"},null]}"#, "\"가\u{1f600}\""];
    let bad = [
        "", " ", "{", "}", "[1,]", r#"{"a":1,}"#, "{a:1}", r#"{"a"}"#, r#"{"a":}"#, "[,1]", "01", "-", "1.", ".5", "1e", "+1", "tru", "truex",
        "\"", r#""\x""#, r#""\u12g4""#, r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\u0041""#, "\"\n\"", "[1] 2", "[1}", r#"{"a":1]"#, "'a'", "[1 2]",
    ];
    good.iter().for_each(|s| assert!(reads(s), "refused {}", s));
    bad.iter().for_each(|s| assert!(!reads(s), "accepted {}", s));
    assert!(Value::read(b"\"\xff\"").is_none());
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(reads(&deep(MAX_DEPTH)) && !reads(&deep(MAX_DEPTH + 1)) && !reads(&"[".repeat(1 << 20)));
}

#[test]
fn json_is_looked_up() {
    let v = Value::read(r#" {"a" : [1, -9223372036854775808 ,9223372036854775808,1.0], "k\u00e9":"x\ty\ud83d\ude00","b":true}"#.as_bytes()).unwrap();
    let ints: Vec<_> = v.member("a").unwrap().items().map(|v| v.int()).collect();
    assert_eq!(ints, [Some(1), Some(i64::MIN), None, None]);
    let text = v.member("ké").unwrap().text().unwrap();
    assert_eq!((text.chars().collect::<String>().as_str(), text.len()), ("x\ty😀", 7));
    assert_eq!((text.copy_to(&mut [0; 7]), text.copy_to(&mut [0; 6])), (Some("x\ty😀"), None));
    assert_eq!(v.member("b").and_then(|v| v.bool()), Some(true));
    assert!(v.member("c").is_none() && v.items().next().is_none() && v.member("b").unwrap().members().next().is_none());
}

fn roll(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize % below
}

/// Writes a value that is JSON, and counts the values in it.
fn make(s: &mut u64, depth: usize, n: &mut usize) -> String {
    *n += 1;
    let leaves = ["1", "-0.5e9", "true", "null", r#""""#, r#""a\n\u00e9\ud83d\ude00""#, "\"가\"", r#""]},\"""#, " false "];
    match if depth == 0 { 0 } else { roll(s, 4) } {
        2 => format!("[{}]", (0..roll(s, 4)).map(|_| make(s, depth - 1, n)).collect::<Vec<_>>().join(",")),
        3 => format!("{{{}}}", (0..roll(s, 4)).map(|_| format!(r#""k\\" :{}"#, make(s, depth - 1, n))).collect::<Vec<_>>().join(" ,")),
        _ => leaves[roll(s, leaves.len())].to_string(),
    }
}

/// Writes again what a value means.
fn render(v: Value) -> String {
    match v.kind() {
        Kind::Object => format!("{{{}}}", v.members().map(|(k, v)| format!("{:?}:{}", k.chars().collect::<String>(), render(v))).collect::<Vec<_>>().join(",")),
        Kind::List => format!("[{}]", v.items().map(render).collect::<Vec<_>>().join(",")),
        Kind::Text => v.text().map(|t| format!("{:?}", t.chars().collect::<String>())).unwrap(),
        _ => v.raw().to_string(),
    }
}

fn count(v: Value) -> usize {
    1 + v.items().map(count).sum::<usize>() + v.members().map(|m| count(m.1)).sum::<usize>()
}

#[test]
fn fuzz_json() {
    let mut s = 88172645463325252;
    for _ in 0..20000 {
        let mut n = 0;
        let text = make(&mut s, 5, &mut n);
        let v = Value::read(text.as_bytes()).unwrap_or_else(|| panic!("refused {}", text));
        assert!(count(v) == n && reads(v.raw()) && !render(v).is_empty(), "{}", text);
        let mut damaged = text.into_bytes();
        for _ in 0..1 + roll(&mut s, 4) {
            let at = roll(&mut s, damaged.len());
            damaged[at] = b"\"\\{}[],:u0\x80 e-"[roll(&mut s, 14)];
        }
        damaged.truncate(damaged.len() - roll(&mut s, damaged.len()));
        if let Some(v) = Value::read(&damaged) {
            render(v); // whatever is read can be walked
        }
    }
}

#[test]
fn fuzz_records() {
    let mut s = 362436069362436069;
    let whole = Given::request().model("m").record(99, "name", "value").label("a", "b");
    for _ in 0..20000 {
        let mut g = whole.clone();
        for _ in 0..roll(&mut s, 4) {
            let v = s as u32;
            g = g.number(roll(&mut s, 60), v); // the head, its length too, and the first record
        }
        let _ = try_request(
            |r| {
                let all: usize = r.records().map(|x| 8 + x.1.len() + x.2.len()).sum();
                assert!(all <= 200);
                r.set_label("model", r.model());
                r.set_label("n", &format!("{:?} {}", r.max_tokens(), r.choices()));
            },
            &g,
        );
    }
}

fn star(t: &mut Text) {
    for (i, c) in t.bytes().iter().enumerate() {
        if *c == b'x' {
            t.replace(i, i + 1, "**", 1);
        }
    }
    if t.bytes().last() == Some(&b'y') && !t.is_final() {
        t.hold(1);
    }
}

#[test]
fn texts_are_tried_as_the_gateway_does() {
    let found = try_text(star, Trial::default(), &["ax", "by", "y", "x"]).unwrap();
    assert_eq!((found.text.as_str(), found.kinds.len(), found.held), ("a**byy**", 2, 1));
    assert_eq!(try_cuts(star, Trial::default(), "ax가byyx").as_deref(), Ok("a**가byy**"));
    assert!(try_cuts(|t| t.replace(0, 0, "|", 0), Trial::default(), "ab").is_err());
    let late = |t: &mut Text| t.hold(if t.is_final() || t.must_decide() { 0 } else { t.bytes().len() });
    assert_eq!(try_text(late, Trial { max_hold: 4, ..Trial::default() }, &["가나다", "라"]).unwrap().text, "가나다라");
}

#[test]
fn what_the_gateway_would_not_believe_is_an_error() {
    let tests: [(&str, fn(&mut Text)); 9] = [
        ("holds 1 bytes", |t| t.hold(1)),
        ("out of order", |t| {
            t.replace(3, 6, "", 0);
            t.replace(0, 3, "", 0)
        }),
        ("out of bounds", |t| t.replace(0, 100, "", 0)),
        ("cuts a character", |t| t.replace(0, 1, "", 0)),
        ("refused", |t| {
            t.replace(0, 3, "x", 0);
            t.refuse(0, "c", "")
        }),
        ("failed: why", |t| {
            t.fail("why");
            t.fail("not this")
        }),
        ("edit buffer", |t| (0..=MAX_PIECE / 4).for_each(|_| t.report(0, 0, 1))),
        ("out buffer", |t| (0..3).for_each(|i| t.replace(3 * i, 3 * i, &"x".repeat(100 << 10), 0))),
        ("out of bounds", |t| t.replace(usize::MAX, usize::MAX, "", 0)),
    ];
    for (want, f) in tests {
        let got = try_text(f, Trial::default(), &["가나다라"]);
        assert!(got.as_ref().err().map_or(false, |e| e.contains(want)), "got {:?}, want {}", got, want);
    }
}

#[test]
fn long_texts_come_in_pieces() {
    let largest = core::cell::Cell::new(0);
    let prompt = "가나".repeat(20000);
    let trial = Trial { context: 64, ..Trial::default() };
    let look = |t: &mut Text| largest.set(largest.get().max(t.window().0.len()));
    assert_eq!(try_text(look, trial, &[&prompt]).unwrap().text, prompt);
    assert!(largest.get() > MAX_PIECE - 4 && largest.get() <= MAX_PIECE);
}

#[test]
fn hooks_read_and_answer() {
    let given = Given::request().stream().number(8, 2).model("m").label("a", "1").record(id::IN_TOOL, "", "t");
    let said = try_request(
        |r| {
            assert!(r.stream() && r.choices() == 2 && r.max_tokens() == None && r.tools().eq(["t"]));
            r.set_label("seen", r.label("a").unwrap_or(""));
            r.set_system(Place::After, "s");
            r.answer("hi");
        },
        &given,
    );
    let said = said.unwrap();
    assert_eq!((said.verdict, said.label("seen"), said.value(id::OUT_SYSTEM, "after")), (Verdict::Answer, Some("1"), Some("s")));
    let said = try_request(|r| r.refuse(402, "unpaid", "Pay first."), &given).unwrap();
    for (seconds, want) in [(0, "0"), (7, "7"), (86399, "86399"), (90000, "86400")] {
        let said = try_request(|r| { r.refuse(429, "", ""); r.retry_after(seconds) }, &given).unwrap();
        assert_eq!(said.value(id::OUT_RETRY, ""), Some(want));
    }
    assert_eq!((said.verdict, said.value(id::OUT_STATUS, ""), said.value(id::OUT_CODE, "")), (Verdict::Refuse, Some("402"), Some("unpaid")));
    assert_eq!(try_request(|r| r.fail("why"), &given).unwrap_err(), "why");
    assert!(try_request(|r| r.set_label("a", &"x".repeat(300 << 10)), &given).is_err());

    let said = try_tool_call(|c| c.set_arguments(c.arguments().trim()), &Given::tool_call("f", " {} ")).unwrap();
    assert_eq!((said.verdict, said.value(id::OUT_ARGUMENTS, "")), (Verdict::Pass, Some("{}")));
    let said = try_tool_call(|c| c.drop_call(c.name()), &Given::tool_call("f", "{}")).unwrap();
    assert_eq!((said.verdict, said.value(id::OUT_TEXT, "")), (Verdict::Drop, Some("f")));
    assert_eq!(try_usage(|u| u.refuse(u.completion() as u16, "", ""), &Given::usage(1, 429)).unwrap().verdict, Verdict::Refuse);
    try_end(|e| assert!(e.is_complete() && e.status() == 200 && e.first_millis() == None && e.error() == None), &Given::end(200));
}

#[test]
fn the_host_is_stood_in_for() {
    let mut room = [0; 256];
    host::set_label("a", "b");
    assert_eq!((host::label("a", &mut room), host::label("c", &mut [0; 4]), host::label("a", &mut [])), (Some("b"), None, None));
    testing_host_facts();
    assert_eq!(host::known(Fact::Header, "x-ask", &mut room), Some("me"));
    assert_eq!((host::count_if("k", 2, 3, 1000), host::count_if("k", 2, 3, 1000), host::count("k")), (Some(2), None, 2));
    host::metric("m", 1.5);
    host::log("line");
    nexus::testing::host(|h| assert!(h.metrics["m"] == 1.5 && h.lines == ["line"]));
    let ask = HttpRequest { url: "https://x.test", headers: &[("a", "b")], ..HttpRequest::default() };
    assert_eq!(host::http(ask, &mut room).err(), Some(HttpError::NotAllowed));
    nexus::testing::host(|h| {
        h.http = Some(|mut asked| {
            assert!(asked.any(|r| r == (id::HTTP_HEADER, b"a", b"b")));
            (418, "hi".to_string())
        })
    });
    let got = host::http(ask, &mut room).unwrap();
    assert_eq!((got.status, got.body), (418, &b"hi"[..]));
    assert_eq!(host::http(ask, &mut [0; 40]).err(), Some(HttpError::NoAnswer));
}

fn testing_host_facts() {
    nexus::testing::host(|h| h.facts.insert((Fact::Header as u32, "x-ask".to_string()), "me".to_string()));
}

#[test]
fn kept_is_set_once() {
    static WORD: nexus::Kept<String> = nexus::Kept::new();
    assert!(WORD.get().is_none());
    let all: Vec<_> = (0..8).map(|i| std::thread::spawn(move || WORD.set(i.to_string()))).collect();
    all.into_iter().for_each(|t| t.join().unwrap());
    let first = WORD.get().cloned();
    WORD.set("other".to_string());
    assert!(first.is_some() && WORD.get() == first.as_ref());
}
