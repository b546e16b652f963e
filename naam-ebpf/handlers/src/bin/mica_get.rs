//! Handler object `mica_get`: see [`naam_handlers::mica`].
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use naam_handlers::mica;

naam_handler::handler! {
    name = mica_get, view = View1k, writes = false, reply_max = mica::GET_REPLY_MAX, state_len = mica::GET_STATE_LEN, step = mica::get
}
