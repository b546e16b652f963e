//! Handler object `mica_cas`: see [`naam_handlers::mica`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::mica;

naam_handler::handler! {
    name = mica_cas, view = View1k, writes = true, reply_max = mica::WRITE_REPLY_MAX, state_len = mica::WRITE_STATE_LEN, step = mica::cas
}
