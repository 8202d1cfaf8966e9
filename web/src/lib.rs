//! tab86 for JavaScript.
