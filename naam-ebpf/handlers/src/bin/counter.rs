//! Handler object `counter`: see [`naam_handlers::counter`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

naam_handler::handler! {
    name = counter, view = View64, writes = true, reply_max = naam_handlers::counter::REPLY_MAX, state_len = 8, step = naam_handlers::counter::step
}
