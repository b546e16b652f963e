//! Handler object `echo`: see [`naam_handlers::echo`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

naam_handler::handler! {
    name = echo, view = View64, writes = false, reply_max = naam_handlers::echo::REPLY_MAX, state_len = 0, step = naam_handlers::echo::step
}
