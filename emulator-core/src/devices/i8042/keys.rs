//! The keys of a PC keyboard and their scan codes: the one table from which names, scan sets and the US layout
//! come. Spec: IBM AT and PS/2 keyboard references; W3C "UI Events KeyboardEvent code Values" for the names.

use serde::{Deserialize, Serialize};

/// How the 8042 turns scan set 2 into set 1; break codes are the make code with bit 7 set.
#[rustfmt::skip]
const TRANSLATION: [u8; 0x88] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54, 0x85, 0x86, 0x87,
];

/// A byte of scan set 2 as scan set 1 has it.
#[must_use]
pub(super) fn translate(byte: u8) -> u8 {
    TRANSLATION.get(usize::from(byte)).copied().unwrap_or(byte)
}

/// Where a key sits in the scan sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScanCode {
    /// Preceded by E0h in sets 1 and 2.
    pub extended: bool,
    /// Code in set 2; set 1 has its translation.
    pub set2: u8,
    /// Code in set 3, 0 if there is none.
    pub set3: u8,
}

macro_rules! keys {
    ($($key:ident, $extended:literal, $set2:literal, $set3:literal;)*) => {
        /// A key by its place, named as `KeyboardEvent.code` names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are those of KeyboardEvent.code")]
        pub enum Key { $($key,)* }

        impl Key {
            /// Every key.
            pub const ALL: &'static [Self] = &[$(Self::$key,)*];

            /// The key's `KeyboardEvent.code`.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$key => stringify!($key),)* }
            }

            pub(super) fn scan_code(self) -> ScanCode {
                match self {
                    $(Self::$key => ScanCode { extended: $extended, set2: $set2, set3: $set3 },)*
                }
            }
        }
    };
}

// Key, E0h prefix, set 2, set 3. Pause and PrintScreen send sequences that the keyboard builds itself.
keys! {
    Escape, false, 0x76, 0x08;
    F1, false, 0x05, 0x07;
    F2, false, 0x06, 0x0f;
    F3, false, 0x04, 0x17;
    F4, false, 0x0c, 0x1f;
    F5, false, 0x03, 0x27;
    F6, false, 0x0b, 0x2f;
    F7, false, 0x83, 0x37;
    F8, false, 0x0a, 0x3f;
    F9, false, 0x01, 0x47;
    F10, false, 0x09, 0x4f;
    F11, false, 0x78, 0x56;
    F12, false, 0x07, 0x5e;
    F13, false, 0x08, 0;
    F14, false, 0x10, 0;
    F15, false, 0x18, 0;
    F16, false, 0x20, 0;
    F17, false, 0x28, 0;
    F18, false, 0x30, 0;
    F19, false, 0x38, 0;
    F20, false, 0x40, 0;
    F21, false, 0x48, 0;
    F22, false, 0x50, 0;
    F23, false, 0x57, 0;
    F24, false, 0x5f, 0;
    PrintScreen, true, 0x7c, 0x57;
    ScrollLock, false, 0x7e, 0x5f;
    Pause, true, 0x77, 0x62;
    Backquote, false, 0x0e, 0x0e;
    Digit1, false, 0x16, 0x16;
    Digit2, false, 0x1e, 0x1e;
    Digit3, false, 0x26, 0x26;
    Digit4, false, 0x25, 0x25;
    Digit5, false, 0x2e, 0x2e;
    Digit6, false, 0x36, 0x36;
    Digit7, false, 0x3d, 0x3d;
    Digit8, false, 0x3e, 0x3e;
    Digit9, false, 0x46, 0x46;
    Digit0, false, 0x45, 0x45;
    Minus, false, 0x4e, 0x4e;
    Equal, false, 0x55, 0x55;
    Backspace, false, 0x66, 0x66;
    Tab, false, 0x0d, 0x0d;
    KeyQ, false, 0x15, 0x15;
    KeyW, false, 0x1d, 0x1d;
    KeyE, false, 0x24, 0x24;
    KeyR, false, 0x2d, 0x2d;
    KeyT, false, 0x2c, 0x2c;
    KeyY, false, 0x35, 0x35;
    KeyU, false, 0x3c, 0x3c;
    KeyI, false, 0x43, 0x43;
    KeyO, false, 0x44, 0x44;
    KeyP, false, 0x4d, 0x4d;
    BracketLeft, false, 0x54, 0x54;
    BracketRight, false, 0x5b, 0x5b;
    Backslash, false, 0x5d, 0x5c;
    CapsLock, false, 0x58, 0x14;
    KeyA, false, 0x1c, 0x1c;
    KeyS, false, 0x1b, 0x1b;
    KeyD, false, 0x23, 0x23;
    KeyF, false, 0x2b, 0x2b;
    KeyG, false, 0x34, 0x34;
    KeyH, false, 0x33, 0x33;
    KeyJ, false, 0x3b, 0x3b;
    KeyK, false, 0x42, 0x42;
    KeyL, false, 0x4b, 0x4b;
    Semicolon, false, 0x4c, 0x4c;
    Quote, false, 0x52, 0x52;
    Enter, false, 0x5a, 0x5a;
    ShiftLeft, false, 0x12, 0x12;
    IntlBackslash, false, 0x61, 0x13;
    KeyZ, false, 0x1a, 0x1a;
    KeyX, false, 0x22, 0x22;
    KeyC, false, 0x21, 0x21;
    KeyV, false, 0x2a, 0x2a;
    KeyB, false, 0x32, 0x32;
    KeyN, false, 0x31, 0x31;
    KeyM, false, 0x3a, 0x3a;
    Comma, false, 0x41, 0x41;
    Period, false, 0x49, 0x49;
    Slash, false, 0x4a, 0x4a;
    ShiftRight, false, 0x59, 0x59;
    ControlLeft, false, 0x14, 0x11;
    MetaLeft, true, 0x1f, 0x8b;
    AltLeft, false, 0x11, 0x19;
    Space, false, 0x29, 0x29;
    AltRight, true, 0x11, 0x39;
    MetaRight, true, 0x27, 0x8c;
    ContextMenu, true, 0x2f, 0x8d;
    ControlRight, true, 0x14, 0x58;
    Insert, true, 0x70, 0x67;
    Home, true, 0x6c, 0x6e;
    PageUp, true, 0x7d, 0x6f;
    Delete, true, 0x71, 0x64;
    End, true, 0x69, 0x65;
    PageDown, true, 0x7a, 0x6d;
    ArrowUp, true, 0x75, 0x63;
    ArrowLeft, true, 0x6b, 0x61;
    ArrowDown, true, 0x72, 0x60;
    ArrowRight, true, 0x74, 0x6a;
    NumLock, false, 0x77, 0x76;
    NumpadDivide, true, 0x4a, 0x77;
    NumpadMultiply, false, 0x7c, 0x7e;
    NumpadSubtract, false, 0x7b, 0x84;
    NumpadAdd, false, 0x79, 0x7c;
    NumpadEnter, true, 0x5a, 0x79;
    NumpadDecimal, false, 0x71, 0x71;
    Numpad0, false, 0x70, 0x70;
    Numpad1, false, 0x69, 0x69;
    Numpad2, false, 0x72, 0x72;
    Numpad3, false, 0x7a, 0x7a;
    Numpad4, false, 0x6b, 0x6b;
    Numpad5, false, 0x73, 0x73;
    Numpad6, false, 0x74, 0x74;
    Numpad7, false, 0x6c, 0x6c;
    Numpad8, false, 0x75, 0x75;
    Numpad9, false, 0x7d, 0x7d;
    NumpadEqual, false, 0x0f, 0;
    NumpadComma, false, 0x6d, 0;
    IntlRo, false, 0x51, 0x51;
    IntlYen, false, 0x6a, 0x5d;
    KanaMode, false, 0x13, 0x87;
    Convert, false, 0x64, 0x86;
    NonConvert, false, 0x67, 0x85;
    Lang1, false, 0x39, 0;
    Lang2, false, 0x19, 0;
    Lang3, false, 0x63, 0;
    Lang4, false, 0x62, 0;
    Power, true, 0x37, 0;
    Sleep, true, 0x3f, 0;
    WakeUp, true, 0x5e, 0;
    MediaTrackNext, true, 0x4d, 0;
    MediaTrackPrevious, true, 0x15, 0;
    MediaStop, true, 0x3b, 0;
    MediaPlayPause, true, 0x34, 0;
    AudioVolumeMute, true, 0x23, 0;
    AudioVolumeUp, true, 0x32, 0;
    AudioVolumeDown, true, 0x21, 0;
    LaunchMail, true, 0x48, 0;
    MediaSelect, true, 0x50, 0;
    LaunchApp1, true, 0x40, 0;
    LaunchApp2, true, 0x2b, 0;
    BrowserSearch, true, 0x10, 0;
    BrowserHome, true, 0x3a, 0;
    BrowserBack, true, 0x38, 0;
    BrowserForward, true, 0x30, 0;
    BrowserStop, true, 0x28, 0;
    BrowserRefresh, true, 0x20, 0;
    BrowserFavorites, true, 0x18, 0;
    Undo, true, 0x3d, 0;
    Paste, true, 0x46, 0;
    Cut, true, 0x43, 0;
    Copy, true, 0x44, 0;
    Eject, true, 0x1a, 0;
    Help, true, 0x05, 0;
}

impl Key {
    /// The key that `KeyboardEvent.code` names, also by names that some browsers use instead.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let standard = match code {
            "OSLeft" => "MetaLeft",
            "OSRight" => "MetaRight",
            "VolumeMute" => "AudioVolumeMute",
            "VolumeUp" => "AudioVolumeUp",
            "VolumeDown" => "AudioVolumeDown",
            // The Zenkaku/Hankaku key shares its scan code with F24.
            "Lang5" => "F24",
            other => other,
        };
        Self::ALL.iter().copied().find(|key| key.code() == standard)
    }
}

/// The key and whether Shift is held that type `c` on a US keyboard.
#[must_use]
pub fn us_layout(c: char) -> Option<(Key, bool)> {
    const PAIRS: [(Key, char, char); 21] = [
        (Key::Backquote, '`', '~'),
        (Key::Digit1, '1', '!'),
        (Key::Digit2, '2', '@'),
        (Key::Digit3, '3', '#'),
        (Key::Digit4, '4', '$'),
        (Key::Digit5, '5', '%'),
        (Key::Digit6, '6', '^'),
        (Key::Digit7, '7', '&'),
        (Key::Digit8, '8', '*'),
        (Key::Digit9, '9', '('),
        (Key::Digit0, '0', ')'),
        (Key::Minus, '-', '_'),
        (Key::Equal, '=', '+'),
        (Key::BracketLeft, '[', '{'),
        (Key::BracketRight, ']', '}'),
        (Key::Backslash, '\\', '|'),
        (Key::Semicolon, ';', ':'),
        (Key::Quote, '\'', '"'),
        (Key::Comma, ',', '<'),
        (Key::Period, '.', '>'),
        (Key::Slash, '/', '?'),
    ];
    let plain = |key| Some((key, false));
    match c {
        '\n' | '\r' => return plain(Key::Enter),
        '\t' => return plain(Key::Tab),
        ' ' => return plain(Key::Space),
        '\x08' | '\x7f' => return plain(Key::Backspace),
        '\x1b' => return plain(Key::Escape),
        _ => {}
    }
    if c.is_ascii_alphabetic() {
        let mut code = *b"Key?";
        code[3] = c.to_ascii_uppercase() as u8;
        let key = std::str::from_utf8(&code).ok().and_then(Key::from_code)?;
        return Some((key, c.is_ascii_uppercase()));
    }
    PAIRS.iter().find(|(_, plain, shifted)| c == *plain || c == *shifted).map(|&(key, plain, _)| (key, c != plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_own_code_in_sets_1_and_2() {
        let mut set1: Vec<_> =
            Key::ALL.iter().map(|k| (k.scan_code().extended, translate(k.scan_code().set2))).collect();
        assert!(set1.iter().all(|&(_, code)| code != 0 && code < 0x80));
        set1.sort_unstable();
        set1.dedup();
        assert_eq!(set1.len(), Key::ALL.len());
    }

    #[test]
    fn names_round_trip_and_aliases_resolve() {
        for &key in Key::ALL {
            assert_eq!(Key::from_code(key.code()), Some(key));
        }
        assert_eq!(Key::from_code("OSLeft"), Some(Key::MetaLeft));
        assert_eq!(Key::from_code("Unidentified"), None);
    }

    #[test]
    fn set_1_codes_are_the_well_known_ones() {
        for (key, extended, code) in [
            (Key::Escape, false, 0x01),
            (Key::KeyA, false, 0x1e),
            (Key::Enter, false, 0x1c),
            (Key::F12, false, 0x58),
            (Key::F24, false, 0x76),
            (Key::ArrowUp, true, 0x48),
            (Key::ControlRight, true, 0x1d),
            (Key::MetaLeft, true, 0x5b),
            (Key::NumpadEnter, true, 0x1c),
            (Key::IntlBackslash, false, 0x56),
            (Key::IntlYen, false, 0x7d),
            (Key::IntlRo, false, 0x73),
            (Key::KanaMode, false, 0x70),
            (Key::Convert, false, 0x79),
            (Key::NonConvert, false, 0x7b),
            (Key::Lang1, false, 0x72),
            (Key::MediaPlayPause, true, 0x22),
            (Key::AudioVolumeUp, true, 0x30),
            (Key::WakeUp, true, 0x63),
            (Key::Help, true, 0x3b),
        ] {
            let scan = key.scan_code();
            assert_eq!((scan.extended, translate(scan.set2)), (extended, code), "{key:?}");
        }
    }

    #[test]
    fn us_layout_types_all_of_ascii() {
        for c in (' '..='~').chain(['\n', '\t']) {
            assert!(us_layout(c).is_some(), "{c:?}");
        }
        assert_eq!(us_layout('Q'), Some((Key::KeyQ, true)));
        assert_eq!(us_layout('|'), Some((Key::Backslash, true)));
        assert_eq!(us_layout('\''), Some((Key::Quote, false)));
        assert_eq!(us_layout('é'), None);
    }
}
