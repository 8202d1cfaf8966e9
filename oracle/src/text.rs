//! A vector in one line, and back: what a failure prints and `--reproduce` takes.
//!
//! `code=d9fe at=20000100 eax=1 … fl=202 sel=2b,23,2b,2b,0,67 fcw=37f … st0=… xmm0=… fill=SEED [30000010]=0102…`;
//! what is left out has its value from [`Vector::default`].

use crate::ours::word;
use crate::vector::{FX_MXCSR, FX_ST, FX_XMM, Vector};
use std::fmt::Write as _;

/// General registers by number.
pub(crate) const NAMES: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];

/// Bytes as hexadecimal digits, in memory order.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for b in bytes {
        text.extend([b >> 4, b & 15].map(|n| char::from(b"0123456789abcdef"[usize::from(n)])));
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(byte).collect()
}

/// The line of a vector.
#[must_use]
pub fn print(v: &Vector) -> String {
    let plain = Vector::default();
    let mut text = format!("code={} at={:x}", hex(&v.code), v.at);
    if v.count != 1 {
        let _ = write!(text, " count={}", v.count);
    }
    for (n, name) in NAMES.iter().enumerate() {
        if v.gpr[n] != 0 {
            let _ = write!(text, " {name}={:x}", v.gpr[n]);
        }
    }
    if v.flags != plain.flags {
        let _ = write!(text, " fl={:x}", v.flags);
    }
    if v.sel != plain.sel {
        let list: Vec<String> = v.sel.iter().map(|s| format!("{s:x}")).collect();
        let _ = write!(text, " sel={}", list.join(","));
    }
    for (name, at, len) in FIELDS {
        if v.fx[at..at + len] != plain.fx[at..at + len] {
            let _ = write!(text, " {name}={}", hex(&v.fx[at..at + len]));
        }
    }
    if v.fill != 0 {
        let _ = write!(text, " fill={:x}", v.fill);
    }
    for (at, bytes) in &v.memory {
        let _ = write!(text, " [{at:x}]={}", hex(bytes));
    }
    text
}

/// Fields of the FXSAVE area that a line may name: name, offset, length.
pub const FIELDS: [(&str, usize, usize); 20] = [
    ("fcw", 0, 2),
    ("fsw", 2, 2),
    ("ftw", 4, 1),
    ("mxcsr", FX_MXCSR, 4),
    ("st0", FX_ST, 10),
    ("st1", FX_ST + 16, 10),
    ("st2", FX_ST + 32, 10),
    ("st3", FX_ST + 48, 10),
    ("st4", FX_ST + 64, 10),
    ("st5", FX_ST + 80, 10),
    ("st6", FX_ST + 96, 10),
    ("st7", FX_ST + 112, 10),
    ("xmm0", FX_XMM, 16),
    ("xmm1", FX_XMM + 16, 16),
    ("xmm2", FX_XMM + 32, 16),
    ("xmm3", FX_XMM + 48, 16),
    ("xmm4", FX_XMM + 64, 16),
    ("xmm5", FX_XMM + 80, 16),
    ("xmm6", FX_XMM + 96, 16),
    ("xmm7", FX_XMM + 112, 16),
];

/// A vector from its line.
///
/// # Errors
/// The word that makes no sense.
pub fn parse(line: &str) -> Result<Vector, String> {
    parse_onto(line, &Vector::default())
}

/// The same, on top of another vector.
///
/// # Errors
/// The word that makes no sense.
pub fn parse_onto(line: &str, first: &Vector) -> Result<Vector, String> {
    let mut v = first.clone();
    for item in line.split_whitespace() {
        let wrong = || item.to_owned();
        let (key, value) = item.split_once('=').ok_or_else(wrong)?;
        let number = || u64::from_str_radix(value, 16).map_err(|_| wrong());
        if let Some(n) = NAMES.iter().position(|name| *name == key) {
            v.gpr[n] = number()? as u32;
        } else if let Some((_, at, len)) = FIELDS.iter().find(|(name, _, _)| *name == key) {
            let bytes = unhex(value).filter(|b| b.len() == *len).ok_or_else(wrong)?;
            v.fx[*at..at + len].copy_from_slice(&bytes);
        } else if let Some(at) = key.strip_prefix('[').and_then(|k| k.strip_suffix(']')) {
            let at = u32::from_str_radix(at, 16).map_err(|_| wrong())?;
            v.memory.push((at, unhex(value).ok_or_else(wrong)?));
        } else {
            match key {
                "code" => v.code = unhex(value).ok_or_else(wrong)?,
                "at" => v.at = number()? as u32,
                "count" => v.count = value.parse().map_err(|_| wrong())?,
                "fl" => v.flags = number()? as u32,
                "fill" => v.fill = number()?,
                "sel" => {
                    let list: Vec<u16> = value
                        .split(',')
                        .map(|s| u16::from_str_radix(s, 16))
                        .collect::<Result<_, _>>()
                        .map_err(|_| wrong())?;
                    v.sel = list.try_into().map_err(|_| wrong())?;
                }
                _ => return Err(wrong()),
            }
        }
    }
    if v.code.is_empty() || word(&v.fx, FX_MXCSR) & !0xffff != 0 {
        return Err("no code, or a value that no register holds".into());
    }
    Ok(v)
}
