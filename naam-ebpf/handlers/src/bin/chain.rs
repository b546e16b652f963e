//! Handler object `chain`: see [`naam_handlers::chain`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

naam_handler::handler! {
    name = chain, view = View64, writes = false, reply_max = naam_handlers::chain::REPLY_MAX, state_len = 8, step = naam_handlers::chain::step
}
