//! Which code has run, as counted by what the compiler adds to programs that are built for it.
//!
//! With `-C passes=sancov-module` and inline 8-bit counters (LLVM's SanitizerCoverage) every edge of every function has a
//! counter, and each module hands the range of all of them to one function when the program starts. Such a build sets
//! `cfg(counts_coverage)`; in any other there are no counters.

use std::sync::atomic::AtomicU8;

#[cfg(counts_coverage)]
mod range {
    use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

    static START: AtomicPtr<AtomicU8> = AtomicPtr::new(std::ptr::null_mut());
    static LENGTH: AtomicUsize = AtomicUsize::new(0);

    /// Called by each counted module before `main`, always with the same range: the linker puts all counters into one.
    #[unsafe(no_mangle)]
    extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut AtomicU8, stop: *mut AtomicU8) {
        START.store(start, Ordering::Relaxed);
        LENGTH.store(stop.addr() - start.addr(), Ordering::Relaxed);
    }

    pub(super) fn counters() -> &'static [AtomicU8] {
        let start = START.load(Ordering::Relaxed);
        if start.is_null() {
            return &[];
        }
        // SAFETY: start and length are those of a section of this program's writable data, which lives as long as the
        // program and is not null here. `AtomicU8` has the layout of a byte, and nobody holds a reference to these
        // bytes as anything else: the compiler's own increments are plain stores to them.
        unsafe { std::slice::from_raw_parts(start, LENGTH.load(Ordering::Relaxed)) }
    }
}

/// How often each edge has run since its counter was set to 0, modulo 256; none in programs that do not count.
pub fn counters() -> &'static [AtomicU8] {
    #[cfg(counts_coverage)]
    return range::counters();
    #[cfg(not(counts_coverage))]
    &[]
}
