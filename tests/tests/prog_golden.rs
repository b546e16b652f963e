//! Golden packets: requests and replies written out by their offsets, decoded by the product and
//! answered by the shell, byte for byte. The files say what each byte means.

use std::path::Path;

use naam_abi::wire::{self, Kind};
use naam_tests::bench::{Bench, port, region};
use naam_tests::frame::Network;

/// A golden file's bytes.
fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bytes = text.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

#[test]
fn requests_are_answered_as_written() {
    for bench in Bench::variants() {
        bench.app(3);
        let memory = region(2 << 20, 1);
        let words = memory.mmap().expect("mmap");
        bench.load_built(3, "echo", &[]);
        let counter = naam_admission::admit(&naam_tests::objects::read("counter")).expect("our own handler");
        bench.load((3, 17, 1), &counter, &[&memory]).unwrap_or_else(|error| panic!("{error}"));
        words.store(64, 37, std::sync::atomic::Ordering::SeqCst).expect("inside");
        for (request, reply) in [
            ("echo.request", "echo.reply"),
            ("counter.request", "counter.reply"),
            ("counter.request", "counter.again"),
            ("version.request", "version.reply"),
            ("fates.request", "fates.reply"),
        ] {
            for v6 in [false, true] {
                // A second time, over IPv6, finds the counter's slots in use.
                if v6 && (request == "fates.request" || reply == "counter.reply") {
                    continue;
                }
                let network = Network { v6, ..Network::v4(port(3, 5)) };
                let output = bench.send(&network.frame(&golden(request)));
                let what = format!("{}, {reply}, v6 {v6}", bench.name());
                assert_eq!(output.retval, bench.transmitted(), "{what}");
                assert_eq!(output.data[network.header_len()..], golden(reply), "{what}");
            }
        }
        assert_eq!(words.load(64, std::sync::atomic::Ordering::SeqCst), Ok(42), "{}", bench.name());
    }
}

#[test]
fn the_product_reads_and_writes_the_same_bytes() {
    let names = ["echo.request", "echo.reply", "counter.request", "counter.reply", "counter.again"];
    for name in names.into_iter().chain(["version.request", "version.reply", "fates.request", "fates.reply"]) {
        let bytes = golden(name);
        assert_eq!(wire::tag(naam_abi::siphash::PUBLIC_KEY, &bytes).to_le_bytes(), bytes[40..48], "{name}: tag");
        let (header, messages) = wire::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut written = vec![0; bytes.len()];
        header.encode(&mut written);
        let mut at = wire::HEADER_BYTES;
        for message in messages {
            let (message, room) = message.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            message.encode(&mut written[at..]);
            at += wire::MESSAGE_BYTES;
            written[at..at + room.len()].copy_from_slice(room);
            at += room.len();
        }
        assert_eq!(written, bytes, "{name}");
    }
    let bytes = golden("counter.again");
    let (header, mut messages) = wire::parse(&bytes).expect("a reply");
    assert_eq!((header.kind, header.app, header.function, header.handler, header.shard), (Kind::Reply, 3, 17, 1, 5));
    assert_eq!((header.session, header.nonce), (0x407, 0x1122_3344_5566_7788));
    let (message, _) = messages.next().expect("a message").expect("well formed");
    assert_eq!((message.sequence, message.slot, message.flags, message.reply_len), (0xffff_fffe, 9, 5, 8));
}
