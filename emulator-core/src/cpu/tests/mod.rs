//! Behaviour of whole instructions and of what happens between them, by the sections of the manual (SDM vol. 3).

mod access;
mod alignment;
mod beside;
mod breakpoints;
mod models;
mod paging;
mod partial;
mod shadows;
mod strings;
