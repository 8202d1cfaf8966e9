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
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
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
    for (name, at, len) in fields() {
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

/// Fields of the FXSAVE area that a line may name.
#[must_use]
pub fn fields() -> Vec<(String, usize, usize)> {
    let mut list =
        vec![("fcw".into(), 0, 2), ("fsw".into(), 2, 2), ("ftw".into(), 4, 1), ("mxcsr".into(), FX_MXCSR, 4)];
    list.extend((0..8).map(|n| (format!("st{n}"), FX_ST + 16 * n, 10)));
    list.extend((0..8).map(|n| (format!("xmm{n}"), FX_XMM + 16 * n, 16)));
    list
}

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
    let fields = fields();
    for item in line.split_whitespace() {
        let wrong = || item.to_owned();
        let (key, value) = item.split_once('=').ok_or_else(wrong)?;
        let number = || u64::from_str_radix(value, 16).map_err(|_| wrong());
        if let Some(n) = NAMES.iter().position(|name| *name == key) {
            v.gpr[n] = number()? as u32;
        } else if let Some((_, at, len)) = fields.iter().find(|(name, _, _)| name == key) {
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
