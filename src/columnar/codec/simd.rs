//! The one place that chooses instructions at run time.
//!
//! Binaries are built for plain x86-64; loops given to [`widest`] are compiled a second time for
//! AVX2 and BMI2, which nearly every server has. No intrinsics: the compiler vectorises.

/// Runs `work` compiled for the best instructions this processor has. `work` should be a loop
/// whose callees are `#[inline(always)]`.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2") {
        #[expect(unsafe_code, reason = "decodes 1.2 times as fast: benches/block.rs")]
        // SAFETY: both features were just detected.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
