//! How long tests go on that could go on for ever.

/// Whether there is all the time in the world: `cargo xtask test --soak`.
pub fn is_soak() -> bool {
    std::env::var_os("NAAM_SOAK").is_some()
}

/// How many rounds: `soak` if there is time, otherwise `usual`; fewer by the factor NAAM_SLOWER on machines that are slower
/// by that.
pub fn rounds(usual: u32, soak: u32) -> u32 {
    let slower = std::env::var("NAAM_SLOWER").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    (if is_soak() { soak } else { usual }).div_ceil(slower)
}
