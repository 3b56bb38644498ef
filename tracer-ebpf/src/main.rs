//! why502's kernel programs.
//!
//! They remember each TCP connection that a traced process opens, and tell user space about those that did not end
//! plainly well; about nginx's complaints and error pages; and about traced processes coming and going. A healthy
//! connection leaves only counts in a map. One file per probe family in `probe/`; everything else serves them.
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand a program its context by value")]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a value instead of a reference would be copied to the stack"
)]

mod emit;
mod maps;
mod owner;
mod probe;
mod read;
mod settings;

/// GPL-compatible, as helpers like `bpf_probe_read_kernel` demand.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can get here: no program has a reachable panic.
    loop {}
}
