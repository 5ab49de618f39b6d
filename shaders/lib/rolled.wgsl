// The end of a loop of `count` steps. Software adapters do not learn that it is a constant, and so
// do not unroll the loop: compiling that takes longer than all runs of it. `never_zero` is a
// number that only the host knows.
fn rolled(count: u32, never_zero: u32) -> u32 {
//# if software
    return select(count, 0u, never_zero == 0u);
//# else
    return count;
//# endif
}
