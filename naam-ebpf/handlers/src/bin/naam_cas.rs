//! Handler object `naam_cas`: see [`naam_handlers::onesided`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::onesided;

naam_handler::handler! {
    name = naam_cas, view = View64, writes = true, reply_max = onesided::CAS_REPLY_MAX, state_len = 8, step = onesided::cas
}
