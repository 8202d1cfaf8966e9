//! A batch of regions as one WebAssembly module: it imports the machine's memory, the function table and what
//! regions call, and puts its functions into the table.

use super::emit::signature;
use super::memory::{guard_function, modify_function, store_function};
use super::record::{carry_function, spill_function};
use super::spans::load_function;
use super::{Layout, call};
use crate::fpu::x87::direct;
use wasm_encoder::{
    BranchHint, BranchHints, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection,
    Function, FunctionSection, ImportSection, MemoryType, Module, RefType, TableType, TypeSection, ValType,
};

/// Types by index.
mod types {
    pub const REGION: u32 = 0;
    pub const SPILL: u32 = 1;
    pub const LOAD: u32 = 2;
    pub const STORE: u32 = 3;
    pub const EXECUTE: u32 = 4;
    pub const CONDITION: u32 = 5;
    pub const FLAGS: u32 = 6;
    pub const CARRY: u32 = 7;
    pub const OPERAND: u32 = 8;
    pub const GUARD: u32 = 9;
}

/// All pages that a 32-bit memory has.
const MAX_PAGES: u64 = 65536;

/// The module of some regions' bodies, which go into the table from `slot` on.
#[must_use]
pub fn module(layout: &Layout, slot: u32, bodies: &[(Vec<u8>, Vec<BranchHint>)]) -> Vec<u8> {
    use ValType::{I32, I64};
    let mut types = TypeSection::new();
    let (parameters, results) = signature();
    types.ty().function(parameters, results);
    types.ty().function([I32; 4], []);
    types.ty().function([I32; 2], [I64]);
    types.ty().function([I32; 3], [I32]);
    types.ty().function([I32; 2], [I32]);
    types.ty().function([I32; 1], [I32]);
    types.ty().function([], [I32]);
    types.ty().function([I32; 4], [I32]);
    types.ty().function([I32, I64, I32], [I32]);
    types.ty().function([I64, I32, I32], [I32]);

    let mut imports = ImportSection::new();
    for (name, ty) in [
        ("load", types::LOAD),
        ("store", types::STORE),
        ("modify", types::LOAD),
        ("execute", types::EXECUTE),
        ("condition", types::CONDITION),
        ("flags", types::FLAGS),
    ] {
        imports.import("e", name, EntityType::Function(ty));
    }
    for (name, signature, _) in direct::functions() {
        let ty = match signature {
            direct::Signature::Registers => types::STORE,
            direct::Signature::Operand => types::OPERAND,
            direct::Signature::Value => types::LOAD,
        };
        imports.import("e", name, EntityType::Function(ty));
    }
    let maximum = layout.shared.then_some(MAX_PAGES);
    let memory = MemoryType { minimum: 1, maximum, memory64: false, shared: layout.shared, page_size_log2: None };
    imports.import("e", "memory", memory);
    let table = TableType { element_type: RefType::FUNCREF, table64: false, minimum: 1, maximum: None, shared: false };
    imports.import("e", "table", table);

    let mut functions = FunctionSection::new();
    functions.function(types::SPILL);
    functions.function(types::CARRY);
    functions.function(types::GUARD);
    functions.function(types::STORE);
    functions.function(types::LOAD);
    functions.function(types::LOAD);
    for _ in bodies {
        functions.function(types::REGION);
    }

    let mut elements = ElementSection::new();
    let indices: Vec<u32> = (call::REGIONS..).take(bodies.len()).collect();
    elements.active(None, &ConstExpr::i32_const(slot as i32), Elements::Functions(indices.into()));

    let mut hints = BranchHints::new();
    for ((_, branches), function) in bodies.iter().zip(call::REGIONS..) {
        if !branches.is_empty() {
            hints.function_hints(function, branches.iter().copied());
        }
    }

    let mut code = CodeSection::new();
    code.raw(&spill_function(layout));
    code.raw(&carry_function(layout));
    code.raw(&guard_function(layout));
    code.raw(&store_function(layout));
    code.raw(&modify_function(layout));
    code.raw(&load_function(layout));
    for (body, _) in bodies {
        code.raw(body);
    }

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&elements);
    module.section(&hints).section(&code);
    module.finish()
}

/// A module that exports `enter`: it calls the region in a slot of the table that it imports, with the slot in front of the
/// region's parameters. So regions can be in a table of their own and go with it.
#[must_use]
pub fn entry() -> Vec<u8> {
    let (parameters, results) = signature();
    let count = parameters.len() as u32;
    let with_slot = [&[ValType::I32][..], &parameters].concat();
    let mut types = TypeSection::new();
    types.ty().function(parameters, results.clone());
    types.ty().function(with_slot, results);
    let mut imports = ImportSection::new();
    let table = TableType { element_type: RefType::FUNCREF, table64: false, minimum: 1, maximum: None, shared: false };
    imports.import("e", "table", table);
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut exports = ExportSection::new();
    exports.export("enter", ExportKind::Func, 0);
    let mut body = Function::new([]);
    for parameter in 1..=count {
        body.instructions().local_get(parameter);
    }
    body.instructions().local_get(0).call_indirect(0, 0).end();
    let mut code = CodeSection::new();
    code.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
    module.finish()
}
