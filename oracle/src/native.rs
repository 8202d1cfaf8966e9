//! The host's processor: runs a vector in compatibility mode and says what became of it.
//!
//! [`Host`] maps the address space of [`crate::layout`], makes the LDT, and enters a vector through a far jump. Behind
//! the vector's code another far jump leads back to 64-bit code; a fault leads to a signal handler that copies the
//! context. One `Host` is all that a process can have, because the addresses are fixed.
#![allow(unsafe_code, reason = "maps memory at fixed addresses, enters code in another mode, and catches its signals")]

use crate::layout::{CODE, CODE_LEN, DATA, DATA_LEN, DATA_RW, EXIT, FILLER, LDT, LONG_CS, USER_CS};
use crate::vector::{Exception, FX_LEN, Outcome, Vector};
use std::arch::{asm, global_asm};
use std::mem::offset_of;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What the routines in assembly and the signal handler share with Rust.
#[repr(C, align(64))]
struct Area {
    fx_in: [u8; 512],
    fx_out: [u8; 512],
    /// Stack pointer of the host while a vector runs; 0 otherwise.
    rsp: u64,
    fs_base: u64,
    flags_in: u64,
    flags_out: u64,
    /// RIP, CS, RFLAGS, RSP and SS for IRET: how a vector with TF set is entered.
    frame: [u64; 5],
    /// Where the exit page goes on.
    back: u64,
    entry: u32,
    entry_cs: u32,
    gpr_in: [u32; 8],
    gpr_out: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    sel_in: [u32; 6],
    sel_out: [u32; 6],
    mxcsr: u32,
    raised: u32,
    /// TF was set behind the vector, and trapped at the exit page.
    stepped: u32,
    eip: u32,
    vector: u32,
    code: u32,
    address: u32,
}

static AREA: AtomicPtr<Area> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" {
    fn oracle_enter(area: *mut Area);
    static oracle_exit: u8;
    static oracle_exit_area: u8;
    static oracle_exit_end: u8;
    fn oracle_back();
    fn oracle_raised();
}

// `oracle_enter(rdi = area)`: loads the vector's state and jumps to it.
// `oracle_exit`: copied to the exit page; stores the state and goes to `oracle_back`, which is in the program.
// `oracle_raised`: where the signal handler returns to, with r15 = area.
global_asm!(
    ".p2align 4",
    "oracle_enter:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov r15, rdi",
    "mov [r15 + {rsp}], rsp",
    "fxrstor [r15 + {fx_in}]",
    "mov eax, [r15 + {sel_in}]", "mov es, eax",
    "mov eax, [r15 + {sel_in} + 12]", "mov ds, eax",
    "mov eax, [r15 + {sel_in} + 16]", "mov fs, eax",
    "mov eax, [r15 + {sel_in} + 20]", "mov gs, eax",
    "test dword ptr [r15 + {flags_in}], 0x100",
    "jnz 2f",
    "mov eax, [r15 + {sel_in} + 8]",
    "push qword ptr [r15 + {flags_in}]",
    "popfq",
    "mov ss, eax",
    "mov esp, [r15 + {gpr_in} + 16]",
    "mov eax, [r15 + {gpr_in}]",
    "mov ecx, [r15 + {gpr_in} + 4]",
    "mov edx, [r15 + {gpr_in} + 8]",
    "mov ebx, [r15 + {gpr_in} + 12]",
    "mov ebp, [r15 + {gpr_in} + 20]",
    "mov esi, [r15 + {gpr_in} + 24]",
    "mov edi, [r15 + {gpr_in} + 28]",
    // jmp far m16:32 [r15 + entry]
    ".byte 0x41, 0xff, 0xaf", ".long {entry}",
    // With TF set the first instruction that ends is the vector's.
    "2:",
    "lea rsp, [r15 + {frame}]",
    "mov eax, [r15 + {gpr_in}]",
    "mov ecx, [r15 + {gpr_in} + 4]",
    "mov edx, [r15 + {gpr_in} + 8]",
    "mov ebx, [r15 + {gpr_in} + 12]",
    "mov ebp, [r15 + {gpr_in} + 20]",
    "mov esi, [r15 + {gpr_in} + 24]",
    "mov edi, [r15 + {gpr_in} + 28]",
    "iretq",
    ".p2align 4",
    "oracle_exit:",
    "mov r15, [rip + oracle_exit_area]",
    "mov [r15 + {gpr_out}], eax",
    "mov [r15 + {gpr_out} + 4], ecx",
    "mov [r15 + {gpr_out} + 8], edx",
    "mov [r15 + {gpr_out} + 12], ebx",
    "mov [r15 + {gpr_out} + 16], esp",
    "mov [r15 + {gpr_out} + 20], ebp",
    "mov [r15 + {gpr_out} + 24], esi",
    "mov [r15 + {gpr_out} + 28], edi",
    "mov rsp, [r15 + {rsp}]",
    "mov eax, ss", "mov [r15 + {sel_out} + 8], eax",
    "mov eax, 0x2b", "mov ss, eax",
    "pushfq", "pop qword ptr [r15 + {flags_out}]",
    "jmp [r15 + {back}]",
    ".p2align 3",
    "oracle_exit_area:", ".quad 0",
    "oracle_exit_end:",
    "oracle_back:",
    "mov eax, es", "mov [r15 + {sel_out}], eax",
    "mov eax, ds", "mov [r15 + {sel_out} + 12], eax",
    "mov eax, fs", "mov [r15 + {sel_out} + 16], eax",
    "mov eax, gs", "mov [r15 + {sel_out} + 20], eax",
    "fxsave [r15 + {fx_out}]",
    "oracle_raised:",
    "push 0x202", "popfq",
    "xor eax, eax", "mov fs, eax", "mov gs, eax",
    "mov rax, [r15 + {fs_base}]", "wrfsbase rax",
    "fninit", "ldmxcsr [r15 + {mxcsr}]",
    "mov rsp, [r15 + {rsp}]",
    "mov qword ptr [r15 + {rsp}], 0",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    rsp = const offset_of!(Area, rsp),
    fx_in = const offset_of!(Area, fx_in),
    fx_out = const offset_of!(Area, fx_out),
    sel_in = const offset_of!(Area, sel_in),
    sel_out = const offset_of!(Area, sel_out),
    flags_in = const offset_of!(Area, flags_in),
    flags_out = const offset_of!(Area, flags_out),
    gpr_in = const offset_of!(Area, gpr_in),
    gpr_out = const offset_of!(Area, gpr_out),
    entry = const offset_of!(Area, entry),
    back = const offset_of!(Area, back),
    frame = const offset_of!(Area, frame),
    fs_base = const offset_of!(Area, fs_base),
    mxcsr = const offset_of!(Area, mxcsr),
);

const TF: i64 = 0x100;

/// A vector's signal: copies its context and goes to `oracle_raised`. A signal of the program itself ends it.
extern "C" fn on_signal(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let area = AREA.load(Ordering::Relaxed);
    // AC is still what the vector made it.
    // SAFETY: clears a flag of this thread that nothing here depends on.
    unsafe { asm!("pushfq", "and dword ptr [rsp], 0xfffbffff", "popfq") };
    // SAFETY: the kernel passes a valid context; `area` is the one that `Host::new` leaked, and nobody else uses it
    // while a vector runs. FS's base is restored before anything that could need it.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let registers = &mut context.uc_mcontext.gregs;
        let selectors = registers[libc::REG_CSGSFS as usize] as u64;
        let cs = selectors as u16;
        let (trap, rip) = (registers[libc::REG_TRAPNO as usize], registers[libc::REG_RIP as usize]);
        if !area.is_null() && (*area).rsp != 0 && cs == LONG_CS && trap == 1 && rip == i64::from(EXIT) {
            (*area).stepped = 1;
            registers[libc::REG_EFL as usize] &= !TF;
            return;
        }
        if area.is_null() || (*area).rsp == 0 || cs == LONG_CS {
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        asm!("wrfsbase {}", in(reg) (*area).fs_base);
        let area = &mut *area;
        const ORDER: [i32; 8] = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
        ];
        for (out, n) in area.gpr_out.iter_mut().zip(ORDER) {
            *out = registers[n as usize] as u32;
        }
        area.flags_out = registers[libc::REG_EFL as usize] as u64;
        area.eip = registers[libc::REG_RIP as usize] as u32;
        area.vector = registers[libc::REG_TRAPNO as usize] as u32;
        area.code = registers[libc::REG_ERR as usize] as u32;
        area.address = registers[libc::REG_CR2 as usize] as u32;
        let (es, ds, fs, gs): (u32, u32, u32, u32);
        asm!("mov {0:e}, es", "mov {1:e}, ds", "mov {2:e}, fs", "mov {3:e}, gs",
            out(reg) es, out(reg) ds, out(reg) fs, out(reg) gs, options(nomem, nostack));
        area.sel_out = [es, cs.into(), (selectors >> 48) as u16 as u32, ds, fs, gs];
        let fx = context.uc_mcontext.fpregs.cast::<u8>();
        std::ptr::copy_nonoverlapping(fx, area.fx_out.as_mut_ptr(), area.fx_out.len());
        area.raised = 1;
        registers[libc::REG_RIP as usize] = oracle_raised as *const () as usize as i64;
        registers[libc::REG_RSP as usize] = area.rsp as i64;
        registers[libc::REG_R15 as usize] = std::ptr::from_mut(area) as usize as i64;
        registers[libc::REG_EFL as usize] = 0x202;
        registers[libc::REG_CSGSFS as usize] =
            (selectors & 0xffff_ffff_0000 & !0xffff | u64::from(LONG_CS) | 0x2b << 48) as i64;
    }
}

/// Why the host cannot run vectors.
#[derive(Debug)]
pub struct Unusable(pub String);

/// The process's address space, ready for vectors.
#[derive(Debug)]
pub struct Host {
    area: *mut Area,
    /// The code pages, where they can be written.
    writable_code: *mut u8,
    data: [u8; DATA_LEN as usize],
}

fn last_error(what: &str) -> Unusable {
    Unusable(format!("{what}: {}", std::io::Error::last_os_error()))
}

/// Whether this host can run vectors.
///
/// # Errors
/// What kernel or processor lack.
pub fn usable() -> Result<(), Unusable> {
    // Bit 1: WRFSBASE may be used.
    // SAFETY: getauxval has no preconditions.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
        return Err(Unusable("the kernel does not allow WRFSBASE".into()));
    }
    if !std::arch::is_x86_feature_detected!("sse4.2") || !std::arch::is_x86_feature_detected!("popcnt") {
        return Err(Unusable("the processor lacks SSE4.2 or POPCNT".into()));
    }
    Ok(())
}

impl Host {
    /// Maps memory, makes the LDT and takes over the signals of faults.
    ///
    /// # Errors
    /// When the kernel refuses, or the processor lacks something.
    pub fn new() -> Result<Host, Unusable> {
        usable()?;
        let area = Box::leak(Box::new(Area {
            fx_in: [0; 512],
            fx_out: [0; 512],
            rsp: 0,
            fs_base: 0,
            flags_in: 0,
            flags_out: 0,
            frame: [0; 5],
            back: oracle_back as *const () as usize as u64,
            entry: 0,
            entry_cs: 0,
            gpr_in: [0; 8],
            gpr_out: [0; 8],
            sel_in: [0; 6],
            sel_out: [0; 6],
            mxcsr: 0x1f80,
            raised: 0,
            stepped: 0,
            eip: 0,
            vector: 0,
            code: 0,
            address: 0,
        }));
        // SAFETY: reads the FS base of this thread, allowed by the check above.
        unsafe { asm!("rdfsbase {}", out(reg) area.fs_base, options(nomem, nostack)) };
        if AREA.compare_exchange(std::ptr::null_mut(), area, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Err(Unusable("a process has one host".into()));
        }
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let writable_code = map_code()?;
        map(EXIT, 0x1000, all)?;
        map(DATA, DATA_LEN, libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: all three were just mapped; the exit routine is shorter than its page and position-independent.
        unsafe {
            std::ptr::write_bytes(writable_code, FILLER, CODE_LEN as usize);
            std::ptr::write_bytes(EXIT as usize as *mut u8, FILLER, 0x1000);
            std::ptr::write_bytes(DATA as usize as *mut u8, 0, DATA_LEN as usize);
            let start = &raw const oracle_exit;
            let length = (&raw const oracle_exit_end).addr() - start.addr();
            std::ptr::copy_nonoverlapping(start, EXIT as usize as *mut u8, length);
            let literal = EXIT as usize + (&raw const oracle_exit_area).addr() - start.addr();
            *(literal as *mut u64) = std::ptr::from_mut(area) as usize as u64;
            protect(EXIT, 0x1000, libc::PROT_READ | libc::PROT_EXEC)?;
            protect(DATA + DATA_RW, DATA_LEN - DATA_RW, libc::PROT_READ)?;
        }
        for (index, entry) in LDT.iter().enumerate() {
            if let Some(entry) = entry {
                let contents = u32::from(entry.kind >> 1 & 3);
                let flags = u32::from(entry.big)
                    | contents << 1
                    | u32::from(entry.kind & 1 == 0) << 3
                    | u32::from(entry.pages) << 4
                    | u32::from(!entry.present) << 5;
                let request = [index as u32, entry.base, entry.limit, flags];
                // SAFETY: modify_ldt reads the 16 bytes of a `struct user_desc`.
                if unsafe { libc::syscall(libc::SYS_modify_ldt, 0x11, request.as_ptr(), 16usize) } != 0 {
                    // Its errors come back as 32-bit numbers, not in errno.
                    return Err(Unusable(format!("cannot make LDT entry {index}")));
                }
            }
        }
        let stack = Box::leak(vec![0u8; 1 << 17].into_boxed_slice());
        // SAFETY: the stack is never freed; the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let failed = libc::sigaltstack(&alternate, std::ptr::null_mut()) != 0
                || [libc::SIGSEGV, libc::SIGFPE, libc::SIGILL, libc::SIGBUS, libc::SIGTRAP]
                    .into_iter()
                    .any(|signal| libc::sigaction(signal, &action, std::ptr::null_mut()) != 0);
            if failed {
                return Err(last_error("cannot catch signals"));
            }
        }
        Ok(Host { area, writable_code, data: [0; DATA_LEN as usize] })
    }

    /// The exit page, which the core must have too.
    #[must_use]
    pub fn exit_page(&self) -> Vec<u8> {
        // SAFETY: mapped, readable and constant since `new`.
        unsafe { std::slice::from_raw_parts(EXIT as usize as *const u8, 0x1000) }.to_vec()
    }

    /// Runs a vector on data pages that hold `data`. The pages afterwards are in [`data`](Self::data).
    pub fn run(&mut self, vector: &Vector, data: &[u8; DATA_LEN as usize]) -> Outcome {
        let code = vector.code_bytes();
        // SAFETY: `area` is leaked and only used here and, while the vector runs, by the handler. The copies stay
        // inside the mapped pages (`code_bytes` ends with them, and only the writable data pages are written).
        // `oracle_enter` keeps the callee-saved registers and comes back through the exit page or the handler,
        // whatever the vector does: it cannot reach memory of the program, which lies above 4 GiB, and the generator
        // emits no system call.
        unsafe {
            let at = self.writable_code.add((vector.at - CODE) as usize);
            std::ptr::copy_nonoverlapping(code.as_ptr(), at, code.len());
            if self.data[DATA_RW as usize..] != data[DATA_RW as usize..] {
                protect(DATA, DATA_LEN, libc::PROT_READ | libc::PROT_WRITE).expect("own pages");
                std::ptr::copy_nonoverlapping(data.as_ptr(), DATA as usize as *mut u8, DATA_LEN as usize);
                protect(DATA + DATA_RW, DATA_LEN - DATA_RW, libc::PROT_READ).expect("own pages");
            } else {
                std::ptr::copy_nonoverlapping(data.as_ptr(), DATA as usize as *mut u8, DATA_RW as usize);
            }
            let area = &mut *self.area;
            area.fx_in[..FX_LEN].copy_from_slice(&vector.fx);
            area.flags_in = vector.flags.into();
            area.entry = vector.eip();
            area.entry_cs = vector.sel[1].into();
            area.gpr_in = vector.gpr;
            area.sel_in = vector.sel.map(u32::from);
            (area.raised, area.stepped) = (0, 0);
            area.frame = [
                vector.eip().into(),
                vector.sel[1].into(),
                vector.flags.into(),
                vector.gpr[4].into(),
                vector.sel[2].into(),
            ];
            oracle_enter(area);
            std::ptr::copy_nonoverlapping(DATA as usize as *const u8, self.data.as_mut_ptr(), DATA_LEN as usize);
            std::ptr::write_bytes(at, FILLER, code.len());
            let mut outcome = Outcome {
                eip: vector.end(),
                gpr: area.gpr_out,
                flags: area.flags_out as u32 | area.stepped * TF as u32,
                sel: area.sel_out.map(|s| s as u16),
                fx: [0; FX_LEN],
                exception: None,
            };
            outcome.fx.copy_from_slice(&area.fx_out[..FX_LEN]);
            if area.raised == 0 {
                outcome.sel[1] = vector.sel[1];
                return outcome;
            }
            outcome.eip = area.eip;
            let address = if area.vector == 14 { area.address } else { 0 };
            outcome.exception = Some(Exception { vector: area.vector as u8, code: area.code, address });
            outcome
        }
    }

    /// The data pages as the last vector left them.
    #[must_use]
    pub fn data(&self) -> &[u8; DATA_LEN as usize] {
        &self.data
    }
}

fn map(at: u32, length: u32, protection: i32) -> Result<(), Unusable> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
    // SAFETY: a new mapping, refused where something is mapped already.
    let got = unsafe { libc::mmap(at as usize as *mut _, length as usize, protection, flags, -1, 0) };
    if got.addr() == at as usize { Ok(()) } else { Err(last_error(&format!("cannot map {at:#x}"))) }
}

/// Maps the code pages twice: at [`CODE`] to read and execute, and elsewhere to write.
fn map_code() -> Result<*mut u8, Unusable> {
    let length = CODE_LEN as usize;
    // SAFETY: new mappings of a new file in memory, the first refused where something is mapped already.
    unsafe {
        let file = libc::memfd_create(c"oracle".as_ptr(), 0);
        if file < 0 || libc::ftruncate(file, length as i64) != 0 {
            return Err(last_error("cannot make a file in memory"));
        }
        let fixed = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
        let code = libc::mmap(CODE as usize as *mut _, length, libc::PROT_READ | libc::PROT_EXEC, fixed, file, 0);
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let writable = libc::mmap(std::ptr::null_mut(), length, both, libc::MAP_SHARED, file, 0);
        if code.addr() != CODE as usize || writable == libc::MAP_FAILED {
            return Err(last_error("cannot map the code pages"));
        }
        Ok(writable.cast())
    }
}

/// # Safety
/// The pages are this module's own mappings.
unsafe fn protect(at: u32, length: u32, protection: i32) -> Result<(), Unusable> {
    // SAFETY: as the caller promises.
    if unsafe { libc::mprotect(at as usize as *mut _, length as usize, protection) } == 0 {
        Ok(())
    } else {
        Err(last_error(&format!("cannot protect {at:#x}")))
    }
}

/// Vendor and signature of the host's processor.
#[must_use]
pub fn processor() -> String {
    let id = std::arch::x86_64::__cpuid(0);
    let vendor: Vec<u8> = [id.ebx, id.edx, id.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
    let signature = std::arch::x86_64::__cpuid(1).eax;
    format!("{} {signature:08x}", String::from_utf8_lossy(&vendor))
}

const _: () = assert!(USER_CS == 0x23, "selectors of 64-bit Linux");
