//! stub
use super::f80::{Env, F80};
pub const LOG2_10: u8 = 0; pub const LOG2_E: u8 = 0; pub const PI: u8 = 0; pub const LOG10_2: u8 = 0; pub const LN_2: u8 = 0;
pub fn constant(_: &u8, _: &mut Env) -> F80 { F80::ZERO }
pub fn f2xm1(_: &mut Env, a: F80) -> F80 { a }
pub fn fyl2x(_: &mut Env, a: F80, _b: F80) -> F80 { a }
pub fn fyl2xp1(_: &mut Env, a: F80, _b: F80) -> F80 { a }
pub fn fpatan(_: &mut Env, a: F80, _b: F80) -> F80 { a }
pub fn fsin(_: &mut Env, a: F80) -> Option<F80> { Some(a) }
pub fn fcos(_: &mut Env, a: F80) -> Option<F80> { Some(a) }
pub fn fsincos(_: &mut Env, a: F80) -> Option<(F80,F80)> { Some((a,a)) }
pub fn fptan(_: &mut Env, a: F80) -> Option<(F80,F80)> { Some((a,a)) }
