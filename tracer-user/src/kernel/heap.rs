//! The heap of this process: what it needs only for a moment must not stay with it.

/// Threads that read much would each get a heap of their own, the rest of which cannot be given back: one for all from now on.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) has no preconditions.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// After something big: the kernel's types, parsed, are 10 MB that glibc would keep for a program that never needs so much again.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no preconditions; it gives unused memory back to the kernel.
    unsafe {
        libc::malloc_trim(0);
    }
}
