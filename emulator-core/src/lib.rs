//! The tab86 machine.
