//! Data files, good and bad, and a store filled from one and read back.

use std::io::{BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use naam_loadgen::data::{Counts, DataError, DataReader, FileSource, LineFault, Policy, Separator};
use naam_loadgen::mock::{Mock, Store};
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::runner::{RunConfig, run};
use naam_loadgen::source::SweepSource;
use naam_loadgen::workload::OpKind;
use proptest::prelude::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>, u64)>;

/// Reads with a small buffer, so that pieces end anywhere.
fn read(name: &str, text: &[u8], policy: Policy) -> Result<(Pairs, Counts), DataError> {
    let input = BufReader::with_capacity(7, text);
    let mut reader = DataReader::new(input, Path::new(name), text.len() as u64, policy)?;
    let mut pairs = Vec::new();
    while let Some(pair) = reader.next_pair()? {
        pairs.push((pair.key.to_vec(), pair.value.to_vec(), pair.line));
    }
    Ok((pairs, reader.counts().clone()))
}

fn pairs(name: &str, text: &[u8]) -> Vec<(String, String)> {
    let (pairs, counts) = read(name, text, Policy::Strict).expect("the text is good");
    assert_eq!(counts.pairs, pairs.len() as u64);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the text is UTF-8");
    pairs.into_iter().map(|(key, value, _)| (text(key), text(value))).collect()
}

fn expect(actual: Vec<(String, String)>, expected: &[(&str, &str)]) {
    let actual: Vec<(&str, &str)> = actual.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(actual, expected);
}

fn faults(name: &str, text: &[u8]) -> Vec<(u64, LineFault)> {
    let (_, counts) = read(name, text, Policy::Skip).expect("faulty lines are skipped");
    assert_eq!(counts.faulty(), counts.first_faults.len() as u64);
    counts.first_faults
}

#[test]
fn tabs_part_and_nothing_is_quoted() {
    expect(pairs("x.tsv", b"a\t1\r\nb\t\"2,\n\nc\t\nd\t4"), &[("a", "1"), ("b", "\"2,"), ("c", ""), ("d", "4")]);
    expect(pairs("x.tsv", b"a\t1\r2\n"), &[("a", "1\r2")]);
}

#[test]
fn commas_part_and_fields_may_be_quoted() {
    let text = b"a,1\r\n\"b,b\",\"say \"\"hi\"\"\"\n\nc,\"two\nlines\r\nthree\"\r\nd,\n5\" disk,x\ne,\"\"";
    expect(
        pairs("x.csv", text),
        &[("a", "1"), ("b,b", "say \"hi\""), ("c", "two\nlines\r\nthree"), ("d", ""), ("5\" disk", "x"), ("e", "")],
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_key() {
    for (name, text) in [("x.tsv", "\u{feff}a\t1\n\u{feff}b\t2\n"), ("x.csv", "\u{feff}a,1\n\u{feff}b,2\n")] {
        let input = BufReader::new(text.as_bytes());
        let mut reader = DataReader::new(input, Path::new(name), 0, Policy::Strict).expect("memory can be read");
        assert_eq!(reader.next_pair().expect("good").map(|pair| pair.key.to_vec()), Some(b"a".to_vec()), "{name}");
        // Later on it is data.
        let second = reader.next_pair().expect("good").map(|pair| pair.key.to_vec());
        assert_eq!(second, Some("\u{feff}b".as_bytes().to_vec()), "{name}");
    }
}

#[test]
fn the_separator_is_told_by_extension_then_by_content() {
    let of = |name: &str, text: &[u8]| Separator::of(Path::new(name), text);
    assert_eq!(of("x.TSV", b"a,b\nc,d\n"), Separator::Tab);
    assert_eq!(of("x.csv", b"a\tb\n"), Separator::Comma);
    assert_eq!(of("x.txt", b"a,b\nc,d\n"), Separator::Comma);
    assert_eq!(of("x", b"a\tb, and c\nd\te\n"), Separator::Tab);
    assert_eq!(of("x", b""), Separator::Tab);
}

#[test]
fn every_fault_is_named_with_its_line() {
    let long_key = "k".repeat(65);
    let long_value = "v".repeat(1_001);
    let endless = "e".repeat(100_000);
    for (name, separator) in [("x.tsv", '\t'), ("x.csv", ',')] {
        let s = separator;
        let text = format!(
            "a{s}1\n{s}2\n{long_key}{s}3\nd{s}{long_value}\nnothing\nf{s}6{s}7\n{endless}{s}8\nh{s}{endless}\n\ni{s}9\n{long_key}\nj{s}{s}\n"
        );
        let expected = [
            (2, LineFault::KeyEmpty),
            (3, LineFault::KeyTooLong),
            (4, LineFault::ValueTooLong),
            (5, LineFault::NoValue),
            (6, LineFault::TooManyFields),
            (7, LineFault::KeyTooLong),
            (8, LineFault::ValueTooLong),
            (11, LineFault::KeyTooLong),
            (12, LineFault::TooManyFields),
        ];
        assert_eq!(faults(name, text.as_bytes()), expected, "{name}");
        let (pairs, counts) = read(name, text.as_bytes(), Policy::Skip).expect("faulty lines are skipped");
        assert_eq!(pairs, [(b"a".to_vec(), b"1".to_vec(), 1), (b"i".to_vec(), b"9".to_vec(), 10)], "{name}");
        assert_eq!((counts.blank, counts.faults[LineFault::KeyTooLong as usize]), (1, 3), "{name}");
        let strict = read(name, text.as_bytes(), Policy::Strict).expect_err("line 2 is faulty");
        assert_eq!(
            strict.to_string(),
            format!("data file {name}, line 2: the key is empty; mend it, or skip such lines (--skip-faulty)")
        );
    }
    assert_eq!(faults("x.csv", b"a,1\nb,\"2\nc,3\n"), [(2, LineFault::QuoteOpen)]);
    assert_eq!(faults("x.csv", b"a,1\rb,2\nc,3\n"), [(1, LineFault::BareReturn)]);
}

#[test]
fn the_largest_pair_fits_however_it_is_written() {
    let (key, value) = ("\"".repeat(64), "\"".repeat(1_000));
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let csv = format!("{},{}\r\n", quoted(&key), quoted(&value));
    expect(pairs("x.csv", csv.as_bytes()), &[(&key, &value)]);
    let tsv = format!("{key}\t{value}\r\n");
    expect(pairs("x.tsv", tsv.as_bytes()), &[(&key, &value)]);
}

/// A quote that is never closed costs the lines it swallows, no more than a record can hold, not the whole file.
#[test]
fn an_open_quote_is_given_up() {
    let mut text = String::from("a,\"open\n");
    (0..10_000).for_each(|i| text.push_str(&format!("key{i},value{i}\n")));
    let (pairs, counts) = read("x.csv", text.as_bytes(), Policy::Skip).expect("faulty lines are skipped");
    assert_eq!(counts.first_faults, [(1, LineFault::ValueTooLong)]);
    assert!(pairs.len() > 9_900, "{} pairs left", pairs.len());
}

proptest! {
    #[test]
    fn junk_never_panics_and_every_pair_is_in_bounds(text: Vec<u8>, comma: bool) {
        let name = if comma { "x.csv" } else { "x.tsv" };
        let (pairs, counts) = read(name, &text, Policy::Skip).expect("memory can be read");
        prop_assert_eq!(counts.pairs as usize, pairs.len());
        for (key, value, line) in pairs {
            prop_assert!((1..=64).contains(&key.len()) && value.len() <= 1_000 && line >= 1);
        }
    }

    #[test]
    fn structured_junk_never_panics(text in "[ab\t,\"\r\n]{0,300}", comma: bool) {
        let name = if comma { "x.csv" } else { "x.tsv" };
        let read = read(name, text.as_bytes(), Policy::Skip);
        prop_assert!(read.is_ok());
    }

    #[test]
    fn quoted_pairs_come_back(written in prop::collection::vec(("[a\",\n\r\t]{1,20}", "[b\",\n\r\t]{0,50}"), 0..20)) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let text: String = written.iter().map(|(key, value)| format!("{},{}\n", quoted(key), quoted(value))).collect();
        prop_assert_eq!(pairs("x.csv", text.as_bytes()), written);
    }
}

#[test]
fn a_file_is_loaded_and_every_value_read_back() {
    let mut file = tempfile::Builder::new().suffix(".tsv").tempfile().expect("a temporary file");
    for i in 0..5_000 {
        // 1,000 keys come twice; the last value counts.
        writeln!(file, "key {}\tvalue {i}", i % 4_000).expect("a temporary file can be written");
    }
    writeln!(file, "\tno key").expect("a temporary file can be written");
    file.flush().expect("a temporary file can be written");
    let open = || DataReader::open(file.path(), Policy::Skip).expect("the file is there");

    let seen = Arc::new(AtomicU64::new(0));
    let (shown, size) = (seen.clone(), file.as_file().metadata().expect("the file is there").len());
    let reader = open().with_progress(Box::new(move |bytes, total| {
        assert_eq!(total, size);
        shown.store(bytes, Ordering::Relaxed);
    }));
    let (table, counts) = reader.into_table().expect("faulty lines are skipped");
    assert_eq!(seen.load(Ordering::Relaxed), size);
    assert_eq!((counts.pairs, counts.faulty(), table.len(), table.duplicates()), (5_000, 1, 4_000, 1_000));

    let table = Arc::new(table);
    let store = Store::default();
    let mock = || Mock::new(store.clone(), Duration::from_micros(100));
    let outcome = Mutex::new(None);
    let load = run(
        &RunConfig::default(),
        |_| {
            let source = FileSource::new(open(), table.clone());
            *outcome.lock().expect("no thread panicked") = Some(source.outcome());
            Ok((source, mock()))
        },
        &mut |_| true,
    );
    let load = load.expect("the mock does not break down");
    assert_eq!((load.stats.kind(OpKind::Insert).ok(), load.stats.failed()), (4_000, 0));
    let outcome = outcome.into_inner().expect("no thread panicked").expect("the source was made");
    assert!(outcome.lock().expect("no thread panicked").is_none());
    assert_eq!(store.lock().expect("no thread panicked").get(&b"key 7"[..]), Some(&b"value 4007".to_vec()));

    let records = Records::Table(table, ValueSize::Constant(100));
    let check = || {
        let config = RunConfig { threads: 2, ..RunConfig::default() };
        let build = |thread| Ok((SweepSource::read_back(records.clone(), 4_000, thread, 2), mock()));
        run(&config, build, &mut |_| true).expect("the mock does not break down").stats
    };
    let stats = check();
    assert_eq!((stats.ok(), stats.failed()), (4_000, 0));
    store.lock().expect("no thread panicked").insert(b"key 7".to_vec(), b"value 7".to_vec());
    let stats = check();
    assert_eq!((stats.ok(), stats.failed()), (3_999, 1), "the older value of a repeated key is wrong");
}
