//! tab86 for JavaScript.
use wasm_bindgen::prelude::*;

/// A probe that shows the pipeline works, until the machine is behind it: a counter in linear memory.
#[wasm_bindgen]
pub struct Probe {
    data: Vec<u32>,
}

#[wasm_bindgen]
impl Probe {
    /// Allocates `length` words.
    #[wasm_bindgen(constructor)]
    pub fn new(length: usize) -> Probe {
        console_error_panic_hook::set_once();
        Probe { data: vec![0; length] }
    }

    /// Adds one to every word and returns their sum.
    pub fn step(&mut self) -> u32 {
        self.data.iter_mut().for_each(|x| *x += 1);
        self.data.iter().sum()
    }

    /// The address of the first word in linear memory.
    pub fn address(&self) -> *const u32 {
        self.data.as_ptr()
    }
}
