//! Text and the terminal's keys as key strokes: what `--type` understands, and what the interactive mode sends.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use emulator_core::devices::i8042::{Key, us_layout};
use thiserror::Error;

/// A key with the modifiers held around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stroke {
    /// Held while the key is pressed, in this order.
    pub modifiers: Vec<Key>,
    /// The key.
    pub key: Key,
}

impl Stroke {
    /// A key alone.
    pub fn plain(key: Key) -> Self {
        Self { modifiers: Vec::new(), key }
    }

    /// The key (with Shift if need be) that types `c` on a US keyboard.
    pub fn char(c: char) -> Option<Self> {
        let (key, shift) = us_layout(c)?;
        Some(Self { modifiers: if shift { vec![Key::ShiftLeft] } else { Vec::new() }, key })
    }

    /// What a key event of the terminal presses; `None` for keys that a PC hasn't got.
    pub fn terminal(event: &KeyEvent) -> Option<Self> {
        let plain = |key| Some(Self::plain(key));
        let mut stroke = match event.code {
            KeyCode::Char(c) => Self::char(c),
            KeyCode::F(n) => plain(Key::from_code(&format!("F{n}"))?),
            KeyCode::Enter => plain(Key::Enter),
            KeyCode::Esc => plain(Key::Escape),
            KeyCode::Backspace => plain(Key::Backspace),
            KeyCode::Tab => plain(Key::Tab),
            KeyCode::BackTab => Some(Self { modifiers: vec![Key::ShiftLeft], key: Key::Tab }),
            KeyCode::Up => plain(Key::ArrowUp),
            KeyCode::Down => plain(Key::ArrowDown),
            KeyCode::Left => plain(Key::ArrowLeft),
            KeyCode::Right => plain(Key::ArrowRight),
            KeyCode::Home => plain(Key::Home),
            KeyCode::End => plain(Key::End),
            KeyCode::PageUp => plain(Key::PageUp),
            KeyCode::PageDown => plain(Key::PageDown),
            KeyCode::Insert => plain(Key::Insert),
            KeyCode::Delete => plain(Key::Delete),
            KeyCode::Menu => plain(Key::ContextMenu),
            KeyCode::Pause => plain(Key::Pause),
            KeyCode::PrintScreen => plain(Key::PrintScreen),
            _ => None,
        }?;
        let held = [
            (KeyModifiers::CONTROL, Key::ControlLeft),
            (KeyModifiers::ALT, Key::AltLeft),
            (KeyModifiers::SHIFT, Key::ShiftLeft),
        ];
        for (modifier, key) in held {
            // A character says itself whether it needs Shift.
            let said = key == Key::ShiftLeft && matches!(event.code, KeyCode::Char(_));
            if event.modifiers.contains(modifier) && !said && !stroke.modifiers.contains(&key) {
                stroke.modifiers.push(key);
            }
        }
        Some(stroke)
    }

    /// Every press (`true`) and release in order.
    pub fn events(&self) -> impl Iterator<Item = (Key, bool)> + '_ {
        let down = self.modifiers.iter().map(|&k| (k, true));
        let up = self.modifiers.iter().rev().map(|&k| (k, false));
        down.chain([(self.key, true), (self.key, false)]).chain(up)
    }
}

/// Text that cannot be typed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A name in angle brackets.
    #[error("there is no key <{0}>; write \\< for the character")]
    Name(String),
    /// A character.
    #[error("no key of a US keyboard types {0:?}")]
    Char(char),
    /// A backslash and something.
    #[error("unknown escape \\{0}; write \\\\ for a backslash")]
    Escape(String),
}

/// Reads text with `\n`-like escapes and `<Key>` names.
///
/// # Errors
/// The first part that is no key.
pub fn parse(text: &str) -> Result<Vec<Stroke>, KeyError> {
    let mut strokes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == '<'
            && let Some(end) = rest.find('>')
            && is_name(&rest[..end])
        {
            strokes.push(named(&rest[..end])?);
            rest = &rest[end + 1..];
            continue;
        }
        let typed = if c == '\\' {
            let escape = rest.chars().next();
            rest = rest.get(escape.map_or(0, char::len_utf8)..).unwrap_or_default();
            match escape {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('e') => '\x1b',
                Some('b') => '\x08',
                Some(c @ ('\\' | '<')) => c,
                other => return Err(KeyError::Escape(other.map(String::from).unwrap_or_default())),
            }
        } else {
            c
        };
        strokes.push(Stroke::char(typed).ok_or(KeyError::Char(typed))?);
    }
    Ok(strokes)
}

/// Whether the text between angle brackets is meant as a key (`a < b > c` is not).
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains(char::is_whitespace)
}

fn named(name: &str) -> Result<Stroke, KeyError> {
    let unknown = || KeyError::Name(name.to_owned());
    // The last dash may be the key itself: <Ctrl-->.
    let split = name.strip_suffix('-').map_or_else(|| name.rfind('-'), |head| head.rfind('-'));
    let (modifiers, last) = split.map_or(("", name), |at| (&name[..at], &name[at + 1..]));
    let mut stroke = key_name(last).ok_or_else(unknown)?;
    let held = modifiers.split('-').filter(|m| !m.is_empty());
    let held = held.map(modifier).collect::<Option<Vec<Key>>>().ok_or_else(unknown)?;
    stroke.modifiers.splice(0..0, held);
    Ok(stroke)
}

fn modifier(name: &str) -> Option<Key> {
    Some(match name.to_ascii_lowercase().as_str() {
        "ctrl" | "control" | "c" => Key::ControlLeft,
        "alt" | "a" => Key::AltLeft,
        "shift" | "s" => Key::ShiftLeft,
        "altgr" => Key::AltRight,
        "meta" | "win" => Key::MetaLeft,
        _ => return None,
    })
}

fn key_name(name: &str) -> Option<Stroke> {
    let mut chars = name.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return Stroke::char(c);
    }
    let short = match name.to_ascii_lowercase().as_str() {
        "enter" | "return" | "cr" => Some(Key::Enter),
        "esc" | "escape" => Some(Key::Escape),
        "bs" | "backspace" => Some(Key::Backspace),
        "del" | "delete" => Some(Key::Delete),
        "ins" | "insert" => Some(Key::Insert),
        "up" => Some(Key::ArrowUp),
        "down" => Some(Key::ArrowDown),
        "left" => Some(Key::ArrowLeft),
        "right" => Some(Key::ArrowRight),
        "pgup" | "pageup" => Some(Key::PageUp),
        "pgdn" | "pagedown" => Some(Key::PageDown),
        lower => modifier(lower).or_else(|| Key::ALL.iter().copied().find(|k| k.code().eq_ignore_ascii_case(name))),
    };
    short.map(Stroke::plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<(Key, bool)> {
        parse(text).unwrap().iter().flat_map(|s| s.events().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn text_escapes_and_names() {
        assert_eq!(keys("a"), [(Key::KeyA, true), (Key::KeyA, false)]);
        assert_eq!(keys("A"), [(Key::ShiftLeft, true), (Key::KeyA, true), (Key::KeyA, false), (Key::ShiftLeft, false)]);
        for (text, key) in [
            ("\\n", Key::Enter),
            ("\\e", Key::Escape),
            ("<Enter>", Key::Enter),
            ("<F12>", Key::F12),
            ("<esc>", Key::Escape),
            ("<Up>", Key::ArrowUp),
            ("<NumpadAdd>", Key::NumpadAdd),
            ("\\\\", Key::Backslash),
        ] {
            assert_eq!(parse(text).unwrap(), [Stroke::plain(key)], "{text}");
        }
    }

    #[test]
    fn chords_hold_their_modifiers() {
        let chord = &parse("<Ctrl-Alt-Delete>").unwrap()[0];
        assert_eq!((&chord.modifiers[..], chord.key), (&[Key::ControlLeft, Key::AltLeft][..], Key::Delete));
        assert_eq!(parse("<Ctrl-->").unwrap()[0].key, Key::Minus);
        assert_eq!(parse("<C-b>").unwrap()[0], Stroke { modifiers: vec![Key::ControlLeft], key: Key::KeyB });
    }

    #[test]
    fn the_terminals_keys() {
        let stroke = |code, modifiers| Stroke::terminal(&KeyEvent::new(code, modifiers));
        let with = |modifiers: &[Key], key| Some(Stroke { modifiers: modifiers.to_vec(), key });
        assert_eq!(stroke(KeyCode::Char('A'), KeyModifiers::SHIFT), with(&[Key::ShiftLeft], Key::KeyA));
        assert_eq!(stroke(KeyCode::Char('c'), KeyModifiers::CONTROL), with(&[Key::ControlLeft], Key::KeyC));
        assert_eq!(stroke(KeyCode::F(2), KeyModifiers::ALT), with(&[Key::AltLeft], Key::F2));
        assert_eq!(stroke(KeyCode::BackTab, KeyModifiers::SHIFT), with(&[Key::ShiftLeft], Key::Tab));
        assert_eq!(stroke(KeyCode::Up, KeyModifiers::NONE), with(&[], Key::ArrowUp));
        assert_eq!(stroke(KeyCode::Null, KeyModifiers::NONE), None);
    }

    #[test]
    fn angle_brackets_that_name_nothing() {
        assert_eq!(parse("a < b > c").unwrap().len(), 9);
        assert_eq!(parse("x<").unwrap().len(), 2);
        assert_eq!(parse("\\<F1>").unwrap().len(), 4);
        assert_eq!(parse("<F99>"), Err(KeyError::Name("F99".into())));
        assert_eq!(parse("é"), Err(KeyError::Char('é')));
        assert_eq!(parse("\\q"), Err(KeyError::Escape("q".into())));
    }
}
