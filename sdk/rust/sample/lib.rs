//! A plugin that masks configured words, in requests and replies alike: `{"words": ["secret"], "with": "***"}`.

use nexus::json::{Kind, Value};
use nexus::Text;

nexus::plugin! {
    configure: configure,
    on_text: on_text,
}

const LONGEST: usize = 64; // bytes of a word; what may become one is held, and the manifest's max_hold bounds that

/// The words to mask, and what stands in their place.
struct Words {
    words: Vec<String>,
    with: String,
}

static WORDS: nexus::Kept<Words> = nexus::Kept::new();

fn configure(config: Value) -> Result<(), String> {
    WORDS.set(Words::read(config)?);
    Ok(())
}

fn on_text(t: &mut Text) {
    match WORDS.get() {
        Some(words) => words.mask(t),
        None => t.fail("not configured"),
    }
}

impl Words {
    fn read(config: Value) -> Result<Words, String> {
        let mut w = Words { words: vec!["secret".to_string()], with: "***".to_string() };
        for (name, value) in config.members() {
            if name.is("words") && value.kind() == Kind::List {
                w.words = value.items().map(word).collect::<Result<_, _>>()?;
            } else if name.is("with") && value.kind() == Kind::Text {
                w.with = value.text().map_or(String::new(), |t| t.chars().collect());
            } else {
                return Err("there are the settings words, a list, and with, a text".to_string());
            }
        }
        Ok(w)
    }

    fn mask(&self, t: &mut Text) {
        let text = t.bytes();
        let mut i = 0;
        while i < text.len() {
            let (n, open) = self.at(&text[i..]);
            if open && !t.is_final() {
                return t.hold(text.len() - i);
            }
            if n > 0 {
                t.replace(i, i + n, &self.with, 1);
            }
            i += n.max(1);
        }
    }

    /// The length of the longest word that text begins with, 0 if none, and whether it is the beginning of a longer one.
    fn at(&self, text: &[u8]) -> (usize, bool) {
        let (mut n, mut open) = (0, false);
        for word in &self.words {
            if text.starts_with(word.as_bytes()) {
                n = n.max(word.len());
            } else if word.as_bytes().starts_with(text) {
                open = true;
            }
        }
        (n, open)
    }
}

fn word(v: Value) -> Result<String, String> {
    let word: String = v.text().ok_or("words must be texts")?.chars().collect();
    match word.len() {
        1..=LONGEST => Ok(word),
        _ => Err("words must have 1 to 64 bytes".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus::testing::{try_configure, try_cuts, try_text, Trial};

    fn words(config: &str) -> Words {
        Words::read(Value::read(config.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn masks_wherever_it_is_cut() {
        let tests = [
            (r#"{}"#, "a secret, secretsecret sec", "a ***, ****** sec"),
            (r#"{"words":["ab","abcd"],"with":"x"}"#, "abc abcd ab", "xc x x"),
            (r#"{"words":["비밀"],"with":""}"#, "내 비밀은 비", "내 은 비"),
            (r#"{"words":["a\"\u00e9"]}"#, "a\"é a\"", "*** a\""),
            (r#"{"words":[]}"#, "secret", "secret"),
            (r#"{}"#, "", ""),
        ];
        let trial = Trial { max_hold: 64, ..Trial::default() };
        for (config, text, want) in tests {
            let w = words(config);
            assert_eq!(try_cuts(|t| w.mask(t), trial, text).as_deref(), Ok(want), "{}", config);
        }
    }

    #[test]
    fn holds_what_may_become_a_word() {
        let w = words("{}");
        let found = try_text(|t| w.mask(t), Trial::default(), &["a sec", "ret and a secre", "t"]).unwrap();
        assert_eq!((found.text.as_str(), found.kinds, found.held), ("a *** and a ***", vec![1, 1], 5));
    }

    #[test]
    fn refuses_what_is_no_configuration() {
        for config in ["[]", r#"{"words":1}"#, r#"{"words":[""]}"#, r#"{"with":1}"#, r#"{"word":[]}"#, "{"] {
            assert!(try_configure(|v| Words::read(v).map(|_| ()), config).is_err(), "{}", config);
        }
    }
}
